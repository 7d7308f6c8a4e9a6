"""Layers keep the host's noise, fill what they are meant to and eat into no wall."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from rigs.two_lungs import NOISE_HU, two_lungs
from training.implant.disease.layers import Layer, Site, mix


def site() -> Site:
    host = two_lungs()
    lung = host.chest().lungs[0]
    return Site(lung, host.hu[lung.part], lung.inside, host.spacing)


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_the_noise_stays_as_it_was(share: float) -> None:
    here = site()
    layer = Layer(np.full(here.hu.shape, share, np.float32), 30.0)
    out = mix(np.random.default_rng(1), here, [layer], NOISE_HU)
    lung = (here.lung.depth_mm > 4) & (here.hu < -700)
    assert out[lung].std() == pytest.approx(NOISE_HU, rel=0.15)
    assert out[lung].mean() == pytest.approx(-860 * (1 - share) + 30 * share, abs=5)


def test_what_other_disease_has_taken_stays() -> None:
    here = site()
    taken = here.lung.inside & (here.lung.depth_mm > 10)
    left = Site(here.lung, here.hu, here.lung.inside & ~taken, here.spacing)
    layer = Layer(np.ones(here.hu.shape, np.float32), 30.0)
    out = mix(np.random.default_rng(1), left, [layer], NOISE_HU)
    assert np.array_equal(out[taken], here.hu[taken])
    assert np.median(out[left.free]) > -50


def test_air_eats_into_no_wall_and_fluid_fills_up_to_it() -> None:
    here = site()
    wall = ~here.lung.inside
    air, fluid = (
        mix(
            np.random.default_rng(1),
            here,
            [Layer(np.ones(here.hu.shape, np.float32), level)],
            NOISE_HU,
        )
        for level in (-1000.0, 20.0)
    )
    assert np.array_equal(air[wall], here.hu[wall])
    assert fluid[here.lung.inside].min() > -100
