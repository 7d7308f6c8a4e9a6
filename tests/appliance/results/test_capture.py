from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pydicom

from appliance.phantom import chest, instances
from appliance.phantom import radiograph as drawn
from appliance.reasons import Code
from appliance.records import HeatMap
from appliance.report import Reason, Report, Status
from appliance.results import capture
from appliance.results.capture import Picture
from appliance.results.source import source
from appliance.results.sr.case import Case
from appliance.series import radiograph
from rigs import bodies
from rigs.programs import program
from rigs.reports import NAMING

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
NAME = "Zyxwvut^Hidden"


def refused(make_report: Callable[..., Report], *texts: str) -> Case:
    reasons = tuple(Reason(code=Code.GANTRY_TILT, text=text) for text in texts)
    changes = {"findings": (), "status": Status.NOT_ANALYSED, "reasons": reasons}
    series = source(bodies.images(bodies.slices()[:2], PatientName=NAME))
    return Case(make_report().model_copy(update=changes), series, NAMING, AT)


def test_dciodvfy_finds_no_error_and_no_identity_is_said_to_be_burned_in(
    tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    validator = program("dciodvfy")
    made = capture.capture(refused(make_report, "The slices are tilted"))
    (tmp_path / "sc.dcm").write_bytes(made.data)
    command = [validator, str(tmp_path / "sc.dcm")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).splitlines()
    assert said
    assert not [line for line in said if line.startswith("Error")]
    image = pydicom.dcmread(io.BytesIO(made.data))
    assert image.BurnedInAnnotation == "NO"
    assert image.PatientName == NAME
    assert image.pixel_array.shape[2] == 3


def test_the_pixels_do_not_depend_on_who_the_patient_is(
    make_report: Callable[..., Report],
) -> None:
    case = refused(make_report, "The slices are tilted")
    other = source(bodies.images(bodies.slices()[:2], PatientName="A^B", PatientID="1"))
    same = Case(case.report, other, NAMING, AT)
    one, two = (
        pydicom.dcmread(io.BytesIO(capture.capture(c).data)) for c in (case, same)
    )  # fmt: skip
    assert one.PixelData == two.PixelData


def test_the_same_input_gives_the_same_bytes(make_report: Callable[..., Report]) -> None:
    case = refused(make_report, "The slices are tilted")
    assert capture.capture(case).data == capture.capture(case).data


def test_long_lines_wrap_and_lose_no_word_and_no_letter() -> None:
    text = " ".join(["a remedy in words"] * 40) + " " + "x" * 500
    lines = capture.wrapped(text, capture.SIZE)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    blank = capture.page((), "", [])
    for line in lines:
        row = capture.page((), "", [line]).astype(int) - blank
        assert not row[:, capture.WIDTH - capture.EDGE // 2 :].any()


def test_the_page_grows_with_its_text_and_the_last_line_is_on_it() -> None:
    short, long = (capture.page((), "NOT ANALYSED", ["a line"] * n) for n in (1, 60))
    assert len(long) > 2 * len(short)
    last = long[-capture.EDGE - 2 * capture.LINE :]
    assert (last != np.array(capture.PAPER, np.uint8)).any()
    assert (long[-capture.EDGE // 2 :] == np.array(capture.PAPER, np.uint8)).all()


def test_pictures_stand_side_by_side_and_keep_their_shape() -> None:
    white = np.full((40, 20, 3), 255, np.uint8)
    red = np.zeros((10, 10, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    found = capture.page([Picture(white, "", aspect=0.5), Picture(red, "")], "", [])
    for colour, right in (((255, 255, 255), False), ((255, 0, 0), True)):
        rows, columns = np.nonzero((found == np.array(colour, np.uint8)).all(axis=2))
        assert (columns.min() > capture.WIDTH // 2) == right
        assert np.ptp(rows) == np.ptp(columns)


def test_the_evidence_colours_the_radiograph_where_it_lies_and_nowhere_else() -> None:
    body = chest.chest(spacing_mm=(4.0, 2.0, 2.0))
    image = radiograph.read(instances.packed(drawn.instance(drawn.projected(body))))
    rows, columns = image.stored.shape
    cell = np.array([[rows / 8, 0, rows / 16], [0, columns / 8, columns / 16], [0, 0, 1]])
    values = np.full((8, 8), -1.0, np.float32)
    values[2, 6] = 4.0
    heat = HeatMap("heat-map-1", values, image.to_stored @ cell)
    plain, hot = capture.radiograph(image, heat, "Finding 1")
    coloured = (plain.pixels != hot.pixels).any(axis=2)
    y, x = np.argwhere(coloured).mean(axis=0) / (rows, columns)
    assert abs(y - 2.5 / 8) < 0.03
    assert abs(x - 6.5 / 8) < 0.03
    assert not coloured[: rows // 8].any()


def test_an_outline_lies_around_the_body_and_leaves_it_visible() -> None:
    body = np.zeros((40, 40), np.bool_)
    body[10:20, 12:18] = True
    found = capture.outlined(np.full((40, 40), -600, np.int16), body, "").pixels
    line = (found == np.array(capture.AMBER, np.uint8)).all(axis=2)
    assert not line[body].any()
    rows, columns = np.nonzero(line)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 21, 10, 19)
