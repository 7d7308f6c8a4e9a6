"""The viewer in real Chromium: marks on bodies whose places are known, touch, keys, and faults.

The images are those of `viewer.phantom`: an asymmetric body and a ball, light on grey. Where a body
is in the picture is found in the pixels of the picture, and where it ought to be is reckoned from
the attributes of the images; neither shares a line with the viewer.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from appliance.records import HeatMap
from appliance.report import Finding, SeriesKey
from rigs import oblique
from rigs.chromium import Chromium
from rigs.looked_at import LookedAt, served
from rigs.viewed import HEIGHT, ROOT, Bounds, Viewed, extent
from rigs.xray import Xray
from viewer import phantom
from viewer.phantom import Study

OpenPage = Callable[[str], AbstractContextManager[Viewed]]
NEAR = 1.0
"""In pixels of the image: how far a mark may be from the truth."""
SHADES = {"grey": 60, "body": 157, "white": 245}
"""Of the picture in the lung window: least of what is image, of a body, and of what is none."""
STRAIGHT = ["axial", "anisotropic", "flipped", "one side flipped"]


@pytest.fixture(scope="module")
def address(state: LookedAt) -> Callable[[str], str]:
    """Pose -> the address of a series in it, with two findings."""
    made: dict[str, str] = {}

    def of(pose: str) -> str:
        if pose not in made:
            made[pose] = put(state, phantom.study(pose, "page"))
        return made[pose]

    return of


def put(state: LookedAt, study: Study) -> str:
    masks = [replace(body, name=f"finding-{n}") for n, body in study.bodies.items()]
    images = sorted(study.images, key=lambda one: float(one.ImagePositionPatient[2]))
    return state.series(images, study.findings, masks)


def key_of(study: Study) -> SeriesKey:
    return SeriesKey(study.uid, str(study.images[0].SeriesInstanceUID))


# Where the marks are.


def largest_body(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels of the largest body, [rows, columns]."""
    grey = picture.max(axis=-1)
    shown = ((grey >= SHADES["body"]) & (grey < SHADES["white"])).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(shown)
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def all_places(images: tuple[Dataset, ...]) -> NDArray[np.float64]:
    """LPS of the corner pixels of all images, [n, 3]."""
    found = []
    for image in images:
        row, column = np.split(np.asarray(image.ImageOrientationPatient, np.float64), 2)
        between_rows, between_columns = image.PixelSpacing
        for i in (0, image.Rows - 1):
            for j in (0, image.Columns - 1):
                found.append(
                    np.asarray(image.ImagePositionPatient, np.float64)
                    + j * between_columns * row
                    + i * between_rows * column
                )
    return np.asarray(found)


def expected(study: Study, plane: str, image: int, shown: Bounds) -> tuple[Any, Any]:
    """Where the middle of the first body ought to be on the stage, and the size of a pixel there.
    shown: where the image is."""
    first = study.images[0]
    between_rows, between_columns = (float(v) for v in first.PixelSpacing)
    if plane == "axial":
        ordered = sorted(study.images, key=lambda one: float(one.ImagePositionPatient[2]))
        size = (shown.high - shown.low) / (first.Columns, first.Rows)
        number = int(ordered[image].InstanceNumber or 0)
        return shown.low + study.centre(1, number) * size, size
    places = all_places(study.images)
    low, high = places.min(axis=0), places.max(axis=0)
    across, steps = (0, between_columns) if plane == "coronal" else (1, between_rows)
    step = np.array([steps, oblique.POSES["axial"].step_mm])
    whole = np.array([high[across] - low[across], high[2] - low[2]]) + step
    x, z = study.middles[1][across], study.middles[1][2]
    part = np.array([x - low[across], high[2] - z]) + step / 2
    size = (shown.high - shown.low) * step / whole
    return shown.low + part / whole * (shown.high - shown.low), size


