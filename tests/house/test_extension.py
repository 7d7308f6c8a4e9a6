"""A third kind of line and a second destination need only what docs/CONTRIBUTING.md lists.

The tree is copied, and the edits of `edits.py` are made in the copy. The copy's own processes then
receive a series, analyse it by the new kind and owe the results to both destinations.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.demo.child import child, free_port
from appliance.store.journal import Journal
from appliance.store.rows import OwedCounts, OwedRow
from house.edits import ALL, Row, allowed, listed, put
from rigs.chests import Dicom
from rigs.peers import HANG_S, Broker, until

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {".git", ".venv", "shared", "build", "dist", "__pycache__", "demo-out"}
CACHE = re.compile(r"\.\w+_cache|.*\.egg-info|\.hypothesis")
SANDBOXED = "test_every_line_of_a_unit_changes_its_sandbox_or_is_named_as_left_out"
CONTRACTS = (
    "tests/docs",
    "tests/systemd/test_units.py",
    f"tests/systemd/test_sandbox.py::{SANDBOXED}",
    "tests/test_house.py",
    "tests/appliance/drop",
    "tests/appliance/results/test_destinations.py",
    "tests/appliance/lines/test_kind.py",
    "tests/appliance/lines/test_brightness.py",
    "tests/appliance/test_main.py::test_the_help_in_the_readme_is_the_help",
)
"""What CONTRIBUTING.md says that runs over every kind, destination and stage."""
SLICES = 24


def files(tree: Path) -> set[str]:
    """The files of a tree, as paths from its root, without what is built or cached."""
    found = set()
    for at, folders, names in os.walk(tree):
        folders[:] = [f for f in folders if f not in LEFT_OUT and not CACHE.fullmatch(f)]
        found |= {(Path(at) / name).relative_to(tree).as_posix() for name in names}
    return {path for path in found if Path(path).parts[0] not in LEFT_OUT}


def sources() -> set[str]:
    """The files that git knows or would take, or all where there is no git."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return files(ROOT)
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {path for path in done.stdout.split("\0") if path and (ROOT / path).is_file()}


@dataclass(frozen=True)
class Copy:
    """The tree with the edits in it."""

    root: Path
    before: frozenset[str]
    """What there was of it before the edits."""

    @property
    def environment(self) -> dict[str, str]:
        """Child processes import the packages of the copy."""
        return {**os.environ, "PYTHONPATH": str(self.root), "COLUMNS": "200"}

    def python(self, *words: str, fails: bool = False) -> str:
        """`python WORDS` in the copy; its output. Fails the test where it does, unless `fails`."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert fails or done.returncode == 0, f"{words}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The tree in a folder of its own, with all edits made and the schemas written again."""
    root = tmp_path_factory.mktemp("copy") / "tree"
    before = sources()
    for path in before:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, root / path)
    made = Copy(root, frozenset(before))
    for edits in ALL:
        edits.apply(root)
    made.python(*schemas()[1:])
    return made


def contributing() -> str:
    return (ROOT / "docs" / "CONTRIBUTING.md").read_text(encoding="utf-8")


def schemas() -> list[str]:
    """The command that the lists name, which writes the schemas."""
    (found,) = set(re.findall(r"`(python -m [\w.]+)` writes `docs/schemas`", contributing()))
    return shlex.split(found)


def matches(path: str, names: set[str]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in names)


# The lists.


@pytest.mark.parametrize("edits", ALL, ids=lambda edits: edits.name)
def test_every_edit_is_in_its_list(edits: Any) -> None:
    names = allowed(listed(contributing(), edits.title), edits.name)
    assert [path for path in sorted(edits.paths()) if not matches(path, names)] == []


@pytest.mark.parametrize("edits", ALL, ids=lambda edits: edits.name)
def test_every_entry_of_a_list_is_needed(edits: Any) -> None:
    names = allowed(listed(contributing(), edits.title), edits.name) - {"docs/schemas"}
    assert [
        name for name in sorted(names) if not any(matches(p, {name}) for p in edits.paths())
    ] == []


def test_no_other_file_differs(copy: Copy) -> None:
    there = files(copy.root)
    gone = copy.before - there
    differ = {
        path
        for path in there & copy.before
        if (copy.root / path).read_bytes() != (ROOT / path).read_bytes()
    }
    edited = {path for edits in ALL for path in edits.paths()}
    schema = {f"docs/schemas/{n}.schema.json" for n in ("manifest", "report", "settings")}
    found = {f for f in differ if f.startswith("docs/schemas/")}
    assert not gone
    assert schema <= found
    assert (there - copy.before) | (differ - found) == edited


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\n")
    with pytest.raises(
        AssertionError, match=r"a.py has 'three' 0 times, not once.*correct its place"
    ):
        put(tmp_path, Row("a.py", "three{}", "more"))


