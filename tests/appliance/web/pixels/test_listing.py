"""The order of images, and which planes they may be shown in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.results.resample import Slice
from appliance.web.pixels.asked import Place
from appliance.web.pixels.listing import MOST_VOLUME_BYTES, Frame, no_planes, ordered
from rigs import bodies


def frames(slices: list[Slice]) -> list[Frame]:
    return [
        Frame(
            f"1.2.{n}",
            0,
            Place(
                rows=one.shape[0],
                columns=one.shape[1],
                number=n,
                position=one.geometry.position_lps_mm,
                row=one.geometry.row_lps,
                column=one.geometry.column_lps,
                spacing=one.geometry.spacing_mm,
            ),
        )
        for n, one in enumerate(slices)
    ]


def changed(frame: Frame, **more: object) -> Frame:
    assert frame.place is not None
    return replace(frame, place=frame.place.model_copy(update=more))


@pytest.mark.parametrize("pose", ["axial", "feet first", "prone", "flipped", "anisotropic"])
def test_images_that_lie_straight_have_three_planes(pose: str) -> None:
    assert no_planes(frames(bodies.posed(pose))) is None


@pytest.mark.parametrize(
    ("pose", "why"),
    [("sheared", "tilted"), ("tilted", "oblique"), ("oblique", "oblique"), ("coronal", "oblique")],
)
def test_images_that_do_not_say_why_they_have_no_other_planes(pose: str, why: str) -> None:
    assert no_planes(frames(bodies.posed(pose))) == why


def test_images_that_are_no_stack_say_why() -> None:
    made = frames(bodies.slices())
    assert no_planes(made[:2]) == "few"
    assert no_planes([*made[:-1], changed(made[-1], rows=7)]) == "sizes"
    assert no_planes([*made[:-1], changed(made[-1], spacing=(0.9, 0.7))]) == "sizes"
    assert no_planes([*made[:-1], Frame("1.2.9", 0, None, "broken")]) == "unread"
    turned = changed(made[-1], row=(0.0, 1.0, 0.0), column=(-1.0, 0.0, 0.0))
    assert no_planes([*made[:-1], turned]) == "directions"
    upright = Frame("1.2.9", 0, Place(rows=9, columns=9, to_stored=((1, 0, 0),) * 3))
    assert no_planes([upright]) == "radiograph"


def test_a_series_that_a_browser_cannot_hold_has_axial_images_only() -> None:
    side = int((MOST_VOLUME_BYTES / 2 / 3) ** 0.5) + 1
    made = [changed(one, rows=side, columns=side) for one in frames(bodies.slices())[:3]]
    assert no_planes(made) == "large"
    assert no_planes([changed(one, rows=side - 2, columns=side - 2) for one in made]) is None


def test_images_are_in_the_order_of_their_report() -> None:
    made = frames(bodies.slices())
    names = [made[n].name for n in (3, 1, 2)] + ["9.9.9/0"]
    assert [one.uid for one in ordered(made, names)] == ["1.2.3", "1.2.1", "1.2.2"]
    assert [one.uid for one in ordered(made, ["1.2.2", "1.2.0"])] == ["1.2.2", "1.2.0"]


def test_images_without_a_report_are_in_the_order_of_their_places_feet_first() -> None:
    for pose in ("axial", "flipped", "feet first", "oblique"):
        made = frames(bodies.posed(pose))
        lost = Frame("1.2.9", 0, None, "broken")
        found = ordered([lost, *reversed(made)], None)
        heights = [one.place.position[2] for one in found if one.place and one.place.position]
        assert heights == sorted(heights)
        assert found[-1] == lost