@pytest.mark.parametrize("pose", STRAIGHT)
def test_marks_lie_on_the_body_in_all_three_planes(
    open_page: OpenPage, address: Callable[[str], str], pose: str
) -> None:
    study = phantom.study(pose, "page")
    with open_page(address(pose)) as viewed:
        for plane in ("axial", "coronal", "sagittal"):
            if plane != "axial":
                viewed.plane(plane)
            image = viewed.shown()[2]
            picture = viewed.picture()
            shown = extent(picture.max(axis=-1) >= SHADES["grey"])
            body = extent(largest_body(picture))
            truth, pixel = expected(study, plane, image, shown)
            outline, box = viewed.mark(1, "outline"), viewed.mark(1, "box")
            assert outline is not None
            assert box is not None
            for found in (body, outline, box):
                np.testing.assert_array_less(np.abs(found.middle - truth) / pixel, NEAR, str(plane))
            for found in (outline.low - body.low, outline.high - body.high):
                np.testing.assert_array_less(np.abs(found) / pixel, NEAR + 0.5, str(plane))


@pytest.mark.parametrize(
    ("pose", "axial"),
    [("axial", "LRPA"), ("flipped", "RLAP"), ("one side flipped", "LRAP"), ("anisotropic", "LRPA")],
)
def test_letters_say_how_the_images_lie(
    open_page: OpenPage, address: Callable[[str], str], pose: str, axial: str
) -> None:
    with open_page(address(pose)) as viewed:
        assert viewed.letters() == list(axial)
        viewed.plane("coronal")
        assert viewed.letters() == ["L", "R", "F", "H"]
        viewed.plane("sagittal")
        assert viewed.letters() == ["P", "A", "F", "H"]


def test_letters_of_a_turned_body_name_two_directions(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("oblique")) as viewed:
        assert viewed.letters() == ["LP", "RA", "PR", "AL"]


@pytest.mark.parametrize(
    ("pose", "why"), [("gantry tilted", "gantry was tilted"), ("oblique", "oblique to the body")]
)
def test_a_series_that_lies_aslant_says_why_it_has_axial_images_alone(
    open_page: OpenPage, address: Callable[[str], str], pose: str, why: str
) -> None:
    with open_page(address(pose)) as viewed:
        assert why in viewed.words("note")
        button = f"{ROOT}.querySelector('[data-plane=coronal]')"
        assert viewed.value(f"{button}.getAttribute('aria-disabled')") == "true"
        viewed.page.click(button)
        assert why in viewed.words("message")
        assert viewed.shown()[0] == "axial"


def test_the_scale_is_as_long_as_it_says(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("anisotropic")) as viewed:
        shown = extent(viewed.picture().max(axis=-1) >= SHADES["grey"])
        per_mm = (shown.high - shown.low) / (128 * 1.1, 96 * 0.6)
        np.testing.assert_allclose(per_mm[0], per_mm[1], rtol=0.02)
        length = viewed.value(
            f"(() => {{ const e = {ROOT}.querySelector('.viewer-scale [data-mm]');"
            " return e.getBBox().width / e.dataset.mm; })()"
        )
        assert length == pytest.approx(per_mm[0], rel=0.02)


def test_the_notice_is_in_the_image(open_page: OpenPage, address: Callable[[str], str]) -> None:
    with open_page(address("axial")) as viewed:
        assert viewed.words("notice") == "Research use, not for clinical use"


# What a person does.


def test_one_finger_moves_through_the_images(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("axial")) as viewed:
        _, before, _ = viewed.shown()
        viewed.touch("touchStart", (300, 200))
        for y in range(210, 301, 10):
            viewed.touch("touchMove", (300, y))
        viewed.touch("touchEnd")
        moved = viewed.shown()[1] - before
        assert 2 <= moved <= 8
        viewed.touch("touchStart", (300, 300))
        for y in range(290, 199, -10):
            viewed.touch("touchMove", (300, y))
        viewed.touch("touchEnd")
        viewed.shows("axial", before)