# What holds of the tree holds of the copy.


def test_the_copy_keeps_the_style_the_types_and_the_contracts_of_layers(copy: Copy) -> None:
    copy.python("-m", "ruff", "check", ".")
    copy.python("-m", "ruff", "format", "--check", ".")
    copy.python("-m", "appliance.verbs.schemas", "--check")
    packages = ("-p", "appliance.lines", "-p", "appliance.results", "-p", "appliance.drop")
    copy.python("-m", "mypy", *packages)
    layers = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    assert "0 broken" in copy.python("-c", layers)


def test_a_layer_that_is_missing_is_seen(copy: Copy, tmp_path: Path) -> None:
    text = (copy.root / "pyproject.toml").read_text().replace(" | drop", "")
    (tmp_path / "pyproject.toml").write_text(text)
    layers = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports('{}'))"
    broken = copy.python("-c", layers.format(tmp_path / "pyproject.toml"), fails=True)
    assert "- appliance.drop" in broken


def test_the_contracts_of_kinds_destinations_and_stages_run_over_the_new_ones(copy: Copy) -> None:
    new = "not Nodules and not Radiographs"  # those two are tested where they stand
    options = ("-q", "-p", "no:cacheprovider", "-k", new, "--verbosity=1")
    printed = copy.python("-m", "pytest", *options, *CONTRACTS)
    for case in (
        "test_kind.py::test_the_order_of_arrival_changes_nothing[Brightness]",
        "test_destinations.py::test_another_destination_that_is_down_changes_nothing[folder]",
        "test_units.py::test_each_stage_is_a_verb_that_tells_when_it_is_ready[drop]",
        "test_stage.py::test_what_can_be_no_file_is_dead_and_the_rest_goes_on",
    ):
        assert f"{case} PASSED" in printed


# A series on its way through the copy.


@dataclass
class Device:
    """A device that runs from the copy: receive, work and drop. Nobody speaks to the broker."""

    copy: Copy
    folder: Path
    port: int
    broker: int
    config: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def dropped(self) -> Path:
        """The second destination. It is missing at first: a mount that is away."""
        return self.folder / "dropped"

    def scanside(self, *words: str) -> str:
        return self.copy.python("-m", "appliance", *words, "--config", str(self.config))

    @contextmanager
    def serving(self, *stages: str) -> Iterator[None]:
        """These verbs as processes, from READY on until the end of the block."""
        with ExitStack() as stack:
            log = stack.enter_context((self.folder / "log").open("ab"))
            for stage in stages:
                name = self.folder / f"{stage}.ready"
                name.unlink(missing_ok=True)
                ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                ready.bind(str(name))
                ready.settimeout(HANG_S)
                command = [sys.executable, "-m", "appliance", stage, "--config", str(self.config)]
                environment = {**self.copy.environment, "NOTIFY_SOCKET": str(name)}
                stack.enter_context(child(command, cwd=self.copy.root, env=environment, stderr=log))
                while b"READY=1" not in ready.recv(4096):
                    pass
            yield

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        """Read by the code of this tree: it knows neither the kind nor the destination."""
        with closing(Journal.open(self.state)) as journal:
            yield journal

    def deleted(self) -> int:
        """How many series `retain` deletes in one look, on a disk that is never free enough: the
        `retain` of a run, which may look at any moment, deletes nothing."""
        config = self.folder / "tight.toml"
        config.write_text(self.config.read_text().replace(AMPLE, TIGHT))
        code = (
            "import sys; from pathlib import Path; from appliance.settings import load; "
            "from appliance.retain.stage import run_once; "
            "print(run_once(load(Path(sys.argv[1]))).series)"
        )
        return int(self.copy.python("-c", code, str(config)))


SETTINGS = """state = "{folder}/state"
[dicom]
bind = "127.0.0.1"
port = {port}
[[dicom.allow]]
ae_title = "SCANNER"
host = "127.0.0.0/8"
[mqtt]
port = {broker}
[work]
backend = "onnxruntime"
threads = 1
quiet_s = 1.0
released_quiet_s = 0.5
[retain]
reserve_mb = 1
target_free_mb = 0
[drop]
folder = "{folder}/dropped"
"""
AMPLE, TIGHT = "target_free_mb = 0", "target_free_mb = 1000000000"


