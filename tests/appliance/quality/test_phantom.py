"""What is a water phantom and what is none, by its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from appliance.phantom import chest
from appliance.phantom.water import SHARP, Water
from appliance.preprocess import fast
from appliance.quality import phantom
from appliance.records import Plane
from appliance.series import pixels
from appliance.verbs import analyze
from rigs import phantoms


@pytest.mark.parametrize(
    "water",
    [
        Water(),
        Water(diameter_mm=160),
        Water(cupping_hu=40),
        Water(tilt_deg=6),
        Water(centre_mm=(15, -12)),
        Water(bubble_mm=35),
        Water(offset_hu=-40),
        Water(scale=1.1),
        Water(noise_hu=40),
        Water(response=((1.0, 1.2),)),
        Water(response=SHARP),
        Water(rim_mm=10),
    ],
    ids=str,
)
def test_a_phantom_is_one_whatever_is_wrong_with_it(water: Water) -> None:
    assert phantom.shows_water(phantoms.seen(water, slices=3))


@pytest.mark.parametrize("mm", [(0.6, 0.4, 0.4), (2.0, 0.7, 0.7), (5.0, 0.98, 0.98)])
def test_slices_and_pixels_of_any_size_show_it(mm: tuple[float, float, float]) -> None:
    planes = phantoms.seen(spacing_mm=mm, slices=2)
    assert phantom.shows_water(planes)
    found = phantom.disc(planes[0])
    assert found is not None
    assert found.diameter_mm == pytest.approx(200, abs=1.5)


def test_one_slice_is_enough_and_none_is_not() -> None:
    assert phantom.shows_water(phantoms.seen(slices=1))
    assert not phantom.shows_water([])


def test_the_order_of_arrival_changes_nothing_and_most_slices_must_show_it() -> None:
    half = phantoms.seen(Water(length_mm=48), slices=12)  # 10 of 12 lie in the phantom
    fewer = phantoms.seen(Water(length_mm=22), slices=12)
    random = np.random.default_rng(1)
    for planes, wanted in ((half, True), (fewer, False)):
        for _ in range(4):
            mixed = [planes[i] for i in random.permutation(len(planes))]
            assert phantom.shows_water(mixed) is wanted


def drawn(plane: Plane, change: Callable[[np.ndarray], None]) -> list[Plane]:
    """A phantom with something else in its pixels."""
    hu = plane.native.copy()
    change(hu)
    return [replace(plane, native=hu)]


def circle(hu: np.ndarray, radius: int, value: int, at: tuple[int, int] = (128, 128)) -> None:
    cv2.circle(hu, at, radius, value, -1)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a skull", lambda hu: (circle(hu, 102, 900), circle(hu, 95, 35))),
        ("fat or bone within", lambda hu: circle(hu, 45, 200)),
        ("inserts", lambda hu: [circle(hu, 18, v, a) for v, a in
                                ((-100, (90, 128)), (120, (166, 128)), (60, (128, 90)))]),
        ("lung", lambda hu: circle(hu, 90, -850)),
        ("other than water", lambda hu: circle(hu, 102, 300)),
        ("oval", lambda hu: (hu.fill(-1000), cv2.ellipse(hu, (128, 128), (110, 80), 0, 0, 360,
                                                        0, -1))),
        ("square", lambda hu: (hu.fill(-1000), cv2.rectangle(hu, (50, 50), (206, 206), 0, -1))),
        ("too small", lambda hu: (hu.fill(-1000), circle(hu, 45, 0))),
        ("cut by the image", lambda hu: (hu.fill(-1000), circle(hu, 100, 0, (60, 128)))),
        ("air", lambda hu: hu.fill(-1000)),
        ("all water", lambda hu: hu.fill(0)),
        ("padding", lambda hu: hu.fill(-2000)),
        ("junk", lambda hu: np.copyto(hu, np.random.default_rng(1).integers(
            -32768, 32767, hu.shape).astype(np.int16))),
    ],
)  # fmt: skip
def test_what_is_no_disc_of_water_is_none(what: str, change: Callable[[np.ndarray], None]) -> None:
    (plane,) = phantoms.seen(slices=1)
    assert phantom.shows_water([plane])
    assert not phantom.shows_water(drawn(plane, change)), what


def test_a_chest_is_none() -> None:
    from appliance.phantom import instances  # noqa: PLC0415

    body = chest.chest(spacing_mm=(10.0, 2.5, 2.5))
    made = instances.series(body, study_uid="1.2", series_uid="1.3")
    assert not any(
        phantom.disc(plane) for plane in phantoms.planes([instances.packed(d) for d in made])
    )


@pytest.mark.parametrize(
    "name",
    [
        "A0001", "A0002", "C3N-00247", "LIDC-IDRI-0003", "LIDC-IDRI-0004", "LIDC-IDRI-0005",
        "LIDC-IDRI-0021", "R01-001", "ge-tilted-head", "siemens-j2k",
    ],
)  # fmt: skip
def test_no_slice_of_a_shared_ct_is_taken_for_a_phantom(
    name: str, ct_series: Callable[[str], Path]
) -> None:
    seen = 0
    for series in analyze.find(ct_series(name)):
        for file in series.files:
            parsed = pixels.parse(series.read(file))
            for image in pixels.images(parsed):
                seen += 1
                assert phantom.disc(fast.plane(image, ())) is None, file.name
    assert seen >= 20
