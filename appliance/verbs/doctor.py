"""`scanside doctor`: every link of the chain checked, each failure with the line to change.

Rules
- A check never raises, never repairs and leaves nothing behind: it says what is and what to do.
- A failure names the file and the setting, or the command to type. What a machine lacks but nobody
  needs is said and is no failure.
- A check imports what it needs when it runs, so that a broken library breaks one check only.
- With settings that cannot be read there is one failure and nothing else: checks of defaults
  would speak of another device.
The checks stand in CHECKS, in the order of a slice's way. Exit 0 only if none failed.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance import settings as site
from appliance.errors import BackendUnavailable, BrokerAway, ScansideError, SettingsInvalid
from appliance.host import facts, jetson
from appliance.report import Record
from appliance.settings import Settings

PATIENCE_S = 3.0
EARLIEST = datetime(2025, 1, 1, tzinfo=timezone.utc)
BUILDS = (
    "Start `scanside work`: it builds engines. As a service it sees a GPU with systemd/gpu alone: "
    "docs/compile.md."
)
DECODERS = (
    ("JPEG Lossless and JPEG", "libjpeg", "pylibjpeg-libjpeg"),
    ("JPEG-LS", "jpeg_ls", "pyjpegls"),
    ("JPEG 2000", "openjpeg", "pylibjpeg-openjpeg"),
    ("RLE", "rle", "pylibjpeg-rle"),
)


class Check(Record):
    """One link. `remedy` is empty where nothing has to be done."""

    name: str
    ok: bool
    text: str
    remedy: str = ""


class Examination(Record):
    """scanside.doctor/1: what `scanside doctor --json` prints."""

    schema_: Literal["scanside.doctor/1"] = Field(default="scanside.doctor/1", alias="schema")
    ok: bool
    checks: tuple[Check, ...]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: the settings, and the name of the file that they came from."""

    settings: Settings
    file: str

    def line(self, section: str, text: str) -> str:
        """Where to change what."""
        return f"{self.file}: [{section}] {text}"


def examine(config: Path | None) -> Examination:
    """Run every check. `config` as given with --config."""
    found = site.find(config)
    try:
        settings = site.load(found)
    except SettingsInvalid as e:
        return _examination([Check(name="settings", ok=False, text=e.text, remedy=e.remedy)])
    patient = Patient(settings, str(found or "/etc/scanside/scanside.toml"))
    text = str(found) if found else "no settings file, defaults are in use"
    return _examination(
        [
            Check(name="settings", ok=True, text=text),
            *(_made(check, patient) for check in CHECKS),
            *(
                Check(name=item.name, ok=item.ok, text=item.text, remedy=item.remedy)
                for item in jetson.items(settings.host)
            ),
        ]
    )


def _made(check: Callable[[Patient], Check], patient: Patient) -> Check:
    """One check; what this user may not even look at is a failure with its remedy."""
    try:
        return check(patient)
    except OSError as e:
        return Check(
            name=check.__name__,
            ok=False,
            text=f"{e.filename or patient.settings.state}: {e.strerror or e}",
            remedy="Run it as the user that owns the state folder, such as "
            "`sudo -u scanside scanside doctor`.",
        )


def _examination(checks: list[Check]) -> Examination:
    return Examination(ok=all(check.ok for check in checks), checks=tuple(checks))


# The checks, in the order of a slice's way.


