"""What the product said before its house was rebuilt, byte for byte, and what it says now.

`recording.json` beside this file holds, for every shared CT, the phantom and the made-up
radiograph, the report of `scanside analyze`, and for three series that arrive while `work` runs
every message of the outbox in its order, with a late pair of slices that makes a second revision.
Times, sequence numbers and versions are left out. `SCANSIDE_RECORD=1` writes it anew, which is for
a change of behaviour that is meant, never for a rebuild.

Rules
- Ids, digests, codes, texts and their order are equal everywhere. Figures that a network computed
  are equal to the byte on the processor that the recording names, and within TOLERANCE elsewhere:
  libraries choose other kernels there.
- `work` finds each series whole and looks again after a quiet time, so nothing depends on how fast
  the images come.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.backend.choose import choose
from appliance.backend.cpu import arithmetic
from appliance.backend.open import open_backend
from appliance.bundle import golden, trust
from appliance.bundle.shelf import FACTORY
from appliance.phantom import instances, radiograph
from appliance.phantom.chest import chest
from appliance.results.mqtt import Envelope
from appliance.store.journal import Journal

NAMES = {"int8": "recording.json", "fp32": "recording-in-fp32.json"}
"""What a processor without VNNI says is nearly the same, but further off than TOLERANCE."""
FILE = Path(__file__).with_name(NAMES[arithmetic(choose())])
RECORDS = os.environ.get("SCANSIDE_RECORD") == "1"
CTS = (
    *("R01-001", "C3N-00247", "A0001", "A0002", "ge-tilted-head", "siemens-j2k"),
    *("LIDC-IDRI-0003", "LIDC-IDRI-0004", "LIDC-IDRI-0005", "LIDC-IDRI-0021"),
)
LATER = frozenset(CTS) - {"R01-001"}
"""Of these, what takes its minute in `make test-long` alone."""
KEY = bytes(range(32))
TOLERANCE = 1e-2
PASSING = frozenset({"times", "at", "seq", "version", "appliance"})
"""Fields that differ from run to run, or with each release."""
FILED = frozenset({".entry", ".told"})
"""Of the ledger: they are put there when `work` has nothing else to do, sooner or later."""
DERIVED = frozenset(
    {"computed", "outputs", "event_id", "input_digest", "pseudonym", "report_id", "series", "study"}
    | {"sha256", "supersedes", "topic", "tracking_uid"}
)
"""Made of pixels, which another processor draws and computes otherwise in the last place."""
QUIET_S = 20.0
"""A machine that needs longer than this to read a series would say nothing preliminary of it."""


def _machine() -> dict[str, str]:
    """What decides which kernels the libraries take for inference and for matrices."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith(("model name", "Model"))
        ),
        platform.machine(),
    )
    flags = next(
        (
            line
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith(("flags", "Features"))
        ),
        "",
    )
    library = choose()
    return {
        "cpu": cpu,
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:16],
        "cores": str(os.cpu_count()),
        "backend": f"{library} {version(library)}",
        "arrays": f"numpy {version('numpy')} {os.environ.get('OPENBLAS_CORETYPE', '')}".strip(),
    }


@pytest.fixture(scope="session")
def recorded() -> dict[str, Any]:
    if RECORDS:
        return {}
    held: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return held


@pytest.fixture(scope="session")
def check(recorded: dict[str, Any]) -> Iterable[Callable[[str, str, Any], None]]:
    """(part, name, what is said now): compares, or takes down where a recording is made."""
    fresh: dict[str, Any] = {"machine": _machine()}

    def compare(part: str, name: str, now: Any) -> None:
        now = json.loads(json.dumps(now))
        if RECORDS:
            fresh.setdefault(part, {})[name] = now
            return
        before = recorded[part][name]
        if _machine() == recorded["machine"]:
            assert now == before
        else:
            assert _Near(before) == now

    yield compare
    if RECORDS:
        text = json.dumps(fresh, indent=1, sort_keys=True, ensure_ascii=False)
        FILE.write_text(text + "\n", encoding="utf-8")


