"""What the network of displacements is fed with in its golden case: our own phantom, twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.implant.pairs.fields import moved
from training.implant.pairs.pair import Chest, chest_of, drawn
from training.recipes.compare import bundle
from training.recipes.compare.lessons import GRID_MM
from training.recipes.compare.seen import seen
from training.ship.goldens import case

SEED = 31


def record(network: bytes, out: Path, host: Chest | None = None) -> dict[str, Any]:
    """Writes one recorded run to golden/; returns the entry for it. `host`: None, the phantom."""
    chest = chest_of("phantom-3", GRID_MM) if host is None else host
    view = seen(drawn(np.random.default_rng(SEED), chest, moved))
    images = {"prior": view.moving[None, None], "current": view.fixed[None, None]}
    return case("displace", bundle.network("0" * 64), network, images, out)
