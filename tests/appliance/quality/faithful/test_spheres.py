"""Exact spheres: their volume, their place in whatever position images lie, their stored values."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest

from appliance.errors import SeriesRefused
from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.quality.faithful import spheres
from appliance.quality.faithful.spheres import Sphere
from appliance.series import pixels
from rigs import oblique


@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (3.0, 3.0, 3.0)])
@pytest.mark.parametrize("mm", spheres.DIAMETERS_MM)
def test_the_shares_of_all_boxes_are_the_volume(edges: tuple[float, ...], mm: float) -> None:
    index = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    away = index * edges + np.array([0.31, -0.17, 0.42])
    volume = spheres.share(away, edges, mm).sum() * np.prod(edges)
    assert volume == pytest.approx(np.pi / 6 * mm**3, rel=0.005)


def test_a_box_is_full_empty_or_half() -> None:
    away = np.array([[0.0, 0, 0], [20, 0, 0], [0, 0, 10]])
    shares = spheres.share(away, (0.1, 0.1, 0.1), 20.0)
    assert shares == pytest.approx([1, 0, 0.5], abs=0.01)


@pytest.mark.parametrize("name", [name for name in oblique.POSES if name != "gantry tilted"])
def test_they_lie_where_they_are_laid_in_every_position_of_the_images(name: str) -> None:
    pose = oblique.POSES[name]
    sphere = Sphere((33.3, -24.1, -109.2), 10.0)
    total, moment = 0.0, np.zeros(3)
    for image in oblique.series(pose):
        painted = spheres.painted(instances.packed(image), [sphere], pose.step_mm)
        one = pixels.read(painted)[0]
        held = one.hu - spheres.BACKGROUND_HU
        assert held.min() == pytest.approx(0, abs=0.5)
        rows, columns = np.indices(held.shape)
        place = (
            np.asarray(one.geometry.position_lps_mm)
            + rows[..., None] * np.asarray(one.geometry.column_lps) * one.geometry.spacing_mm[0]
            + columns[..., None] * np.asarray(one.geometry.row_lps) * one.geometry.spacing_mm[1]
        )
        total += float(held.sum())
        moment += (held[..., None] * place).sum(axis=(0, 1))
    assert moment / total == pytest.approx(np.array(sphere.center_lps_mm), abs=0.02)
    whole = total / (spheres.SPHERE_HU - spheres.BACKGROUND_HU)
    volume = whole * np.prod(pose.spacing_mm) * pose.step_mm
    assert volume == pytest.approx(np.pi / 6 * 1000, rel=0.01)


def image(**tags: object) -> bytes:
    made = next(
        instances.series(Phantom(np.zeros((2, 64, 64), np.int16), (2, 1, 1), (0, 0, 0), ()))
    )
    for name, value in tags.items():
        if value is None:
            del made[name]
        else:
            setattr(made, name, value)
    return instances.packed(made)


def test_stored_values_follow_the_rescale_of_the_image_and_padding_is_gone() -> None:
    at = Sphere((31.5, 31.5, 2.0), 10.0)
    given = image(RescaleSlope=2, RescaleIntercept=-2000, PixelPaddingValue=575)
    hu = pixels.read(spheres.painted(given, [at], 2.0))[0].hu
    assert (hu.min(), hu.max()) == (spheres.BACKGROUND_HU, spheres.SPHERE_HU)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"RescaleSlope": None}, "without RescaleSlope"),
        ({"NumberOfFrames": 2}, "several frames"),
        ({"BitsStored": 8, "HighBit": 7}, "cannot hold"),
    ],
)
def test_an_image_that_cannot_hold_them_is_named(tags: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        spheres.painted(image(**tags), [Sphere((0, 0, 0), 4.0)], 2.0)


def test_what_is_no_image_is_refused_without_a_crash() -> None:
    with pytest.raises((ValueError, SeriesRefused)):
        spheres.painted(b"\0" * 400, [], 2.0)


def test_the_rest_of_the_header_stays() -> None:
    given = image()
    before, after = (
        pydicom.dcmread(io.BytesIO(data)) for data in (given, spheres.painted(given, [], 2.0))
    )
    del before.PixelData, after.PixelData
    assert before == after


def test_a_box_that_is_too_small_has_none_and_one_that_is_not_has_all() -> None:
    assert spheres.laid((0, 0, 0), (60, 60, 60)) == ()
    laid = spheres.laid((-150, -100, -300), (150, 100, -100))
    assert [one.diameter_mm for one in laid] == [4.0, 6.0, 10.0] * 4
    at = np.array([one.center_lps_mm for one in laid])
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1) + 1000 * np.eye(12)
    assert apart.min() > spheres.APART_MM
    assert (at.min(axis=0) > [-138, -88, -288]).all()
