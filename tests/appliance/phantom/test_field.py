"""Fields that move a person: exact both ways, without a fold, and at most as far as they say."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.phantom import field as fields
from appliance.phantom.field import Field, Points


def places() -> Points:
    """A grid of 10 mm over all of the chest."""
    axes = [np.arange(-160, 161, 10.0), np.arange(-120, 121, 10.0), np.arange(-210, 116, 10.0)]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)


def breaths() -> list[Field]:
    return [fields.breath(np.random.default_rng(n), lift) for n in range(4) for lift in (-25, 25)]


def builds() -> list[Field]:
    return [fields.build(np.random.default_rng(n)) for n in range(12)]


@pytest.mark.parametrize("field", [*breaths(), *builds()])
def test_there_and_back_is_the_same_place(field: Field) -> None:
    points = places()
    assert np.abs(field.to_person(field.to_image(points)) - points).max() < 1e-3
    assert np.abs(field.to_image(field.to_person(points)) - points).max() < 1e-3


@pytest.mark.parametrize("field", [*breaths(), *builds()])
def test_nothing_folds(field: Field) -> None:
    points = places()
    for moved in (field.to_person, field.wall_to_person):
        rows = [moved(points + step) - moved(points - step) for step in np.eye(3) / 2]
        assert np.linalg.det(np.stack(rows, axis=1)).min() > 0.3


def test_the_domes_go_as_far_as_asked_and_the_apex_and_the_ribs_hardly() -> None:
    field = fields.breath(np.random.default_rng(0), 25.0)
    dome, apex, rib = np.array([[70.0, 40.0, -75.0], [50.0, 25.0, 88.0], [130.0, 0.0, -75.0]])
    lifted = dome - field.to_person(dome[None])[0]
    assert 18 < lifted[2] < 25 + 1.5
    assert np.abs(apex - field.to_person(apex[None])[0]).max() < 2.5
    assert np.abs(rib - field.wall_to_person(rib[None])[0]).max() < 7


def test_a_breath_out_presses_the_lung_together_as_its_derivative_says() -> None:
    still = Field((0.0,) * 9, lift_mm=20.0)
    points = places()
    rows = [
        still.to_person(points + step) - still.to_person(points - step) for step in np.eye(3) / 2
    ]
    assert still.pressed(points) == pytest.approx(np.linalg.det(np.stack(rows, axis=1)), abs=2e-3)
    assert still.pressed(np.array([[70.0, 20.0, 0.0]]))[0] > 1.1
    assert Field((0.0,) * 9, lift_mm=-20.0).pressed(np.array([[70.0, 20.0, 0.0]]))[0] < 0.9


def test_nobody_breathes_further_than_the_most() -> None:
    with pytest.raises(ValueError, match="at most 25 mm"):
        fields.breath(np.random.default_rng(0), -25.5)
