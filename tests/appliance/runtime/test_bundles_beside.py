"""A bundle that becomes active is opened beside the work: what serves meanwhile, and whatever may
happen to it until it is open."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from appliance.backend import open as open_module
from appliance.backend.choose import Name
from appliance.backend.cpu import Run
from appliance.bundle.golden import Gate, Runner
from appliance.bundle.shelf import Shelf
from appliance.host import memory
from appliance.reasons import Code
from appliance.runtime import bundles as runtime_bundles
from appliance.runtime import trial
from appliance.runtime.bundles import OpenBundles
from appliance.store.files import Disk
from rigs.bundles import BUNDLE
from rigs.device import Device
from rigs.opening import Held
from rigs.shelves import audited

WAIT_S = 120.0


OPENS = """
import sys
from pathlib import Path
from appliance.runtime.bundles import OpenBundles
from appliance.settings import load
bundles = OpenBundles(load(Path(sys.argv[1])), news=lambda: None)
bundles.refresh()
print("open", flush=True)
sys.stdin.readline()
bundles.refresh()
sys.stdin.read()
"""
"""A process as `work` is one: it opens what is active, and then what has become active."""


class Bench:
    """A device, and its bundles as `work` has them."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.news = Event()
        self.bundles = OpenBundles(device.settings, news=self.news.set)

    def activate(self, version: str) -> str:
        """The digest of the tiny bundle under this version, which is active from now on."""
        return self.device.activate(name=BUNDLE, version=version).digest

    def serves(self, *in_use: str) -> list[str]:
        """The versions after a look at the shelf, the newest word of the thread heard."""
        self.news.clear()
        return [
            o.manifest.version for o in self.bundles.refresh(in_use) if o.manifest.name == BUNDLE
        ]

    def soon(self, *versions: str) -> None:
        """Take up what is opened beside, until these serve."""
        end = time.monotonic() + WAIT_S
        while self.serves() != list(versions):
            assert time.monotonic() < end, self.bundles.troubles
            self.news.wait(1)

    @property
    def shelf(self) -> Shelf:
        return Shelf(
            self.device.settings.state,
            runner=Runner("another backend", lambda *_: Gate(passed=True, results=())),
            audit=audited(self.device.settings.state),
        )


@pytest.fixture
def bench(tmp_path: Path, tiny_bytes: bytes) -> Iterator[Bench]:
    """90.1.0 is open."""
    made = Bench(Device(tmp_path, tiny_bytes))
    made.activate("90.1.0")
    assert made.serves() == ["90.1.0"], "the first look waits"
    yield made
    made.bundles.close()


@pytest.fixture
def held(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch)
    yield made
    made.go.set()


def forget(bench: Bench) -> None:
    """As if no golden case had run on this backend."""
    shutil.rmtree(bench.device.settings.state / "gate")


def test_the_one_before_serves_until_the_new_one_is_open(bench: Bench, held: Held) -> None:
    (before,) = (o for o in bench.bundles.all if o.manifest.name == BUNDLE)
    bench.activate("90.2.0")
    for _ in range(3):
        assert bench.serves() == ["90.1.0"]
        assert bench.bundles.troubles == ()
    assert held.begun.wait(WAIT_S)
    assert before.fallback is None
    held.go.set()
    assert bench.news.wait(WAIT_S)
    assert bench.serves(before.digest) == ["90.2.0"]
    assert before.digest in bench.bundles._retired, "a study that began with it has it to its end"
    assert bench.serves() == ["90.2.0"]
    assert before.digest not in bench.bundles._retired


def test_a_bundle_of_a_new_name_serves_once_it_is_open_and_keeps_nobody_waiting(
    bench: Bench, held: Held
) -> None:
    bench.device.activate(name="another", version="90.0.0")
    before = {o.manifest.name for o in bench.bundles.refresh()}
    assert "another" not in before
    assert BUNDLE in before
    assert held.begun.wait(WAIT_S)
    held.go.set()
    assert bench.news.wait(WAIT_S)
    assert {o.manifest.name for o in bench.bundles.refresh()} == before | {"another"}


@pytest.mark.long
def test_where_what_is_open_was_given_up_and_the_active_one_is_damaged_who_asks_waits(
    bench: Bench,
) -> None:
    """Nobody may serve meanwhile, and a study must not be left without its bundle."""
    bench.activate("90.2.0")
    bench.soon("90.2.0")
    bench.activate("90.3.0")
    bench.soon("90.3.0")
    path = next(e for e in bench.shelf.list() if e.version == "90.2.0")
    bench.shelf.rollback(BUNDLE)
    bench.shelf.path(path).write_bytes(b"damaged")
    bench.serves()
    assert bench.news.wait(WAIT_S), "90.3.0 goes on until the damage is known"
    assert bench.serves() == ["90.1.0"]
    (trouble,) = bench.bundles.troubles
    assert trouble.endswith("90.1.0 serves in its place")