def test_two_fingers_zoom_and_move_the_image_and_do_not_scroll(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("axial")) as viewed:
        before = viewed.shown()
        box = viewed.mark(1, "box")
        assert box is not None
        x, y = box.middle.tolist()
        viewed.touch("touchStart", (x - 40, y), (x + 40, y))
        for half in (50, 60, 70, 80):
            viewed.touch("touchMove", (x - half, y), (x + half, y))
        width = f"{ROOT}.querySelector('[data-finding=\"1\"] .box').getBBox().width"
        twice = 1.98 * (box.high - box.low)[0]
        for tremble in (0, 0.5) * 100:  # a browser may keep back the last move it got
            viewed.touch("touchMove", (x - 80 - tremble, y), (x + 80 + tremble, y))
            if viewed.value(f"{width} > {twice}"):
                break
            time.sleep(0.1)
        assert viewed.value(f"{width} > {twice}")
        zoomed = viewed.mark(1, "box")
        assert zoomed is not None
        np.testing.assert_allclose(zoomed.middle, box.middle, atol=3)
        for step in (10, 20, 30):
            viewed.touch("touchMove", (x - 80 + step, y + step), (x + 80 + step, y + step))
        viewed.lift((x + 110, y + 30), (x - 50, y + 30))
        viewed.touch("touchMove", (x - 50, y + 130))
        viewed.touch("touchEnd")
        viewed.page.until(f"{ROOT}.querySelector('[data-finding=\"1\"] .box').getBBox().x > "
                          f"{zoomed.low[0] + 25}")  # fmt: skip
        panned = viewed.mark(1, "box")
        assert panned is not None
        np.testing.assert_allclose(panned.middle - zoomed.middle, (30, 30), atol=3)
        assert viewed.shown() == before


def test_keys_alone_are_enough(open_page: OpenPage, address: Callable[[str], str]) -> None:
    with open_page(address("axial")) as viewed:
        viewed.key("Tab")
        assert viewed.value("document.activeElement.className") == "viewer-stage"
        assert viewed.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        for key, at in (
            ("Home", 0), ("ArrowDown", 1), ("ArrowRight", 2), ("PageDown", 12), ("ArrowUp", 11),
            ("ArrowLeft", 10), ("PageUp", 0), ("PageUp", 0), ("End", 23), ("ArrowDown", 23),
        ):  # fmt: skip
            viewed.key(key)
            viewed.shows("axial", at)
        viewed.key("n")
        viewed.page.until(f"{ROOT}.querySelector('.current')?.dataset.finding === '2'")
        viewed.key("p")
        viewed.page.until(f"{ROOT}.querySelector('.current')?.dataset.finding === '1'")
        for key, plane in (("c", "coronal"), ("s", "sagittal"), ("t", "axial")):
            viewed.key(key)
            viewed.page.until(f"{ROOT}.dataset.shown.startsWith('{plane} ')")


def test_shift_and_an_arrow_move_an_image_that_is_zoomed(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("axial")) as v:
        listen(v)
        width, height = v.corner_and_size()[2:]
        v.value(f"{ROOT}.querySelector('.viewer-stage').focus()")
        for _ in range(6):
            v.key("+")
        before = v.shown()
        for n in (1, 2):
            v.touch("touchStart", (width / 2, height / 2))
            v.touch("touchEnd")
            v.page.until(f"window.heard.length === {n}")
            v.page.ask("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", modifiers=8)
        left, right = (one["column"] for one in heard(v))
        assert right > left + 2
        assert v.shown() == before, "no other image"


def test_keys_set_the_window(open_page: OpenPage, address: Callable[[str], str]) -> None:
    shades = {1: 89, 2: 0, 3: 0, 4: 12}  # of -824 HU
    with open_page(address("axial")) as viewed:
        viewed.key("Tab")
        for number, shade in shades.items():
            viewed.key(str(number))
            pressed = f"{ROOT}.querySelector('[data-window=\"{number - 1}\"]')"
            viewed.page.until(f"{pressed}.getAttribute('aria-pressed') === 'true'")
            seen = viewed.picture()
            assert abs(int(seen[seen.shape[0] - 40, 20].max()) - shade) <= 1