class _Near:
    """Equal but for floats, which may differ by TOLERANCE (relative, or absolute below 1), and for
    what is DERIVED."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return _near(self.value, other)

    def __repr__(self) -> str:
        return repr(self.value)

    __hash__ = None  # type: ignore[assignment]


def _near(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE * max(1.0, abs(a))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_derived(k, a[k]) or _near(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_near, a, b))
    return bool(a == b)


def _is_derived(key: str, value: Any) -> bool:
    """Whether it is a name or a digest: `study` and `series` of a report are records."""
    return key in DERIVED and (key in ("computed", "outputs") or not isinstance(value, dict))


def _lasting(value: Any) -> Any:
    """Without what passes (PASSING), at any depth; a bundle's version stays."""
    if isinstance(value, dict):
        gone = PASSING - {"version"} if {"digest", "name"} <= value.keys() else PASSING
        return {k: _lasting(v) for k, v in value.items() if k not in gone}
    return [_lasting(v) for v in value] if isinstance(value, list) else value


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A settings file of a device whose site key is known."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "site.key").write_bytes(KEY)
    (state / "site.key").chmod(0o600)
    path = tmp_path / "scanside.toml"
    quiet = f"quiet_s = {QUIET_S}\nreleased_quiet_s = {QUIET_S}\n"
    path.write_text(f'state = "{state}"\n[work]\nthreads = 2\n{quiet}[priors]\nkeep = false\n')
    return path