def test_golden_cases_run_beside_the_work_where_they_have_not_run_here(
    bench: Bench, held: Held
) -> None:
    bench.activate("90.2.0")
    forget(bench)
    assert bench.serves() == ["90.1.0"]
    assert held.begun.wait(WAIT_S)
    assert held.goldens == ["90.2.0"]
    held.go.set()
    bench.soon("90.2.0")
    assert held.networks == 1


def test_one_whose_golden_cases_fail_here_never_serves_and_that_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.device.folder / "added.scanside"
    bench.activate("90.2.0")
    bench.shelf.rollback(BUNDLE)
    forget(bench)
    bench.shelf.add(path, allow_development=True)  # elsewhere they pass
    real = trial.run

    def wrong(*what: object, **how: object) -> Gate:
        return real(*what, **how).model_copy(update={"passed": False})  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "run", wrong)
    bench.shelf.activate(BUNDLE, "90.2.0")
    assert bench.serves() == ["90.1.0"]
    assert bench.news.wait(WAIT_S)
    assert bench.serves() == ["90.1.0"]
    (trouble,) = bench.bundles.troubles
    assert trouble.startswith(f"{BUNDLE} 90.2.0: ")
    assert "golden cases do not pass" in trouble
    assert trouble.endswith("90.1.0 serves in its place")
    (serving,) = (o for o in bench.bundles.all if o.manifest.name == BUNDLE)
    assert serving.fallback is not None
    assert serving.fallback.code is Code.BUNDLE_FALLBACK
    bench.news.clear()
    for _ in range(3):
        bench.bundles.refresh()
    assert not bench.news.is_set(), "it is not tried again at each look"


def test_of_two_that_become_active_at_once_the_last_one_counts(bench: Bench, held: Held) -> None:
    bench.activate("90.2.0")
    assert bench.serves() == ["90.1.0"]
    assert held.begun.wait(WAIT_S)
    last = bench.activate("90.3.0")
    assert bench.serves() == ["90.1.0"]
    held.go.set()
    bench.soon("90.3.0")
    assert held.networks == 2, "networks that are being loaded are loaded, and then closed"
    assert [o.digest for o in bench.bundles.all if o.manifest.name == BUNDLE] == [last]


def test_golden_cases_of_one_that_nobody_wants_any_more_are_ended(bench: Bench, held: Held) -> None:
    bench.activate("90.2.0")
    forget(bench)
    assert bench.serves() == ["90.1.0"]
    assert held.begun.wait(WAIT_S)
    bench.shelf.rollback(BUNDLE)
    assert bench.serves() == ["90.1.0"]
    assert bench.news.wait(WAIT_S), "the thread is free although nobody let it go"
    assert bench.serves() == ["90.1.0"]
    assert bench.bundles.troubles == ()
    assert held.networks == 0


def test_what_was_rolled_back_while_its_networks_were_loaded_is_closed(
    bench: Bench, held: Held
) -> None:
    bench.activate("90.2.0")
    assert bench.serves() == ["90.1.0"]
    assert held.begun.wait(WAIT_S)
    bench.shelf.rollback(BUNDLE)
    assert bench.serves() == ["90.1.0"]
    held.go.set()
    assert bench.news.wait(WAIT_S)
    assert bench.serves() == ["90.1.0"]
    assert bench.bundles._beside is not None
    assert not bench.bundles._beside._under_way
    bench.activate("90.2.0")
    bench.soon("90.2.0")