def test_the_wheel_moves_by_an_image_a_notch(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("axial")) as viewed:
        _, before, _ = viewed.shown()
        x, y = viewed.corner()
        for notches in (1, 2, 3):
            viewed.page.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x + 200, y=y + 200,
                            deltaX=0, deltaY=100)  # fmt: skip
            viewed.shows("axial", before + notches)


def test_a_tap_tells_the_place_in_the_patient(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("flipped")) as viewed:
        viewed.value("document.addEventListener('viewer:place', e => { window.told = e.detail; })")
        for plane in ("axial", "coronal"):
            if plane != "axial":
                viewed.plane(plane)
            box = viewed.mark(1, "box")
            assert box is not None
            viewed.touch("touchStart", tuple(box.middle.tolist()))
            viewed.touch("touchEnd")
            told = viewed.page.until("window.told")
            assert told["plane"] == plane
            away = np.abs(np.subtract(told["lps"], phantom.study("flipped", "page").middles[1]))
            assert away.max() < 1.5  # a step is 2 mm from image to image
            viewed.value("window.told = null")


def test_a_button_of_the_page_jumps_to_a_finding(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("axial")) as viewed:
        viewed.value(
            "(() => { const e = document.createElement('button'); e.dataset.viewerFinding = '2';"
            f" e.dataset.viewerReport = '{address('axial').split('/')[-1]}';"
            " const between = document.createElement('div'); between.style.height = '2000px';"
            " document.body.append(between, e); e.scrollIntoView();"
            " window.before = window.scrollY; e.click(); })()"
        )
        viewed.page.until(f"{ROOT}.querySelector('.current')?.dataset.finding === '2'")
        assert "finding 2" in viewed.words("position")
        assert viewed.value("window.before") > HEIGHT
        _, top, _, height = viewed.corner_and_size()
        assert top >= 0
        assert top + height <= HEIGHT, "the whole image is on the screen of the bedside"
        assert height > 380


def test_every_control_is_large_enough_for_gloves_and_has_a_name(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("axial")) as viewed:
        found = viewed.value(
            f"[...{ROOT}.querySelectorAll('button, input, summary')].filter(e => e.offsetParent)"
            ".map(e => { const b = e.getBoundingClientRect(); return [b.width, b.height,"
            " e.labels?.[0]?.textContent.trim() || e.textContent.trim()]; })"
        )
        assert len(found) >= 15
        for width, height, name in found:
            assert min(width, height) >= 64
            assert name


def test_nothing_is_fetched_from_elsewhere_and_slices_come_as_they_are_needed(
    open_page: OpenPage, address: Callable[[str], str]
) -> None:
    with open_page(address("axial")) as viewed:
        viewed.page.until(
            "performance.getEntriesByType('resource').filter(e => e.name.includes('/image/'))"
            ".length >= 4"
        )
        names = viewed.value("performance.getEntriesByType('resource').map(e => e.name)")
        assert all(str(name).startswith(viewed.base) for name in names)
        assert sum("/image/" in name for name in names) < 24


def test_a_new_report_brings_its_findings_to_an_open_page(
    open_page: OpenPage, state: LookedAt
) -> None:
    study = phantom.study("axial", "revised")
    with open_page(put(state, study)) as viewed:
        before = viewed.shown()
        names = [f"{one.SOPInstanceUID}/0" for one in study.images]
        state.report(key_of(study), study.findings[1:], names=names, digest="c" * 64)
        viewed.value("document.dispatchEvent(new CustomEvent('scanside:fresh'))")
        viewed.page.until(f"{ROOT}.dataset.findings === '1'")
        assert viewed.shown() == before


