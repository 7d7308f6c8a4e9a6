"""Outlines and heat maps, against bodies whose places are known."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.report import Finding
from appliance.results import resample
from appliance.results.resample import Slice
from appliance.web.pixels import marks
from appliance.web.pixels.asked import Place
from appliance.web.pixels.listing import Frame
from rigs import bodies

MIDDLE = (3.0, -4.0, 2.0)
EDGE_PX = 0.3
"""Of an outline from the edges of the pixels in it."""


def frames(slices: list[Slice]) -> list[Frame]:
    return [
        Frame(
            str(n),
            0,
            Place(
                rows=one.shape[0],
                columns=one.shape[1],
                position=one.geometry.position_lps_mm,
                row=one.geometry.row_lps,
                column=one.geometry.column_lps,
                spacing=one.geometry.spacing_mm,
            ),
        )
        for n, one in enumerate(slices)
    ]


def finding(**more: object) -> Finding:
    x, y, z = MIDDLE
    box = (x - 5, y - 5, z - 5, x + 5, y + 5, z + 5)
    said = {"id": 1, "tracking_uid": "2.25.1", "kind": "nodule", "score": 0.9, "threshold": 0.4}
    place = {"center_lps_mm": MIDDLE, "box_lps_mm": box, "key_image": 0}
    return Finding.model_validate({**said, **place, **more})


def area(polygon: tuple[tuple[float, float], ...]) -> float:
    x, y = np.asarray(polygon).T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


@pytest.mark.parametrize("pose", ["axial", "feet first", "flipped", "anisotropic", "oblique"])
def test_an_outline_runs_along_the_edges_of_the_pixels_of_a_body(pose: str) -> None:
    slices = bodies.posed(pose)
    body = bodies.lopsided(MIDDLE)
    (mark,) = marks.marks([finding()], {1: body}, frames(slices))
    patches = {patch.slice: patch for patch in resample.body(body, slices)}
    assert {one.image for one in mark.outlines} == set(patches)
    for outline in mark.outlines:
        patch = patches[outline.image]
        rows, columns = np.nonzero(patch.pixels)
        at = np.concatenate([np.asarray(one) for one in outline.polygons])
        low = np.array([columns.min() + patch.column, rows.min() + patch.row]) - 0.5
        high = np.array([columns.max() + patch.column, rows.max() + patch.row]) + 0.5
        np.testing.assert_allclose(at.min(axis=0), low, atol=EDGE_PX)
        np.testing.assert_allclose(at.max(axis=0), high, atol=EDGE_PX)
    largest = max(mark.outlines, key=lambda one: patches[one.image].pixels.sum())
    pixels = int(patches[largest.image].pixels.sum())
    assert area(max(largest.polygons, key=area)) == pytest.approx(pixels, rel=0.25)


def test_a_mark_names_the_image_that_is_nearest_to_its_centre() -> None:
    slices = bodies.slices(distance_mm=2.0)
    (mark,) = marks.marks([finding()], {}, frames(slices))
    heights = [abs(one.geometry.position_lps_mm[2] - MIDDLE[2]) for one in slices]
    assert mark.image == int(np.argmin(heights))
    assert mark.outlines == ()
    assert mark.center == MIDDLE


def test_a_body_beside_the_images_has_no_outline_but_its_box() -> None:
    far = bodies.sphere((900.0, 0.0, 0.0), 9.0)
    (mark,) = marks.marks([finding()], {1: far}, frames(bodies.slices()))
    assert mark.outlines == ()
    assert mark.box is not None
    (alone,) = marks.marks([finding()], {1: far}, frames(bodies.slices())[:1])
    assert alone.outlines == ()


def test_a_map_is_led_from_the_image_as_sent_to_the_upright_one() -> None:
    values = np.array([[4.0, -1.0], [1.0, 0.0], [2.0, 0.0]], np.float32)
    to_stored = np.array([[10.0, 0, 4.5], [0, 20.0, 9.5], [0, 0, 1]])
    turned = ((0.0, -1.0, 29.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    made = marks.heat(values, to_stored, turned)
    assert (made.rows, made.columns) == (3, 2)
    assert made.values == (1.0, 0.0, 0.25, 0.0, 0.5, 0.0)
    for row, column in ((0, 0), (2, 1)):
        there = np.asarray(made.to_image) @ (row, column, 1)
        sent = np.asarray(turned) @ there
        np.testing.assert_allclose(sent, to_stored @ (row, column, 1))