@pytest.fixture(scope="module")
def device(copy: Copy, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """With the bundle of the new kind, and the series of a child's chest, for which no other bundle
    answers."""
    folder = tmp_path_factory.mktemp("device")
    config = folder / "scanside.toml"
    made = Device(copy, folder, free_port(), free_port(), config)
    config.write_text(SETTINGS.format(folder=folder, port=made.port, broker=made.broker))
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests'); "
        "from rigs.bundles import signed, trust_tests; from rigs.tiny_brightness import packed; "
        "Path(sys.argv[1]).write_bytes(signed(packed(Path(sys.argv[2])))); "
        "trust_tests(Path(sys.argv[3]))"
    )
    bundle = folder / "tiny-brightness.scanside"
    copy.python("-c", code, str(bundle), str(folder / "source"), str(folder / "state"))
    made.scanside("bundle", "add", str(bundle), "--allow-development")
    made.scanside("bundle", "activate", "tiny-brightness", "1.0.0")
    Dicom().write(Dicom().chest(PatientAge="010Y"), folder / "series")
    return made


@dataclass(frozen=True)
class Seen:
    """What was seen while the series went through the device."""

    mqtt: list[OwedRow]
    """Owed to the broker, whom nobody speaks to."""
    folder: list[OwedRow]
    """Owed to the second destination, before it was there."""
    shown: str
    """`scanside outbox list`, of that time."""
    documents: list[dict[str, Any]]
    """What lay in the folder, once it was there and took all; in order of the names."""
    mqtt_after: OwedCounts


@pytest.fixture(scope="module")
def seen(device: Device) -> Seen:
    """The series was judged while neither destination took anything; then the second one did."""
    with device.serving("work", "receive", "drop"), device.journal() as journal:
        to = f"SCANSIDE@127.0.0.1:{device.port}"
        device.copy.python("-m", "appliance", "send", str(device.folder / "series"), "--to", to)
        until(
            lambda: [row for row in journal.series.all() if row.state == "analysed"],
            2 * HANG_S,
        )
        until(lambda: journal.owed.waiting("folder", 1)[0].attempts)
        mqtt, folder = journal.owed.waiting("mqtt", 100), journal.owed.waiting("folder", 100)
        shown = device.scanside("outbox", "list")
        device.dropped.mkdir()
        until(lambda: not journal.owed.counts("folder").waiting)
        paths = sorted(device.dropped.glob("*.json"))
        documents = [json.loads(path.read_bytes()) for path in paths]
        return Seen(mqtt, folder, shown, documents, journal.owed.counts("mqtt"))


def test_a_report_with_findings_of_the_new_kind_goes_out(seen: Seen) -> None:
    reports = [said for said in seen.documents if "status" in said]
    report = reports[-1]
    assert (report["status"], report["stage"]) == ("analysed", "final")
    assert report["bundle"]["name"] == "tiny-brightness"
    assert report["series"]["slices"] == SLICES
    findings = report["findings"]
    assert [finding["kind"] for finding in findings] == ["brightness"] * 3
    assert all(finding["score"] >= finding["threshold"] for finding in findings)


def test_the_second_destination_gets_all_in_order_while_the_first_takes_nothing(seen: Seen) -> None:
    assert len(seen.documents) >= 3, "received, complete and the report"
    assert seen.documents == [json.loads(row.body or b"") for row in seen.folder]
    assert seen.mqtt_after.waiting == len(seen.mqtt) > len(seen.folder)


def test_only_messages_to_the_broker_draw_a_number_and_there_is_no_gap(seen: Seen) -> None:
    assert [row.seq for row in seen.mqtt] == list(range(1, len(seen.mqtt) + 1))
    assert {row.seq for row in seen.folder} == {None}


def test_the_outbox_shows_what_both_are_owed(seen: Seen) -> None:
    assert f"outbox: {len(seen.mqtt) + len(seen.folder)} waiting, 0 dead" in seen.shown
    assert {"mqtt", "folder"} <= set(seen.shown.split())


def test_retain_waits_for_both_and_run_starts_the_new_stage(device: Device, seen: Seen) -> None:
    assert device.deleted() == 0, "the broker is owed"
    broker = Broker(device.folder)
    broker.start()
    try:
        text = device.config.read_text()
        text = text.replace(f"port = {device.broker}", f"port = {broker.port}")
        device.config.write_text(text)
        with device.serving("run"), device.journal() as journal:
            until(lambda: not journal.owed.counts("mqtt").waiting)
            assert not journal.owed.counts("mqtt").dead
    finally:
        broker.stop()
    again(device, "folder", seen.folder[0].key)
    assert device.deleted() == 0, "the folder is owed"
    acknowledge(device, "folder", seen.folder[0].key)
    assert device.deleted() == 1


def again(device: Device, destination: str, key: str) -> None:
    with device.journal() as journal:
        assert journal.owed.again(destination, [key]) == 1


def acknowledge(device: Device, destination: str, key: str) -> None:
    with device.journal() as journal:
        journal.owed.ack(destination, [key])
