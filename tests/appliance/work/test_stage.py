"""What the scenarios cannot force from outside: attempts, lost hints, one bundle of two failing."""

from __future__ import annotations

import errno
import io
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from appliance.backend.open import open_backend
from appliance.bundle import trust
from appliance.errors import Poisoned, StateUnusable
from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.publish.presence import Presence
from appliance.reasons import Code
from appliance.records import Stack, Tensor
from appliance.report import BackendRef, SeriesKey, Stage, Status
from appliance.results.message import HealthMessage
from appliance.retain import stage as retain
from appliance.runtime.bundles import OpenBundle
from appliance.runtime.gpu import EngineState
from appliance.settings import Dicom, Retain, Settings
from appliance.settings import Work as WorkSettings
from appliance.store import hint
from appliance.store.events import Engine, Loaded
from appliance.store.heartbeat import Heart, TroubleCode, read
from appliance.store.hint import Hint
from appliance.store.journal import JOURNAL_NAME, Journal, damage
from appliance.store.spool import Spool
from appliance.work import hints, stage
from appliance.work.followed import Followed
from appliance.work.hints import Hints
from appliance.work.stage import Work

SLICES = 24


class Broken:
    """A backend that fails on whatever it is given."""

    ref = BackendRef(name="broken", precision="fp32")

    def prepare(self, stack: Stack, ops: Sequence[Any], crop: Any) -> Tensor:
        raise Poisoned("it is broken", code="backend_failed")

    gather = infer = prepare

    def close(self) -> None:
        pass


class Bench:
    """Open bundles that are given."""

    def __init__(self, *opened: OpenBundle) -> None:
        self.opened = opened
        self.engines = None
        self.troubles: tuple[str, ...] = ()
        self.first = nullcontext

    def follow_builds(self) -> None:
        """None is under way."""

    def refresh(self, in_use: Any = ()) -> tuple[OpenBundle, ...]:
        return self.opened


@dataclass
class Box:
    """A state folder with a journal, and series that can be put into its spool."""

    settings: Settings
    journal: Journal
    spool: Spool

    def work(self, *opened: OpenBundle) -> Work:
        return Work(self.settings, self.journal, self.spool, Bench(*opened))  # type: ignore[arg-type]

    def arrive(self, slices: int = SLICES, *, expected: int | None = None) -> SeriesKey:
        return self._arrive(slices, expected, -1000)

    def arrived(self, count: int) -> list[SeriesKey]:
        """So many series, each of another study, that nothing has come of for a minute."""
        keys = [self._arrive(SLICES, None, n - 1000) for n in range(count)]
        for path in self.spool.root.glob("spool/*/*/*"):
            os.utime(path, (time.time() - 60, time.time() - 60))
        return keys

    def _arrive(self, slices: int, expected: int | None, air_hu: int) -> SeriesKey:
        hu = np.full((SLICES, 16, 16), air_hu, np.int16)
        phantom = Phantom(hu, (5.0, 4.0, 4.0), (0.0, 0.0, 0.0), ())
        images = list(instances.series(phantom))[:slices]
        key = SeriesKey(str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID))
        folder = self.spool.folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        for image in images:
            image.ImagesInAcquisition = expected
            data = io.BytesIO()
            image.save_as(data, enforce_file_format=True)
            (folder / f"{image.SOPInstanceUID}.dcm").write_bytes(data.getvalue())
        return key


def run(work: Work) -> None:
    """Judge until nothing is followed any more."""
    end = time.monotonic() + 120
    while (work.following or work.wait_s() == 0) and time.monotonic() < end:
        time.sleep(work.wait_s())
        work.take_turn()
    assert not work.following


def serve(work: Work) -> None:
    """Look, then judge, as the stage does."""
    work.look_everywhere()
    run(work)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    settings = Settings(
        state=tmp_path,
        dicom=Dicom(),
        work=WorkSettings(quiet_s=0.2, released_quiet_s=0.1, threads=1),
        retain=Retain(reserve_mb=0),
    )
    with Journal.open(tmp_path) as journal:
        yield Box(settings, journal, Spool(tmp_path))