def _analyzed(folder: Path, config: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "analyze", str(folder), "--json"],
        env={**os.environ, "SCANSIDE_CONFIG": str(config)},
        check=True,
        capture_output=True,
        timeout=240,
    )
    return _lasting(json.loads(done.stdout))


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.long if one in LATER else ()) for one in CTS]
)
def test_a_shared_ct_has_the_report_that_it_had(
    name: str,
    ct_series: Callable[[str], Path],
    site: Path,
    check: Callable[[str, str, Any], None],
) -> None:
    check("analyze", name, _analyzed(ct_series(name), site))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The phantom and the radiograph as folders of DICOM files."""
    root = tmp_path_factory.mktemp("made")
    body = chest(spacing_mm=(2.5, 1.5, 1.5))
    pictures = {
        "phantom": list(instances.series(body)),
        "radiograph": [radiograph.instance(radiograph.projected(body))],
    }
    for name, images in pictures.items():
        (root / name).mkdir()
        for number, image in enumerate(images):
            image.save_as(root / name / f"{number:04d}.dcm", enforce_file_format=True)
    return {name: root / name for name in pictures}


@pytest.mark.parametrize("name", ["phantom", "radiograph"])
def test_the_phantom_has_the_report_that_it_had(
    name: str, made: dict[str, Path], site: Path, check: Callable[[str, str, Any], None]
) -> None:
    check("analyze", name, _analyzed(made[name], site))


def test_the_golden_cases_give_what_they_gave(check: Callable[[str, str, Any], None]) -> None:
    for path in sorted((FACTORY / "bundles").glob("*.scanside")):
        loaded = trust.check(path.read_bytes())
        backend = open_backend(choose(), dict(loaded.manifest.networks), loaded.networks, 2)
        gate = golden.gate(loaded, golden.through(backend))
        backend.close()
        assert gate.passed
        said = gate.model_dump(mode="json") if hasattr(gate, "model_dump") else gate.one_line()
        check("golden", path.stem, {"digest": loaded.digest, "gate": _lasting(said)})


# Series that arrive while `work` runs.


def test_the_messages_of_series_that_arrive_are_those_that_they_were(
    ct_series: Callable[[str], Path],
    made: dict[str, Path],
    site: Path,
    tmp_path: Path,
    check: Callable[[str, str, Any], None],
) -> None:
    state = tmp_path / "state"
    waiting = {"R01-001": ct_series("R01-001"), **made}
    files = {name: _in_order(folder) for name, folder in waiting.items()}
    late = files["R01-001"][-2:]
    with _work(site, tmp_path) as ready:
        ready()
        for name, found in files.items():
            _put(state, found[:-2] if name == "R01-001" else found, tmp_path / f"{name} first")
        _until(lambda: _finals(state) == {key[1] for key in _keys(files)}, "three final reports")
        _put(state, late, tmp_path / "late")
        _until(lambda: _revisions(state) == 2, "a second revision")
    with Journal.open(state) as journal:
        envelopes = [
            Envelope.model_validate_json(row.body or b"")
            for row in journal.owed.waiting("mqtt", 1000)
        ]
        rows = [(one.topic, json.loads(one.payload)) for one in envelopes]
        reports = {
            name: [
                _lasting(json.loads(report.to_json()))
                for report in journal.reports.of_study(found[0][1][0])
            ]
            for name, found in files.items()
        }
    for name, found in files.items():
        study = reports[name][0]["study"]["pseudonym"]
        own = [
            {"topic": topic, "payload": _lasting(payload)}
            for topic, payload in rows
            if payload.get("study") == study
        ]
        check("messages", name, own)
        check("reports", name, reports[name])
        for number, report in enumerate(reports[name], 1):
            folder = state / "reports" / report["report_id"]
            kept = {p.name: _arrays(p) for p in sorted(folder.iterdir()) if p.suffix not in FILED}
            check("kept", f"{name} {number}", kept)
        assert {key for _, key, _ in found} == {found[0][1]}


def _arrays(path: Path) -> Any:
    if path.name in {"compared.json", "quality.json", "room.json"}:  # figures, not bytes alone
        return _lasting(json.loads(path.read_bytes()))
    if path.name == "images.json":  # what was scored stands beside the list, which is as it was
        listed = json.dumps(json.loads(path.read_bytes())["images"])
        return {"sha256": hashlib.sha256(listed.encode()).hexdigest()}
    if path.suffix != ".npz":
        return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    with np.load(path) as held:
        return {
            "shapes": {name: list(held[name].shape) for name in sorted(held.files)},
            "computed": {
                name: hashlib.sha256(np.ascontiguousarray(held[name]).tobytes()).hexdigest()
                for name in sorted(held.files)
            },
        }


Files = list[tuple[Path, tuple[str, str], str]]
"""Path, (study, series), SOP Instance UID."""


def _in_order(folder: Path) -> Files:
    import pydicom  # noqa: PLC0415

    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        said = pydicom.dcmread(path, stop_before_pixels=True)
        key = (str(said.StudyInstanceUID), str(said.SeriesInstanceUID))
        found.append((int(said.get("InstanceNumber") or 0), path, key, str(said.SOPInstanceUID)))
    return [row[1:] for row in sorted(found)]


def _keys(files: dict[str, Files]) -> set[tuple[str, str]]:
    return {key for found in files.values() for _, key, _ in found}


def _put(state: Path, found: Files, staged: Path) -> None:
    """All at once into the spool, as if they had just been acknowledged; then a hint to `work`."""
    staged.mkdir()
    study, series = found[0][1]
    folder = state / "spool" / study / series
    for path, _, uid in found:
        (staged / f"{uid}.dcm").write_bytes(path.read_bytes())
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.exists():
        for path in staged.iterdir():
            path.rename(folder / path.name)
    else:
        staged.rename(folder)
    hint = json.dumps({"study": study, "series": series}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(hint, str(state / "run" / "work.sock"))


class _work:  # noqa: N801 - used as a function
    """`scanside work` as a process; calling what it gives waits until it is ready."""

    def __init__(self, config: Path, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(120)
        path = folder / "notify"
        self._socket.bind(str(path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "work", "--config", str(config)],
            env={**os.environ, "NOTIFY_SOCKET": str(path)},
        )

    def __enter__(self) -> Callable[[], None]:
        def ready() -> None:
            while b"READY=1" not in self._socket.recv(4096):
                pass

        return ready

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._socket.close()


def _finals(state: Path) -> set[str]:
    with Journal.open(state) as journal:
        return {row.series_uid for row in journal.series.all("analysed", "refused", "failed")}


def _revisions(state: Path) -> int:
    with Journal.open(state) as journal:
        finals = [r for r in journal.reports.recent(100) if r.stage.value == "final"]
        return max(report.revision for report in finals)


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 200
    while not holds():
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.2)