# What is missing.


def test_a_series_that_is_deleted_with_the_page_open_says_so_and_keeps_what_it_has(
    open_page: OpenPage, state: LookedAt
) -> None:
    study = phantom.study("axial", "deleted")
    with open_page(put(state, study)) as viewed:
        _, at, _ = viewed.shown()
        assert state.spool.delete(key_of(study))
        viewed.key("Tab")
        viewed.key("Home")
        viewed.page.until(
            f"{ROOT}.querySelector('.viewer-message').textContent.includes('deleted')"
        )
        assert viewed.value(f"{ROOT}.dataset.shown") == ""
        for _ in range(at):
            viewed.key("ArrowDown")
        viewed.shows("axial", at)
        assert viewed.words("message") == ""
        assert viewed.mark(1, "outline") is not None


def test_an_image_that_cannot_be_decoded_says_so_and_the_others_are_shown(
    open_page: OpenPage, state: LookedAt
) -> None:
    study = phantom.study("axial", "hostile")
    study.images[0].PixelData = study.images[0].PixelData[:1000]
    with open_page(put(state, study)) as viewed:
        viewed.key("Tab")
        viewed.key("End")
        viewed.page.until(
            f"{ROOT}.querySelector('.viewer-message').textContent.includes('cannot be shown')"
        )
        viewed.key("ArrowUp")
        viewed.shows("axial", 22)
        viewed.key("c")
        viewed.page.until(
            f"{ROOT}.querySelector('.viewer-message').textContent.includes('1 image could not')"
        )


@pytest.mark.parametrize("broken", [4, 6])
def test_in_a_plane_one_image_that_cannot_be_decoded_takes_no_neighbour_with_it(
    open_page: OpenPage, state: LookedAt, broken: int
) -> None:
    study = phantom.study("axial", "hostile")
    study.images[broken].PixelData = study.images[broken].PixelData[:1000]
    with open_page(put(state, study)) as viewed:
        viewed.key("Tab")
        viewed.key("c")
        viewed.page.until(
            f"{ROOT}.querySelector('.viewer-message').textContent.includes('1 image could not')"
        )
        assert viewed.page.value(f"{ROOT}.dataset.missing") == "1"


def test_findings_that_cannot_be_fetched_are_never_taken_for_none(
    browser: Chromium, state: LookedAt, address: Callable[[str], str]
) -> None:
    with served(state.application(without="/masks")) as base:
        page = browser.page()
        page.go(f"{base}/view{address('axial')}")
        page.until(
            f"{ROOT}?.dataset.shown && {ROOT}.querySelector('.viewer-message').textContent"
            ".includes('none of them is marked')"
        )
        page.close()


# Radiographs.


def test_a_radiograph_has_its_heat_map_over_it_as_strong_as_is_asked(
    open_page: OpenPage, state: LookedAt
) -> None:
    image = Xray().image()
    values = np.zeros((6, 5), np.float32)
    values[4, 1] = 2
    to_stored = np.array([[16.0, 0, 7.5], [0, 16.0, 7.5], [0, 0, 1]])
    found = {"id": 1, "tracking_uid": "2.25.1", "kind": "pneumonia", "score": 0.9, "threshold": 0.4}
    finding = Finding.model_validate({**found, "key_image": 0, "heat_map": "map-1"})
    with open_page(
        state.series([image], [finding], maps=[HeatMap("map-1", values, to_stored)])
    ) as v:
        coloured = v.page.until(
            f"(() => {{ const c = {ROOT}.querySelector('.viewer-canvas'); const d ="
            " c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
            " for (let i = 0; i < d.length; i += 4) n += Math.abs(d[i] - d[i + 2]) > 20;"
            " return n; })()"
        )
        assert coloured > 100
        picture = v.picture()
        shown = extent(picture.max(axis=-1) >= 1)
        hot = extent(np.abs(picture[..., 0].astype(int) - picture[..., 2]) > 20)
        size = (shown.high - shown.low) / (80, 96)
        truth = shown.low + np.array([1.5 * 16, 4.5 * 16]) * size
        np.testing.assert_allclose(hot.middle, truth, atol=float(size.max()))
        assert not v.value(f"{ROOT}.querySelector('[data-window]').offsetParent")
        assert not v.value(f"{ROOT}.querySelector('.viewer-slider').offsetParent"), "of one image"
        v.value(
            f"(() => {{ const e = {ROOT}.querySelector('.viewer-opacity'); e.value = 0;"
            " e.dispatchEvent(new Event('input')); })()"
        )
        v.value("new Promise(requestAnimationFrame)")
        v.value("new Promise(requestAnimationFrame)")
        faded = v.picture()
        assert np.abs(faded[..., 0].astype(int) - faded[..., 2]).max() <= 2


