"""The demo ends with everything that it began."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.demo import show
from appliance.demo.scanner import SendSummary
from appliance.errors import PeerAway
from appliance.settings import Settings

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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_sigterm_or_a_closed_terminal_leaves_neither_processes_nor_files(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "appliance", "demo", "--out", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True,
    ) as demo:  # fmt: skip
        end = time.monotonic() + 60
        while len(of_folder(folder)) < 6:  # broker, parent and four stages
            assert time.monotonic() < end
            assert demo.poll() is None
            time.sleep(0.05)
        for _ in range(3):  # somebody is impatient
            demo.send_signal(number)
            time.sleep(0.2)
        assert demo.wait(60) != 0, "it did not do what it was asked for"
    assert not of_folder(folder)
    assert not list(folder.iterdir())


def test_where_no_image_was_stored_it_does_not_wait_for_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.dcm").write_bytes(b"x")
    summary = SendSummary(0, (("1.2", 0xA700),), 0.1)
    monkeypatch.setattr("appliance.demo.scanner.send", lambda *_, **__: summary)
    with pytest.raises(PeerAway, match="none of the 1 images"):
        show._send(None, tmp_path, Settings(state=tmp_path))
