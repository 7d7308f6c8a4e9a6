"""Whether what is said of one image is sure: class-conditional conformal prediction. Pure.

    score, threshold, bounds -> why it is unsure, () where it is sure

Rules.
1. The bounds say which scores each class has, but for a share `alpha` of it (quality/coverage.py).
   A score names a class where it lies within that class's bound: with the finding from `with_from`
   on, without it up to `without_to` (the prediction set of Vovk, Gammerman and Shafer, Algorithmic
   Learning in a Random World, 2005, section 4.5; Sadinle, Lei and Wasserman, J Am Stat Assoc
   2019;114:223-234).
2. An image is sure where its score names one class and that is the one that the threshold calls.
   It is unsure where it names both classes, or neither, or the other one.
3. So of the images of either class at most `alpha` are surely called the other, whatever share of
   the patients is ill. That holds for images that come like those of the fit. Another hospital,
   another machine or a change of either breaks it, and no figure of the images alone tells.
4. It changes what is said of an image, never whether it is said: threshold and score stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.reasons import Code
from appliance.report import ConformalBounds, Doubt, Reason

BOTH: Doubt = "images without it score as high too often"
SELDOM: Doubt = "images with it seldom score as low"


def doubts(score: float, bounds: ConformalBounds) -> tuple[Doubt, ...]:
    """Why a finding of this score, which reaches the threshold, is unsure; () where it is sure."""
    found: list[Doubt] = []
    if score <= bounds.without_to:
        found.append(BOTH)
    if score < bounds.with_from:
        found.append(SELDOM)
    return tuple(found)


def open_negatives(
    images: Sequence[tuple[str, float]], bounds: ConformalBounds
) -> tuple[Reason, ...]:
    """UNSURE_NEGATIVE of each image without a finding that is not surely without one.

    images: where each is (`image 3`), and its score, below the threshold."""
    found = []
    for where, score in images:
        whys = []
        if score >= bounds.with_from:
            whys.append("images with a finding score as low too often")
        if score > bounds.without_to:
            whys.append("images without one seldom score as high")
        if whys:
            text = f"{where}: no finding, but unsure: it scores {score:.4f}; {' and '.join(whys)}"
            found.append(Reason(code=Code.UNSURE_NEGATIVE, text=text, where=where))
    return tuple(found)