def heard(v: Viewed) -> list[dict[str, Any]]:
    """What taps told so far."""
    found: list[dict[str, Any]] = v.value("window.heard")
    return found


def listen(v: Viewed) -> None:
    v.value(
        "window.heard = []; document.addEventListener('viewer:place',"
        " (e) => window.heard.push(e.detail))"
    )


@pytest.mark.parametrize(
    ("tags", "label"),
    [
        ({"ImagerPixelSpacing": [2.0, 2.0]}, "50 mm at the detector"),
        ({"ImagerPixelSpacing": [2.0, 2.0], "PixelSpacing": [1.8, 1.8]}, "50 mm"),
        ({"ImagerPixelSpacing": None}, None),
    ],
)
def test_a_radiograph_has_a_scale_where_the_image_says_it(
    open_page: OpenPage, state: LookedAt, tags: dict[str, Any], label: str | None
) -> None:
    image = Xray().image(**tags)
    image.SeriesInstanceUID = f"2.25.{uuid.uuid4().int}"
    with open_page(state.series([image])) as v:
        scales = f"[...{ROOT}.querySelectorAll('.viewer-scale text')].map(e => e.textContent)"
        assert v.value(scales) == ([] if label is None else [label])
        if label is None:
            return
        long = v.value(
            f"(() => {{ const b = {ROOT}.querySelector('.viewer-scale [data-mm]').getBBox();"
            " return b.width; })()"
        )
        shown = extent(v.picture().max(axis=-1) >= 1)
        per_pixel = (shown.high - shown.low)[0] / 80
        mm = float(label.split()[0])
        width = (tags.get("PixelSpacing") or tags["ImagerPixelSpacing"])[1]
        assert long == pytest.approx(mm / width * per_pixel, abs=2)


def test_a_radiograph_is_zoomed_and_moved_by_keys_and_by_one_finger(
    open_page: OpenPage, state: LookedAt
) -> None:
    image = Xray().image()
    image.SeriesInstanceUID = f"2.25.{uuid.uuid4().int}"
    with open_page(state.series([image])) as v:
        width, height = v.corner_and_size()[2:]
        middle = (width / 2, height / 2)
        listen(v)

        def at_the_middle() -> NDArray[np.float64]:
            """Pixel of the image that is there."""
            before = len(heard(v))
            v.touch("touchStart", middle)
            v.touch("touchEnd")
            v.page.until(f"window.heard.length > {before}")
            last = heard(v)[-1]
            assert last["lps"] is None
            return np.array([last["column"], last["row"]])

        start = at_the_middle()
        v.value(f"{ROOT}.querySelector('.viewer-stage').focus()")
        for _ in range(6):
            v.key("+")
        np.testing.assert_allclose(at_the_middle(), start, atol=1)
        v.key("ArrowRight")
        right = at_the_middle()
        assert right[0] > start[0] + 2
        v.key("ArrowDown")
        assert at_the_middle()[1] > start[1] + 2
        v.key("0")
        np.testing.assert_allclose(at_the_middle(), start, atol=1)
        for _ in range(6):
            v.key("=")
        v.touch("touchStart", middle)
        v.touch("touchMove", (middle[0] + 60, middle[1]))
        v.touch("touchEnd")
        assert at_the_middle()[0] < start[0] - 2, "the image followed the finger"


