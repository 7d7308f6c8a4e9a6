"""Bronchi are thin tubes that begin at the hilum and reach what they are sent to."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage

from rigs.two_lungs import two_lungs
from training.implant.disease.airways import lumen
from training.implant.disease.layers import Site


@pytest.mark.parametrize("slice_mm", [1.5, 6.0])
def test_bronchi_lead_from_the_hilum_to_the_diseased_part(slice_mm: float) -> None:
    host = two_lungs((slice_mm, 1.5, 1.5))
    lung = host.chest().lungs[0]
    here = Site(lung, host.hu[lung.part], lung.inside, host.spacing)
    ill = lung.inside & (lung.height < 0.4) & (lung.back > 0.6)
    air = lumen(np.random.default_rng(2), here, ill, 12)
    assert air.min() >= 0
    assert air.max() <= 1
    assert (air[ill] > 0.1).mean() > 0.005
    pieces, count = ndimage.label(air > 0.05, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    assert count == 1 or sizes.max() > 0.8 * sizes.sum(), "one tree"
    thick = air > 0.6
    inward = np.broadcast_to(lung.inward, thick.shape)
    assert inward[thick].mean() > inward[air > 0.05].mean()
