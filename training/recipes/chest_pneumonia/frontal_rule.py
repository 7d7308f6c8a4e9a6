"""When a network of frontal views ships: written before any network that it judged was trained.

Rules. All at the threshold that ships, and each of them:
1. Of val, cross-fitted, LEAST_KEPT of the images with pneumonia are kept, and as many of the
   others: an average would hide that only ill ones are lost.
2. Of CTs left out, LEAST_REFUSED of each class of BY_CT are refused; so are blanks.
3. Every drawn chest (drawn_chests.py) lies MARGIN above the threshold, as a logit.
Oblique views and parts of a chest are no bar: the card says their figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from training.recipes.chest_pneumonia.drawn_chests import lowest

LEAST_KEPT = 0.985
LEAST_REFUSED = 0.90
BY_CT = ("lateral", "abdomen", "turned", "upside_down", "inverted")
MARGIN = 0.5


def falls_short(found: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a run's figures (frontal_figures.figures) keeps it from shipping; nothing if it
    ships."""
    val, left_out = found["val"], found["left_out"]
    wanted = [
        *((f"{n} of val", val[n], LEAST_KEPT) for n in ("kept_with_pneumonia", "kept_without_it")),
        *((f"{name} of CTs refused", left_out.get(name), LEAST_REFUSED) for name in BY_CT),
        ("blanks refused", val["blank"], LEAST_REFUSED),
    ]
    short = [
        f"{what} {one['share']:.4f} (at least {least:g})" if one else f"{what}: none was shown"
        for what, one, least in wanted
        if not one or one["share"] < least
    ]
    name, score = lowest(found["drawn"])
    far = _logit(score) - _logit(found["threshold"])
    if not far >= MARGIN:
        short.append(f"{name} lies {far:.2f} above the threshold as a logit (at least {MARGIN:g})")
    return tuple(short)


def _logit(share: float) -> float:
    return math.log(share / (1 - share)) if 0 < share < 1 else math.copysign(math.inf, share - 0.5)