def test_a_tap_on_a_turned_radiograph_tells_the_pixel_as_it_was_sent(
    open_page: OpenPage, state: LookedAt
) -> None:
    image = Xray().image(PatientOrientation=["F", "R"], ImagerPixelSpacing=[2.0, 2.0])
    image.SeriesInstanceUID = f"2.25.{uuid.uuid4().int}"
    with open_page(state.series([image])) as v:
        listen(v)
        shown = extent(v.picture().max(axis=-1) >= 1)
        size = (shown.high - shown.low) / (96, 80)  # as it lies upright
        v.touch("touchStart", tuple(shown.low + (10.5, 20.5) * size))
        v.touch("touchEnd")
        v.page.until("window.heard.length > 0")
        (told,) = heard(v)
        assert told["scaled"]
        # rows as sent run to the feet, and columns to the right, which is to the left of the screen
        np.testing.assert_allclose(told["stored"], [20, 95 - 10], atol=0.6)


# Several results of one series.


RESULT = f"{ROOT}.querySelector('.viewer-result')"


def test_every_result_of_a_series_is_reached_and_an_old_one_says_so(
    open_page: OpenPage, state: LookedAt
) -> None:
    study = phantom.study("axial", "several results")
    images = sorted(study.images, key=lambda one: float(one.ImagePositionPatient[2]))
    names = [f"{one.SOPInstanceUID}/0" for one in images]
    masks = [replace(body, name=f"finding-{n}") for n, body in study.bodies.items()]
    first = state.series(images, study.findings, masks)
    old = first.rpartition("/")[2]
    key = key_of(study)
    state.report(key, study.findings[:1], masks[:1], names=names, digest="c" * 64, revision=2)
    with open_page(first) as v:
        v.page.until(f"{ROOT}.dataset.findings === '1'")
        assert "DOES NOT COUNT" not in v.words("position")
        told = v.value(f"[...{RESULT}.options].map(e => e.textContent)")
        assert told == [
            "lung-nodule 1.0.0, result 2.1",
            "lung-nodule 1.0.0, result 1.1, DOES NOT COUNT ANY MORE",
        ]
        box = v.value(f"{RESULT}.getBoundingClientRect().height")
        assert box >= 63.5
        v.value(f"{RESULT}.value = '{old}'; {RESULT}.dispatchEvent(new Event('change'))")
        v.page.until(f"{ROOT}.dataset.findings === '{len(study.findings)}'")
        v.page.until(
            f"{ROOT}.querySelector('.viewer-position').textContent.includes('DOES NOT COUNT')"
        )


def test_a_tap_on_a_finding_of_another_result_shows_that_result(
    open_page: OpenPage, state: LookedAt
) -> None:
    study = phantom.study("axial", "another result")
    images = sorted(study.images, key=lambda one: float(one.ImagePositionPatient[2]))
    names = [f"{one.SOPInstanceUID}/0" for one in images]
    masks = [replace(body, name=f"finding-{n}") for n, body in study.bodies.items()]
    first = state.series(images, study.findings, masks)
    other = first.rpartition("/")[2]
    state.report(key_of(study), (), (), names=names, digest="c" * 64, revision=2)
    with open_page(first) as v:
        v.page.until(f"{ROOT}.dataset.findings === '0'")
        v.value(
            f"{ROOT}.insertAdjacentHTML('afterend', '<button data-viewer-finding=\"2\""
            f' data-viewer-report="{other}">2</button>\')'
        )
        v.page.click("document.querySelector('[data-viewer-finding]')")
        v.page.until(f"{ROOT}.querySelector('.viewer-finding.current')?.dataset.finding === '2'")
        assert v.value(f"{RESULT}.value") == other