def state(patient: Patient) -> Check:
    """The state folder can be written and has more free than the reserve."""
    folder = patient.settings.state
    change = f"{patient.file}: state = "
    place = next((p for p in (folder, *folder.absolute().parents) if p.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as e:
        return Check(
            name="state",
            ok=False,
            text=f"{place} cannot be written: {e.strerror}",
            remedy=f"Give this user {place} (chown), or set {change}to another folder.",
        )
    free, reserve = facts.disk_free_mb(folder) or 0.0, patient.settings.retain.reserve_mb
    text = f"{folder}: {free:.0f} MB free, reserve {reserve} MB"
    if free < reserve:
        remedy = f"Free space, or {patient.line('retain', 'reserve_mb')} lower or state elsewhere."
        return Check(name="state", ok=False, text=text, remedy=remedy)
    return Check(name="state", ok=True, text=text)


def journal(patient: Patient) -> Check:
    """The journal opens and its audit chain holds."""
    from appliance.store.journal import Journal  # noqa: PLC0415

    path = patient.settings.state / "journal.sqlite"
    if not path.exists():
        return Check(name="journal", ok=True, text=f"{path} is made at the first start")
    try:
        with Journal.open(path) as opened:
            broken = opened.verify_audit()
            rows, head = opened.audit_head()
    except ScansideError as e:
        return Check(name="journal", ok=False, text=e.text, remedy=e.remedy)
    if broken is not None:
        return Check(
            name="journal",
            ok=False,
            text=f"the audit chain is broken at row {broken}",
            remedy=f"Keep a copy of {path} and call the fleet team: someone changed it.",
        )
    return Check(name="journal", ok=True, text=f"audit chain of {rows} rows holds, {head[:12]}")


def outbox(patient: Patient) -> Check:
    """How much lies in the spool and in the outbox; nothing is dead."""
    from appliance.store.journal import Journal  # noqa: PLC0415

    spool = patient.settings.state / "spool"
    count, size = _size(spool)
    text = f"spool {count} files, {size / 1e6:.0f} MB"
    path = patient.settings.state / "journal.sqlite"
    if not path.exists():
        return Check(name="outbox", ok=True, text=f"{text}; outbox empty")
    try:
        with Journal.open(path) as opened:
            counts = opened.outbox_counts()
    except ScansideError as e:
        return Check(name="outbox", ok=False, text=e.text, remedy=e.remedy)
    text += f"; outbox {counts.waiting} waiting, {counts.dead} dead"
    if counts.oldest_waiting is not None:
        text += f", the oldest for {max(0.0, time.time() - counts.oldest_waiting):.0f} s"
    if counts.dead:
        remedy = "`scanside outbox list` says why; then `scanside outbox retry` or `drop SEQ`."
        return Check(name="outbox", ok=False, text=text, remedy=remedy)
    return Check(name="outbox", ok=True, text=text)


def allowed(patient: Patient) -> Check:
    """Somebody may send."""
    dicom = patient.settings.dicom
    if not dicom.allow:
        return Check(
            name="allowed senders",
            ok=False,
            text="no AE title may send: everything is refused",
            remedy=f"Add to {patient.file}, with the scanner's AE title and address:\n"
            '[[dicom.allow]]\nae_title = "CT1"\nhost = "192.0.2.10"',
        )
    text = ", ".join(f"{peer.ae_title} at {peer.host}" for peer in dicom.allow)
    return Check(name="allowed senders", ok=True, text=text)


def dicom(patient: Patient) -> Check:
    """The DICOM port is free, or it is ours that answers on it."""
    from appliance.verbs import reach  # noqa: PLC0415

    ours = patient.settings.dicom
    elsewhere = patient.line("dicom", "port = another one")
    if ours.port == 0:
        return Check(name="dicom port", ok=True, text="any free port (port = 0)")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ours.bind, ours.bind)  # noqa: S104
    text = f"{ours.bind}:{ours.port}"
    remedy = f"Stop the other program, or {elsewhere}."
    if not reach.answers(host, ours.port, PATIENCE_S):
        problem = reach.bindable(ours.bind, ours.port)
        if problem is None:
            text += " is free (receive is not running)"
            return Check(name="dicom port", ok=True, text=text)
        if problem.errno == errno.EADDRNOTAVAIL:
            remedy = patient.line("dicom", f"bind: {ours.bind} is no address of this machine")
        elif problem.errno in (errno.EACCES, errno.EPERM):
            remedy = f"Ports below 1024 need a right that this user lacks: {elsewhere}."
        return Check(name="dicom port", ok=False, text=f"{text}: {problem.strerror}", remedy=remedy)
    if ours.tls is not None:
        text += " answers; not asked further, as it wants TLS"
        return Check(name="dicom port", ok=True, text=text)
    answer = reach.echo(host, ours.port, ours.ae_title, PATIENCE_S)
    if answer is None:
        text += ": what answers there is not DICOM"
        return Check(name="dicom port", ok=False, text=text, remedy=remedy)
    return Check(name="dicom port", ok=True, text=f"{text} {answer}")


def bundles(patient: Patient) -> Check:
    """A bundle is active, and its golden cases did not fail here: a new device has run none yet."""
    try:
        from appliance.bundle.shelf import Shelf  # noqa: PLC0415
    except ImportError as e:
        return Check(
            name="bundles",
            ok=False,
            text=f"the shelf cannot be loaded: {e}",
            remedy="Install the appliance again: pip install --force-reinstall scanside.",
        )
    try:
        active = Shelf(patient.settings.state).active()
    except ScansideError as e:
        return Check(name="bundles", ok=False, text=e.text, remedy=e.remedy)
    if not active:
        remedy = "`scanside bundle add FILE`, then `scanside bundle activate NAME VERSION`."
        return Check(name="bundles", ok=False, text="no bundle is active", remedy=remedy)
    text = ", ".join(f"{b.name} {b.version} (golden cases: {b.gate})" for b in active)
    if any(b.gate == "failed" for b in active):
        remedy = (
            f"{patient.line('work', 'backend')}: choose another one, or `scanside bundle rollback`."
        )
        return Check(name="bundles", ok=False, text=text, remedy=remedy)
    if any(b.gate == "not run" for b in active):
        text += "; `work` runs them when it starts, before it analyses anything"
    return Check(name="bundles", ok=True, text=text)


def memory(patient: Patient) -> Check:
    """There is memory to open the active bundles and to analyse a usual chest CT with each."""
    from appliance.host import memory as machine_memory  # noqa: PLC0415

    there = machine_memory.available()
    try:
        from appliance.bundle.shelf import Shelf  # noqa: PLC0415
        from appliance.lines import kinds  # noqa: PLC0415
    except ImportError:  # `bundles` says so
        return Check(name="memory", ok=True, text="not known without a shelf")
    if there is None:
        return Check(name="memory", ok=True, text="this machine does not say how much there is")
    shelf = Shelf(patient.settings.state)
    need = machine_memory.RESERVE
    try:
        for loaded in map(shelf.load, shelf.active()):
            need += machine_memory.opening(sum(map(len, loaded.networks.values())))
            need += kinds.of(loaded.manifest).usual_bytes(loaded.manifest)
    except ScansideError as e:
        return Check(name="memory", ok=False, text=e.text, remedy=e.remedy)
    text = f"{there >> 20} MB available, a chest CT of 400 images needs {need >> 20} MB"
    if there < need:
        remedy = "Give this machine more memory, or scanside-work.service a higher MemoryMax=."
        return Check(name="memory", ok=False, text=text, remedy=remedy)
    return Check(name="memory", ok=True, text=text)


def backend(patient: Patient) -> Check:
    """The inference backend that the settings ask for can be imported."""
    from appliance.backend.choose import LIBRARIES, choose  # noqa: PLC0415

    there = {name: _version(name) for name in LIBRARIES if _imports(name)}
    text = ", ".join(f"{name} {version}" for name, version in there.items()) or "none is installed"
    try:
        chosen = choose(patient.settings.work.backend, there.__contains__)
    except BackendUnavailable as e:
        remedy = f"{e.remedy} ({patient.line('work', 'backend')})"
        return Check(name="backend", ok=False, text=f"{e.text}; {text}", remedy=remedy)
    return Check(name="backend", ok=True, text=f"{text}; {chosen} is used")


def gpu(patient: Patient) -> Check:
    """Where there is a GPU, an engine of each active bundle is ready, or is being built."""
    preference = patient.settings.work.backend
    if preference not in ("auto", "gpu"):
        return Check(name="gpu", ok=True, text=f"not asked for: {preference} is set")
    try:
        from appliance.bundle.shelf import Shelf  # noqa: PLC0415
        from appliance.runtime import gpu as engine_room  # noqa: PLC0415
        from appliance.runtime.engine_shelf import EngineShelf  # noqa: PLC0415
    except ImportError:  # `bundles` says so
        return Check(name="gpu", ok=True, text="not known without a shelf")
    try:
        machine = engine_room.this_machine()
        shelf = Shelf(patient.settings.state)
        active = [shelf.load(entry) for entry in shelf.active()]
    except ScansideError as e:
        ok = e.code == "no_gpu" and preference == "auto"
        return Check(name="gpu", ok=ok, text=f"{e.text}: the CPU serves", remedy=e.remedy)
    texts, remedies = [], []
    for loaded in active:
        engines = EngineShelf(patient.settings.state, loaded.ref)
        failure = engines.failed(machine.here)
        try:
            engines.serving(loaded, machine.here)
            texts.append(f"{loaded.ref.name}: its engine is ready")
        except ScansideError as e:
            why = e if failure is None else failure
            texts.append(f"{loaded.ref.name}: {why.text} [{why.code}]; the CPU serves")
            remedies.append(why.remedy if failure else BUILDS)
        else:
            if failure is not None:
                texts[-1] += f"; a newer one failed: {failure.text} [{failure.code}]"
                remedies.append(failure.remedy)
    remedy = " ".join(dict.fromkeys(remedies))
    return Check(name="gpu", ok=not remedies, text="; ".join(texts) or "no bundle", remedy=remedy)


def decoders(_patient: Patient) -> Check:
    """Every compressed transfer syntax has its decoder."""
    missing = [(kind, package) for kind, module, package in DECODERS if not _imports(module)]
    if missing:
        return Check(
            name="decoders",
            ok=False,
            text=f"cannot decode {', '.join(kind for kind, _ in missing)}",
            remedy=f"pip install {' '.join(package for _, package in missing)}",
        )
    return Check(name="decoders", ok=True, text=", ".join(kind for kind, _, _ in DECODERS))


def broker(patient: Patient) -> Check:
    """The broker takes a connection with our credentials."""
    from appliance.verbs import reach  # noqa: PLC0415

    mqtt = patient.settings.mqtt
    try:
        text = reach.broker(mqtt, f"scanside-{patient.settings.site.device}-doctor", PATIENCE_S)
    except BrokerAway as e:
        tls = " and [mqtt.tls] ca, cert, key" if mqtt.tls else ""
        remedy = f"Start the broker, or correct {patient.line('mqtt', 'host and port')}{tls}."
        if e.code == reach.REFUSED:
            change = patient.line("mqtt", "username and password_file, or protocol")
            remedy = f"Correct {change}."
        return Check(name="broker", ok=False, text=e.text, remedy=remedy)
    except SettingsInvalid as e:
        return Check(name="broker", ok=False, text=e.text, remedy=f"{patient.file}: {e.remedy}")
    return Check(name="broker", ok=True, text=text)


def clock(patient: Patient) -> Check:
    """The clock is not absurd: not before this software, not before what the journal holds."""
    now = datetime.now(timezone.utc)
    remedy = "Set the clock (`date`, or a time server in /etc/systemd/timesyncd.conf)."
    text = f"{now:%Y-%m-%d %H:%M:%S} UTC, {_ntp()}"
    if now < EARLIEST:
        return Check(name="clock", ok=False, text=text, remedy=remedy)
    path = patient.settings.state / "journal.sqlite"
    if path.exists():
        from appliance.store.journal import Journal  # noqa: PLC0415

        with contextlib.suppress(ScansideError), Journal.open(path) as opened:
            latest = max((row.at for row in opened.audit_rows(1)), default=0.0)
            if latest > (now + timedelta(minutes=1)).timestamp():
                text += "; the journal has later rows"
                return Check(name="clock", ok=False, text=text, remedy=remedy)
    return Check(name="clock", ok=True, text=text)


def machine(patient: Patient) -> Check:
    """What this is. Never a failure."""
    seen = facts.read(patient.settings.state)
    memory = seen.memory_available_mb
    text = f"{seen.model or 'unknown machine'}, {seen.cores} cores, {seen.system}"
    if memory is not None:
        text += f", {memory:.0f} MB available"
    return Check(name="machine", ok=True, text=f"{text}, appliance {facts.version()}")


CHECKS: tuple[Callable[[Patient], Check], ...] = (
    machine,
    clock,
    state,
    journal,
    allowed,
    dicom,
    decoders,
    backend,
    gpu,
    bundles,
    memory,
    broker,
    outbox,
)


def _ntp() -> str:
    """What timedatectl says, where there is one."""
    program = shutil.which("timedatectl")
    if program is None:
        return "time server unknown"
    try:
        said = subprocess.run(
            [program, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "time server unknown"
    return {"yes": "set by a time server", "no": "no time server"}.get(said, "time server unknown")


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _size(folder: Path) -> tuple[int, int]:
    """Files below `folder` and their bytes; what vanishes meanwhile is not counted."""
    count = size = 0
    for path in _files(folder):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
            count += 1
    return count, size


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def to_json(examination: Examination) -> str:
    """For `--json`."""
    return json.dumps(examination.model_dump(mode="json", by_alias=True), indent=1)


def table(examination: Examination) -> Table:
    """For a terminal."""
    shown = Table(title="scanside doctor", title_justify="left", show_lines=True)
    for name in ("", "link", "what is", "what to do"):
        shown.add_column(name, overflow="fold")
    for check in examination.checks:
        mark = Text("ok", style="green") if check.ok else Text("FAIL", style="bold red")
        shown.add_row(mark, Text(check.name), Text(check.text), Text(check.remedy))
    return shown


def main(config: Path | None, *, as_json: bool) -> int:
    """`scanside doctor [--json]`: print, and 0 only where no check failed."""
    found = examine(config)
    if as_json:
        sys.stdout.write(to_json(found) + "\n")
    else:
        Console().print(table(found))
    return 0 if found.ok else 1