@pytest.fixture
def tiny(tiny_bytes: bytes) -> OpenBundle:
    loaded = trust.check(tiny_bytes)
    networks: Mapping[str, Any] = dict(loaded.manifest.networks.items())
    return OpenBundle(loaded.bundle, open_backend("onnxruntime", networks, loaded.networks, 1))


@pytest.fixture
def broken(tiny: OpenBundle) -> OpenBundle:
    ref = tiny.bundle.ref.model_copy(update={"name": "broken", "digest": "0" * 64})
    return OpenBundle(replace(tiny.bundle, ref=ref), Broken())  # type: ignore[arg-type]


def test_one_bundle_that_fails_does_not_keep_back_the_report_of_another(
    box: Box, tiny: OpenBundle, broken: OpenBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RETRY_S", 0.05)
    key = box.arrive()
    work = box.work(broken, tiny)
    work.look(key, ended=True)
    run(work)
    good = box.journal.reports.latest(key, tiny.bundle.ref.digest)
    assert good is not None
    assert good.stage is Stage.FINAL
    assert good.status is not Status.FAILED
    bad = box.journal.reports.latest(key, broken.bundle.ref.digest)
    assert bad is not None
    assert bad.status is Status.FAILED
    assert [r.code for r in bad.reasons] == [Code.BACKEND_FAILED]
    assert not box.work(broken, tiny)._news(key), "it is left alone until more comes"


def test_what_is_deleted_while_the_stage_looks_is_no_series_that_waits(box: Box) -> None:
    """`retain` deleted between the list of the series and the look at each: rows of series without
    any image stayed open for ever."""
    kept, *gone = box.arrived(3)
    for key in gone:
        box.journal.series.set(key, "set_aside", instances=SLICES)

    class Deleting(Spool):
        def series(self) -> list[SeriesKey]:
            listed = super().series()
            rules = Retain(reserve_mb=0, target_free_mb=10**9)
            state = box.settings.state
            assert retain.run_once(Settings(state=state, retain=rules)).series == len(gone)
            return listed

    work = Work(box.settings, box.journal, Deleting(box.settings.state), Bench())  # type: ignore[arg-type]
    work.look_everywhere()
    assert set(work.following) == {kept}
    assert [row.key for row in box.journal.series.all()] == [kept]


def test_while_a_series_is_judged_the_stage_says_so_and_since_when_others_wait(
    box: Box, tiny: OpenBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    conclude = stage.Work._conclude

    def concluding(work: stage.Work, *what: Any) -> None:
        beat = read(box.settings.state, "work")
        assert beat is not None
        said.append(beat.step)
        conclude(work, *what)

    monkeypatch.setattr(stage.Work, "_conclude", concluding)
    box.arrive()
    work = box.work(tiny)
    before = time.monotonic()
    work.look_everywhere()
    work.heart.suffer(TroubleCode.BUNDLE_REFUSED, "so that it is written at once")
    work.beat()
    waiting = read(box.settings.state, "work")
    assert waiting is not None
    assert waiting.oldest is not None
    assert before <= waiting.oldest <= waiting.tick
    run(work)
    after = read(box.settings.state, "work")
    assert said == ["judge"]
    assert after is not None
    assert after.step == ""


@pytest.mark.parametrize("error", [RuntimeError("a decoder"), MemoryError()])
def test_what_cannot_be_added_fails_that_series_alone(
    box: Box, tiny: OpenBundle, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(stage, "RETRY_S", 0.01)
    key = box.arrive()
    work = box.work(tiny)
    with monkeypatch.context() as patched:
        patched.setattr("appliance.line.add", fail)
        work.look(key, ended=True)
        assert work.following[key].failed
        run(work)
    row = box.journal.series.get(key)
    assert row is not None
    assert (row.state, row.instances, row.attempts) == ("failed", SLICES, 0)


def test_a_state_folder_that_fails_is_no_attempt_of_the_series(
    box: Box, tiny: OpenBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StateUnusable("no space left on device")

    key = box.arrive()
    for _ in range(5):  # a disk that is full over five starts of the stage
        work = box.work(tiny)
        with monkeypatch.context() as patched:
            patched.setattr("appliance.work.conclude.keep", full)
            with pytest.raises(StateUnusable):
                serve(work)
    serve(box.work(tiny))
    report = box.journal.reports.latest(key, tiny.bundle.ref.digest)
    assert report is not None
    assert report.status is not Status.FAILED


def test_an_image_on_a_bad_block_fails_its_series_and_not_the_stage(
    box: Box, tiny: OpenBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(_: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(stage, "RETRY_S", 0.01)
    key = box.arrive()
    work = box.work(tiny)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", bad)
        work.look(key, ended=True)
        run(work)
    row = box.journal.series.get(key)
    assert row is not None
    assert row.state == "failed"


def test_a_folder_without_news_is_not_read_again_and_a_late_slice_is_found(
    box: Box, tiny: OpenBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.arrive(SLICES - 1)
    work = box.work(tiny)
    work.look_everywhere()
    run(work)
    monkeypatch.setattr(stage, "SETTLED_NS", -1)
    work.look_everywhere()
    with monkeypatch.context() as patched:
        patched.setattr(box.spool, "instances", lambda _: pytest.fail("it was read again"))
        work.look_everywhere()
    box.arrive()
    work.look_everywhere()
    run(work)
    assert [s.instances for s in box.journal.series.all()] == [SLICES]


def test_a_journal_that_somebody_suspects_ends_the_stage_so_that_its_next_start_looks(
    box: Box, tiny: OpenBundle
) -> None:
    work = box.work(tiny)
    work.look_everywhere()
    malformed = sqlite3.DatabaseError("database disk image is malformed")
    damage.suspect(box.settings.state / JOURNAL_NAME, malformed)
    with pytest.raises(StateUnusable) as ended:
        work.look_everywhere()
    assert ended.value.code == "journal_suspected"


def test_a_folder_that_changed_just_now_is_read_again(box: Box, tiny: OpenBundle) -> None:
    key = box.arrive(SLICES - 1)
    changed = box.spool.changed(key)
    assert changed is not None
    work = box.work(tiny)
    work.look_everywhere()
    run(work)
    work.look_everywhere()
    assert work.wait_s() > 0
    os.utime(box.spool.folder(key))
    box.arrive()
    os.utime(box.spool.folder(key), ns=(changed, changed))  # a clock that ticks coarsely
    work.look_everywhere()
    run(work)
    assert [s.instances for s in box.journal.series.all()] == [SLICES]


def test_a_full_socket_makes_the_stage_look_at_all_that_is_open(box: Box, tiny: OpenBundle) -> None:
    key = box.arrive()
    box.journal.series.set(key, "open")  # as `receive` does, before its hint
    work = box.work(tiny)
    work.note_hints(Hints(ended=True))
    run(work)
    assert [s.state for s in box.journal.series.all()] == ["open"]
    work.note_hints(Hints(full=True))
    run(work)
    assert [s.state for s in box.journal.series.all()] != ["open"]


def test_what_was_ordered_is_composed_at_once(
    box: Box, tiny: OpenBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = box.work(tiny)
    asked: list[bool] = []
    monkeypatch.setattr(work.composing, "ask", lambda: asked.append(True))
    work.note_hints(Hints(ended=True))
    assert asked == []
    work.note_hints(Hints(ordered=True))
    assert asked == [True]


def order(box: Box) -> list[str]:
    """Series in the order in which something was first said of their analysis."""
    return list(dict.fromkeys(_series(box, r) for r in reversed(box.journal.reports.recent(99))))


def _series(box: Box, report: Any) -> str:
    found = box.journal.reports.series_of(report.report_id)
    assert found is not None
    return found.series


def test_a_restart_keeps_what_is_stat_before_what_is_routine(box: Box, tiny: OpenBundle) -> None:
    urgent = max(box.arrived(5))  # the last one that is found on disk
    box.work(tiny).look_everywhere()
    box.journal.series.set_stat(urgent)
    work = box.work(tiny)
    work.look_everywhere()
    run(work)
    assert len(order(box)) == 5
    assert order(box)[0] == urgent.series


def test_a_series_is_as_urgent_as_its_study(box: Box, tiny: OpenBundle) -> None:
    urgent = max(box.arrived(3))
    other = SeriesKey(urgent.study, "1.2.3")
    box.journal.series.set(other, "set_aside", instances=1)
    box.journal.series.set_stat(other)
    work = box.work(tiny)
    work.look_everywhere()
    run(work)
    assert order(box)[0] == urgent.series


def test_a_series_of_another_body_part_waits_for_all_others_and_is_urgent_for_nobody(
    box: Box, tiny: OpenBundle
) -> None:
    doubtful = min(box.arrived(4))  # the first one that is found on disk
    for path in box.spool.folder(doubtful).iterdir():
        data = path.read_bytes()
        assert b"CHEST " in data
        path.write_bytes(data.replace(b"CHEST ", b"KNEE  "))
        os.utime(path, (time.time() - 60, time.time() - 60))
    box.work(tiny).look_everywhere()
    box.journal.series.set_stat(doubtful)
    work = box.work(tiny)
    work.look_everywhere()
    run(work)
    assert len(order(box)) == 4
    assert order(box)[-1] == doubtful.series
    (report,) = box.journal.reports.of_study(doubtful.study)
    assert report.reasons[0].code is Code.BODY_PART


def test_a_hint_is_only_ever_lost_where_the_socket_is_found_full(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as signals,
    ):
        (tmp_path / "run").mkdir()
        ear.bind(str(tmp_path / "run" / "work.sock"))
        for series in range(300):
            hint.send(tmp_path, Hint(study="1.2", series=f"1.3.{series}"))
        heard = hints.wait(ear, signals, 0.0)
        assert heard.full == (len(heard.keys) < 300)
        hint.send(tmp_path, Hint(study="1.2", series="1.3.1"))
        assert not hints.wait(ear, signals, 0.0).full


def test_with_the_announced_count_the_series_is_judged_now(box: Box, tiny: OpenBundle) -> None:
    key = box.arrive(expected=SLICES)
    work = box.work(tiny)
    work.look(key, ended=False)
    assert work.wait_s() == 0


def test_files_that_a_hint_was_lost_for_are_seen_before_the_verdict(
    box: Box, tiny: OpenBundle
) -> None:
    key = box.arrive(20)
    work = box.work(tiny)
    work.look(key, ended=True)
    box.arrive(SLICES)
    run(work)
    row = box.journal.series.get(key)
    assert row is not None
    assert row.instances == SLICES


def test_a_slow_senders_pauses_are_no_plausible_end() -> None:
    followed = Followed(SeriesKey("1", "2"))
    assert followed.plausible_s == 0.3
    followed.gaps = [0.1, 0.5, 0.4]
    assert followed.plausible_s == 1.0
    followed.gaps.append(3600.0)
    assert followed.plausible_s == 30.0


def test_the_journal_is_told_which_bundles_are_open_where_that_changed(
    box: Box, tiny: OpenBundle, broken: OpenBundle
) -> None:
    work = box.work(tiny)
    work.refresh()
    work.refresh()
    (loaded,) = box.journal.events.of(Loaded)
    assert loaded.event.backend == "onnxruntime fp32"
    assert loaded.event.bundles == (tiny.bundle.ref,)
    work.bundles.opened = (tiny, broken)  # type: ignore[attr-defined]
    work.refresh()
    assert len(box.journal.events.of(Loaded)) == 2


def test_a_bundle_without_networks_is_on_no_backend(box: Box, tiny: OpenBundle) -> None:
    ref = tiny.backend.ref.model_copy(update={"precision": ""})
    bare = replace(tiny, backend=SimpleNamespace(ref=ref))  # type: ignore[arg-type]
    work = box.work(tiny)
    work.bundles.opened = (bare, tiny)  # type: ignore[attr-defined]
    work.refresh()
    assert box.journal.events.of(Loaded)[-1].event.backend == "onnxruntime fp32"


def test_what_is_said_of_the_gpu_is_journalled_once_and_health_repeats_it(
    box: Box, tiny: OpenBundle
) -> None:
    work = box.work(tiny)
    row = EngineState(
        bundle="tiny", version="1.0.0", state="building", text="network 1 of 3: classify"
    )
    digest = tiny.bundle.ref.digest
    work.bundles.engines = SimpleNamespace(states={digest: row})  # type: ignore[assignment]
    work.loading.follow_builds()
    work.loading.follow_builds()
    (event,) = box.journal.events.of(Engine)
    assert event.event == Engine(**row.model_dump())
    failed = {"state": "fallback", "code": "engine_node", "text": "it refuses Conv_7"}
    work.bundles.engines = SimpleNamespace(  # type: ignore[assignment]
        states={digest: row.model_copy(update=failed)}
    )
    work.loading.follow_builds()
    assert len(box.journal.events.of(Engine)) == 2
    heart = Heart(box.settings.state, "publish")
    outgoing, _ = Presence(box.settings, box.journal, heart).health(paused=False)
    assert isinstance(outgoing.message, HealthMessage)
    assert outgoing.message.engine == "tiny: fallback: it refuses Conv_7 [engine_node]"


@pytest.mark.parametrize(
    "content", [b"\xff", b"7", b"[]", b"{}", b'{"study": "../x", "series": "1.2"}', b'{"study": 1}']
)
def test_a_hint_that_is_none_is_dropped(tmp_path: Path, content: bytes) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        ear.bind(str(tmp_path / "hints"))
        for data in (content, b'{"study": "1.2", "series": "1.3"}', b'{"association": "a"}'):
            sender.sendto(data, str(tmp_path / "hints"))
        found = hints.wait(ear, sender, 0.0)
    assert found == Hints(frozenset({SeriesKey("1.2", "1.3")}), ended=True)


@pytest.mark.parametrize("jump_s", [1.6e8, -1.6e8])
def test_a_clock_that_jumps_within_a_series_makes_no_pause(
    box: Box, tiny: OpenBundle, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    key = box.arrive(12)
    work = box.work(tiny)
    work.look(key, ended=False)
    listed = work.following[key].listed_tick
    box.arrive()
    now = time.time() + jump_s
    monkeypatch.setattr("appliance.work.stage.time.time", lambda: now)
    work.look(key, ended=False)
    followed = work.following[key]
    assert len(followed.seen) == SLICES
    assert listed <= followed.last_tick <= time.monotonic()
    assert max(followed.gaps) < 60


def test_an_analysis_that_runs_out_of_memory_fails_its_series_and_the_stage_goes_on(
    box: Box, tiny: OpenBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(stage, "RETRY_S", 0.01)
    key = box.arrive(12)
    work = box.work(tiny)
    with monkeypatch.context() as patched:
        patched.setattr("appliance.line.finish", full)
        serve(work)
    row = box.journal.series.get(key)
    assert row is not None
    assert row.state == "failed"
    box.arrive()
    serve(work)
    report = box.journal.reports.latest(key, tiny.bundle.ref.digest)
    assert report is not None
    assert report.status is not Status.FAILED
    assert report.series.slices == SLICES


def test_a_series_is_refused_where_others_have_taken_the_memory(box: Box, tiny: OpenBundle) -> None:
    key = box.arrive()
    work = box.work(tiny)
    work.refresh()
    work._memory = SimpleNamespace(bytes=lambda: 10_000)  # type: ignore[assignment]
    serve(work)
    report = box.journal.reports.latest(key, tiny.bundle.ref.digest)
    assert report is not None
    assert [r.code for r in report.reasons] == [Code.TOO_LARGE]
    assert report.series.slices == SLICES
    assert not work.following, "its slices are let go"
