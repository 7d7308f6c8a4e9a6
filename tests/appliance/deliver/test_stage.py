"""The stage: a thread an archive, one beat, and nothing lost however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from appliance.deliver import stage
from appliance.demo.child import child, free_port
from appliance.dicom.requestor import Limits
from appliance.errors import ScansideError
from appliance.settings import Settings
from appliance.store import heartbeat
from appliance.store.events import ArchiveAway
from appliance.store.heartbeat import TroubleCode
from appliance.store.journal import JOURNAL_NAME, Journal
from rigs.archive import SR_3D, TITLE, Archive, serving
from rigs.peers import HANG_S, until
from rigs.programs import program
from rigs.web_archive import serving_web
from tests.appliance.deliver.conftest import QUICK, Device, Served

Make = Callable[..., Device]
Serve = Callable[..., Served]


@contextmanager
def process(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`scanside deliver` as a process, from READY on."""
    with noticing(config) as (started, _):
        yield started


@contextmanager
def noticing(config: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """`process`, and the socket on which it says what systemd is told."""
    with ExitStack() as stack:
        name = config.with_suffix(".ready")
        name.unlink(missing_ok=True)
        ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        ready.bind(str(name))
        ready.settimeout(HANG_S)
        command = [sys.executable, "-m", "appliance", "deliver", "--config", str(config)]
        environment = {**os.environ, "NOTIFY_SOCKET": str(name)}
        started = stack.enter_context(child(command, env=environment))
        while b"READY=1" not in ready.recv(4096):
            pass
        yield started, ready


def written_settings(device: Device, folder: Path) -> Path:
    config = folder / "scanside.toml"
    lines = [f'state = "{device.settings.state}"']
    for one in device.settings.deliver:
        said = one.model_dump(mode="json", exclude_unset=True)
        # of texts and numbers JSON and TOML are the same
        lines += ["[[deliver]]", *(f"{key} = {json.dumps(value)}" for key, value in said.items())]
    config.write_text("\n".join(lines) + "\n")
    return config


def test_an_archive_that_is_slow_gets_each_object_once_and_delays_nobody(
    device: Make, serve: Serve
) -> None:
    fast, gate = Archive(), threading.Semaphore(0)

    def slow(_uid: str) -> int:
        assert gate.acquire(timeout=HANG_S)
        return 0

    with serving(fast), serving(Archive(answer=slow)) as archive:
        box = device(slow=archive.port, fast=fast.port)
        for to in ("slow", "fast"):
            box.composed("1.1", "1.2", "1.3", to=to)
        serve(box)
        until(lambda: box.journal.owed.counts("fast").delivered == 3)
        for n in range(3):  # only now it answers, one object after another
            assert box.journal.owed.counts("slow").delivered == n
            gate.release()
            until(lambda n=n: box.journal.owed.counts("slow").delivered == n + 1)
        assert archive.uids == ["1.1", "1.2", "1.3"]
    assert box.journal.events.of(ArchiveAway) == []


def test_one_of_two_archives_that_is_dead_delays_the_other_by_nothing(
    device: Make, serve: Serve
) -> None:
    with serving() as archive, serving() as mute:
        mute.holds.clear()
        box = device(dead=free_port(), mute=mute.port, well=archive.port)
        names = range(1, 20)
        for to, root in (("dead", 3), ("mute", 4), ("well", 5)):
            box.composed(*(f"{root}.{n}" for n in names), to=to)
        served = serve(box)
        until(lambda: box.journal.owed.counts("well").delivered == len(names))
        assert archive.uids == [f"5.{n}" for n in names]
        assert box.journal.owed.counts("mute").waiting == len(names)
        assert box.journal.owed.counts("dead").waiting == len(names)
        until(lambda: served.deliverer._workers[0].away)
        served.deliverer._look()
        beat = heartbeat.read(box.settings.state, stage.STAGE)
        assert beat is not None
        (trouble,) = beat.troubles
        assert trouble.code is TroubleCode.ARCHIVE_AWAY
        assert trouble.text.startswith("dead: ")
        assert "well" not in trouble.text
        mute.holds.set()


def test_what_is_composed_while_it_waits_goes_at_a_ring(device: Make, serve: Serve) -> None:
    with serving() as archive:
        box = device(pacs=archive.port)
        serve(box, replace(QUICK, tick_s=3600.0, idle_s=3600.0))
        box.composed("1.1")
        until(lambda: box.journal.owed.counts("pacs").delivered == 1)
        box.composed("1.2")
        until(lambda: box.journal.owed.counts("pacs").delivered == 2)
        assert archive.uids == ["1.1", "1.2"]


def test_dcmtk_keeps_what_is_delivered(device: Make, serve: Serve, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    port = free_port()
    with child([program("storescp"), "-aet", TITLE, "-od", str(inbox), "+xa", str(port)]):
        box = device(pacs=port)
        box.composed("1.2.3.1", "1.2.3.2")
        serve(box)
        until(lambda: box.journal.owed.counts("pacs").delivered == 2)
    kept = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in inbox.iterdir()}
    assert kept.keys() == {"1.2.3.1", "1.2.3.2"}
    assert {str(one.SOPClassUID) for one in kept.values()} == {SR_3D}


def test_killed_between_sending_and_the_answer_it_sends_the_same_object_again(
    device: Make, tmp_path: Path
) -> None:
    with serving() as archive:
        archive.holds.clear()
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2")
        config = written_settings(box, tmp_path)
        with process(config) as one:
            until(lambda: archive.uids == ["1.1"])
            one.kill()
            one.wait(HANG_S)
        assert [row.key for row in box.journal.owed.ready("pacs", 9)] == ["1.1", "1.2"]
        archive.holds.set()
        with process(config):
            until(lambda: box.journal.owed.counts("pacs").delivered == 2)
    assert archive.uids == ["1.1", "1.1", "1.2"]
    assert archive.came[0].data == archive.came[1].data, "the same bytes under the same UID"


def test_killed_between_a_request_and_its_answer_it_sends_the_same_object_again(
    device: Make, tmp_path: Path
) -> None:
    with serving_web() as archive:
        archive.holds.clear()
        box = device(web={"web": {"url": archive.url}})
        box.composed("1.1", "1.2", to="web")
        config = written_settings(box, tmp_path)
        with process(config) as one:
            until(lambda: archive.uids == ["1.1"])
            one.kill()
            one.wait(HANG_S)
        assert [row.key for row in box.journal.owed.ready("web", 9)] == ["1.1", "1.2"]
        archive.holds.set()
        with process(config):
            until(lambda: box.journal.owed.counts("web").delivered == 2)
    assert archive.uids == ["1.1", "1.1", "1.2"]
    assert archive.came[0].whole == archive.came[1].whole, "the same bytes under the same UID"


def test_a_service_that_does_not_answer_cannot_keep_it_from_ending(
    device: Make, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "GRACE_S", 0.1)
    with serving_web() as archive:
        archive.holds.clear()
        box = device(web={"web": {"url": archive.url}})
        box.composed("1.1", to="web")
        served = serve(box)
        until(lambda: archive.came)
        served.stop()
        (row,) = box.journal.owed.ready("web", 9)
        assert (row.attempts, row.last_error) == (0, None), "our own end is nobody's fault"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_a_signal_after_the_object_in_hand(
    device: Make, tmp_path: Path, number: signal.Signals
) -> None:
    with serving() as archive:
        archive.holds.clear()
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2")
        with noticing(written_settings(box, tmp_path)) as (one, said):
            until(lambda: archive.uids == ["1.1"])
            one.send_signal(number)
            while b"STOPPING=1" not in said.recv(4096):
                pass
            archive.holds.set()
            assert one.wait(HANG_S) == 0
        until(lambda: archive.released == 1)
    assert archive.uids == ["1.1"]
    assert [row.key for row in box.journal.owed.ready("pacs", 9)] == ["1.2"]


def test_an_archive_that_does_not_answer_cannot_keep_it_from_ending(
    device: Make, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "GRACE_S", 0.1)
    with serving() as archive:
        archive.holds.clear()
        box = device(pacs=archive.port)
        box.composed("1.1")
        served = serve(box)
        until(lambda: archive.came)
        served.stop()
        (row,) = box.journal.owed.ready("pacs", 9)
        assert (row.attempts, row.last_error) == (0, None), "our own end is nobody's fault"


def test_an_archive_that_never_lets_us_in_cannot_keep_it_from_ending(
    device: Make, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "GRACE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        box = device(pacs=mute.getsockname()[1])
        box.composed("1.1")
        served = serve(box)
        connection, _ = mute.accept()
        with connection:
            served.stop()
        assert served.errors == []
    assert [row.key for row in box.journal.owed.ready("pacs", 9)] == ["1.1"]


def test_a_journal_that_fails_under_it_ends_the_stage_with_its_error(
    device: Make, serve: Serve
) -> None:
    with serving() as archive:
        box = device(pacs=archive.port)
        served = serve(box)
        path = box.settings.state / JOURNAL_NAME
        path.rename(path.with_name("elsewhere"))
        with suppress(ScansideError):
            box.composed("1.1")
        served.ended()
    (error,) = served.errors
    assert isinstance(error, ScansideError)
    served.errors.clear()


def test_a_courier_that_makes_no_progress_lets_nothing_beat(device: Make, serve: Serve) -> None:
    with serving() as archive:
        box = device(pacs=archive.port)
        served = serve(box, replace(QUICK, limits=Limits(0.0, 0.0, 0.0, 0.0)))
        served.stop()
        before = heartbeat.read(box.settings.state, stage.STAGE)
        served.deliverer._look()
        assert heartbeat.read(box.settings.state, stage.STAGE) == before


def test_without_archives_the_settings_do_not_ask_for_it_and_it_idles_until_it_is_told(
    device: Make, serve: Serve, tmp_path: Path
) -> None:
    config = tmp_path / "scanside.toml"
    for archives, code in (("", 1), ('[[deliver]]\nname = "a"\nhost = "h"\ncalled_ae = "A"\n', 0)):
        config.write_text(f'state = "{tmp_path}"\n{archives}')
        command = [sys.executable, "-m", "appliance", "deliver", "--config", str(config)]
        done = subprocess.run([*command, "--configured"], check=False, timeout=HANG_S)
        assert done.returncode == code
    assert not (tmp_path / "run").exists(), "it served nothing"
    served = serve(device())
    assert served.thread.is_alive()
    served.stop()
    assert served.errors == []


def test_a_second_one_says_one_line(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    with heartbeat.living(tmp_path, stage.STAGE), pytest.raises(ScansideError) as refused:
        stage.main(settings, lambda: None)
    assert refused.value.code == "already_running"
    assert "\n" not in refused.value.one_line()


def test_it_sends_nothing_of_another_destination(device: Make, serve: Serve) -> None:
    with serving(Archive()) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1", to="elsewhere")
        box.composed("1.2")
        serve(box)
        until(lambda: box.journal.owed.counts("pacs").delivered)
    assert archive.uids == ["1.2"]
    with Journal.open(box.settings.state) as journal:
        assert [row.key for row in journal.owed.ready("elsewhere", 9)] == ["1.1"]
