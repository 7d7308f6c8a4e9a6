"""The demo ends with everything that it began."""

from __future__ import annotations

import copy
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

import cv2
import pytest

from appliance.demo import drawn, show
from appliance.demo.scanner import SendSummary
from appliance.errors import PeerAway
from appliance.phantom import instances
from appliance.phantom.chest import chest
from appliance.reasons import Code
from appliance.report import (
    BackendRef,
    BundleRef,
    Reason,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
    Times,
)
from appliance.results.message import StudyEvent
from appliance.settings import Settings
from appliance.web.access import link
from rigs.reports import NAMING

REPOSITORY = Path(__file__).resolve().parents[3]
needs_broker = pytest.mark.skipif(
    not (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()),
    reason="no mosquitto: apt install mosquitto mosquitto-clients",
)


def of_folder(folder: Path) -> list[str]:
    """Command lines of all processes that name a file below the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/" in line:
            found.append(line)
    return found


@needs_broker
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(pytest.param(n, marks=pytest.mark.long) for n in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_ctrl_c_sigterm_or_a_closed_terminal_leaves_neither_processes_nor_files(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="demo-"))  # for its sockets: tmp_path may be too long
    with subprocess.Popen(
        [sys.executable, "-m", "appliance", "demo", "--out", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True,
        # as in a terminal: what was started in the background may have been told to ignore it
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 - one thread
    ) as demo:  # fmt: skip
        end = time.monotonic() + 120
        while len(of_folder(folder)) < 7:  # broker, parent and five stages
            assert time.monotonic() < end
            assert demo.poll() is None
            time.sleep(0.05)
        for _ in range(3):  # somebody is impatient
            demo.send_signal(number)
            time.sleep(0.2)
        assert demo.wait(60) != 0, "it did not do what it was asked for"
    assert not of_folder(folder)
    folder.rmdir()  # only an empty one goes


@pytest.mark.long
@needs_broker
def test_the_demo_of_a_radiograph_ends_with_a_finding_and_its_heat_map(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "demo", "--radiograph", "--once", "--out", tmp_path],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "The radiograph is drawn and shows no patient" in said
    assert re.search(r"http://127\.0\.0\.1:\d+/start#[\w-]{43}", said), "the link of the page"
    found = Report.model_validate_json((tmp_path / "report.json").read_text())
    assert [finding.kind for finding in found.findings] == ["pneumonia"]
    assert found.notice.startswith("demonstration")
    assert cv2.imread(str(tmp_path / "heat-map-1.png")) is not None
    assert not (tmp_path / "findings.png").exists()


def test_where_no_image_was_stored_it_does_not_wait_for_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.dcm").write_bytes(b"x")
    summary = SendSummary(0, (("1.2", 0xA700),), 0.1)
    monkeypatch.setattr("appliance.demo.scanner.send", lambda *_, **__: summary)
    with pytest.raises(PeerAway, match="none of the 1 images"):
        show.send([tmp_path / "a.dcm"], Settings(state=tmp_path))


def test_the_link_of_the_page_is_whole_in_a_narrow_terminal_and_opens_it_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show.console, "width", 40)
    settings = show._settings(tmp_path, 1883, 11112)
    assert settings.web.enabled
    assert not settings.web.names
    show._page(settings)
    printed = re.search(r"http://127\.0\.0\.1:(\d+)/start#(\S+)", capsys.readouterr().out)
    assert printed is not None
    assert int(printed[1]) == settings.web.port
    assert link.spend(settings.state, printed[2]) is not None


def test_no_implant_is_put_into_the_series_of_a_demo(tmp_path: Path) -> None:
    assert not show._settings(tmp_path, 1883, 11112).watch.probe


def test_a_folder_without_files_is_said_before_anything_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PeerAway, match="no files") as refused:
        show.run(series=tmp_path, once=True, out=tmp_path / "out")
    assert refused.value.code == "send_failed"
    assert "listens" not in capsys.readouterr().out


AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def event(name: str, series: str, report: Report | None = None) -> bytes:
    """A line of mosquitto_sub."""
    said = StudyEvent.model_validate(
        {
            "event_id": uuid.uuid4(), "at": AT, "event": name, "study": "0" * 32,
            "series": NAMING.series(SeriesKey("1", series)), "report": report,
            "reasons": report.reasons if report else (),
        }
    )  # fmt: skip
    return f"scanside/v1/demo/box-1/study/{said.study}/event {said.to_json(1)}\n".encode()


def report(status: Status, series: str, *reasons: Code) -> Report:
    return Report(
        report_id=uuid.uuid4(), input_digest="0" * 64, revision=1, status=status,
        stage=Stage.FINAL, study=StudyRef(pseudonym="0" * 32), times=Times(),
        series=SeriesRef(instance_uid=series, modality="CT", slices=1),
        reasons=tuple(Reason(code=code, text="x") for code in reasons),
        bundle=BundleRef(name="lung-nodule", version="1.0.0", digest="0" * 64),
        backend=BackendRef(name="openvino", precision="fp32"),
    )  # fmt: skip


def test_of_a_study_with_a_localizer_it_shows_what_was_analysed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    analysed = report(Status.ANALYSED, "1.2")
    lines = [
        event("received", "1.1"),
        event("received", "1.2"),
        event("complete", "1.1"),
        event("not_analysed", "1.1", report(Status.NOT_ANALYSED, "1.1", Code.LOCALIZER)),
        event("complete", "1.2"),
        event("analysed", "1.2", analysed),
        event("received", "1.3"),
    ]
    received = show.wait(io.BytesIO(b"".join(lines)))
    assert received.event.series == NAMING.series(SeriesKey("1", "1.2"))
    assert received.event.report == analysed
    assert len(received.lines) == 6
    assert "not_analysed: localizer" in " ".join(capsys.readouterr().out.split())


def test_of_a_study_with_a_localizer_the_picture_is_of_the_series_of_the_report(
    tmp_path: Path,
) -> None:
    phantom = chest(spacing_mm=(5.0, 2.8, 2.8))
    study = tmp_path / "study"
    study.mkdir()
    for index, image in enumerate(instances.series(phantom, study_uid="1.2", series_uid="1.2.1")):
        if index < 8:
            image.save_as(study / f"{index}.dcm", enforce_file_format=True)
        if index == 0:
            scout = copy.deepcopy(image)
            scout.SeriesInstanceUID, scout.SOPInstanceUID = "1.2.2", "1.2.2.1"
            scout.Rows //= 2
            scout.PixelData = scout.PixelData[: len(scout.PixelData) // 2]
            scout.save_as(study / "scout.dcm", enforce_file_format=True)
    hu, spacing, _ = drawn._volume(study, SeriesKey("1.2", "1.2.1"))
    assert hu.shape == (8, *phantom.hu.shape[1:])
    assert spacing == pytest.approx(phantom.spacing_mm)