@pytest.mark.long
def test_a_result_of_golden_cases_that_the_disk_does_not_take_keeps_nobody_from_serving(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.activate("90.2.0")
    forget(bench)
    put = Disk.put

    def full(disk: Disk, path: Path, data: bytes) -> None:
        if path.parent.name == "gate":
            raise OSError(28, "No space left on device")
        put(disk, path, data)

    monkeypatch.setattr(Disk, "put", full)
    bench.soon("90.2.0")
    assert bench.bundles.troubles == ()
    assert not list((bench.device.settings.state / "gate").glob("*.json"))


def test_where_memory_holds_one_only_the_new_one_waits_for_an_idle_moment_and_that_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.activate("90.2.0")
    real, closed = memory.available, Event()
    give_back = memory.give_back

    def given_back() -> None:
        closed.set()
        give_back()

    monkeypatch.setattr(memory, "give_back", given_back)
    monkeypatch.setattr(memory, "available", lambda: real() if closed.is_set() else 1)
    assert bench.serves() == ["90.1.0"]
    assert bench.news.wait(WAIT_S)
    assert bench.serves() == ["90.1.0"]
    (trouble,) = bench.bundles.troubles
    assert "of memory" in trouble
    assert "90.1.0 serves in its place until nothing is analysed, and then makes room" in trouble
    assert bench.bundles.make_room()
    assert bench.serves() == ["90.2.0"]
    assert bench.bundles.troubles == ()
    assert not bench.bundles.make_room(), "there is nothing to do any more"


def test_where_memory_does_not_hold_it_even_alone_the_one_before_comes_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = bench.activate("90.2.0")
    require = runtime_bundles.require_memory

    def short(networks: int) -> None:
        if any(e.digest == new and e.active for e in bench.shelf.list()) and not reopened:
            with monkeypatch.context() as patched:
                patched.setattr(memory, "available", lambda: 1)
                require(networks)

    reopened: list[str] = []
    monkeypatch.setattr(runtime_bundles, "require_memory", short)
    opened = bench.bundles._opened

    def second(loaded: object, entry: object = None) -> object:
        if entry is not None and entry.version == "90.1.0":  # type: ignore[attr-defined]
            reopened.append("90.1.0")
        return opened(loaded, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.bundles, "_opened", second)
    assert bench.serves() == ["90.1.0"]
    assert bench.news.wait(WAIT_S)
    assert bench.serves() == ["90.1.0"]
    assert bench.bundles.make_room()
    assert reopened == ["90.1.0"]
    assert bench.serves() == ["90.1.0"]
    assert len(bench.bundles.troubles) == 1
    assert not bench.bundles.make_room(), "it does not close what serves again and again"


@pytest.mark.long
def test_where_memory_holds_neither_any_more_whoever_looks_next_tries_both_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.activate("90.2.0")
    with monkeypatch.context() as patched:
        patched.setattr(memory, "available", lambda: 1)
        bench.serves()
        assert bench.news.wait(WAIT_S)
        assert bench.serves() == ["90.1.0"]
        assert bench.bundles.make_room()
        assert bench.serves() == []
    bench.bundles._refused.clear()  # as after a minute (AGAIN_S)
    bench.soon("90.2.0")


def test_what_was_recalled_serves_no_study_that_begins_even_while_the_next_one_is_opened(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = bench.activate("90.2.0")
    bench.soon("90.2.0")
    taken = bench.shelf.withdraw(bad, "wrong")
    assert taken is not None
    assert taken.version == "90.1.0"
    assert bench.serves(bad) == ["90.1.0"], "who asks waits for this one"
    assert bad in bench.bundles._retired, "the study in hand has it to its end"
    assert bench.serves() == ["90.1.0"]
    assert bench.bundles.troubles == ()
    assert all(o.fallback is None for o in bench.bundles.all)


def test_a_child_that_is_killed_while_it_runs_golden_cases_is_a_refusal_of_the_bundle(
    bench: Bench, endless_bytes: bytes
) -> None:
    bench.device.bundle = endless_bytes
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trial, "run", lambda *_, **__: Gate(passed=True, results=()))
        bench.activate("90.2.0")
    forget(bench)
    assert bench.serves() == ["90.1.0"]
    os.kill(child_of(os.getpid()), signal.SIGKILL)
    assert bench.news.wait(WAIT_S)
    assert bench.serves() == ["90.1.0"]
    (trouble,) = bench.bundles.troubles
    assert "ended their process by SIGKILL" in trouble


@pytest.mark.long
def test_a_process_that_is_killed_while_it_opens_a_bundle_leaves_nothing_running_and_all_whole(
    bench: Bench, endless_bytes: bytes
) -> None:
    state = bench.device.settings.state
    command = [sys.executable, "-c", OPENS, str(bench.device.toml())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"open\n"
        bench.device.bundle = endless_bytes
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(trial, "run", lambda *_, **__: Gate(passed=True, results=()))
            bench.activate("90.2.0")
        forget(bench)
        process.stdin.write(b"\n")
        process.stdin.flush()
        child = child_of(process.pid)
        process.kill()
        process.wait()
        end = time.monotonic() + WAIT_S
        while lives(child):
            assert time.monotonic() < end, "golden cases run on without anybody who asked"
            time.sleep(0.05)
    assert not list(state.glob("gate/*.json"))
    bench.shelf.rollback(BUNDLE)
    again = Bench(bench.device)
    assert again.serves() == ["90.1.0"]
    assert again.bundles.troubles == ()
    again.bundles.close()


def lives(pid: int) -> bool:
    """Whether a process is there and not only its exit status (proc(5), field 3)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def child_of(pid: int) -> int:
    """A process that runs golden cases for this one, once there is one."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                if trial.MODULE.encode() in command and b"setpriv" not in command:
                    return int(child)
        time.sleep(0.02)
    raise AssertionError("no golden case runs")


def test_no_network_of_a_bundle_is_loaded_while_a_series_is_analysed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    loaders = dict(open_module.LOADERS)

    def seen(name: Name, networks: Mapping[str, Any], *more: Any) -> Mapping[str, Run]:
        loaded.extend(networks)
        return loaders[name](networks, *more)

    for name in loaders:
        monkeypatch.setitem(open_module.LOADERS, name, partial(seen, name))
    with bench.bundles.first():
        bench.activate("90.2.0")
        assert bench.serves() == ["90.1.0"]
        assert not bench.news.wait(1)
        assert loaded == []
    bench.soon("90.2.0")
    assert sorted(loaded) == ["classify", "propose", "segment"]
