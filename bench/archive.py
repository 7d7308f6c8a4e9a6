"""Results on their way to an archive: what composing costs, and how fast they are delivered.

    python -m bench archive

Rules
- Composing is the whole child process, its start and libraries included, on R01-001 with what is
  kept of its analysis; its peak memory is what the kernel says of it (VmHWM, proc(5)).
- Delivering is the stage as it runs, on PAIRS pairs of a report and a segmentation of R01-001, to
  dcmtk's storescp, against dcmtk's storescu, which reads the same files and keeps no book; and to
  Orthanc, by C-STORE and by STOW-RS. Each run has UIDs of its own, for an archive drops what it
  knows.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import pydicom
from pydicom.uid import generate_uid

from appliance.naming import Naming
from appliance.report import SeriesKey
from appliance.results import destinations
from appliance.results.owed import File, Owed
from appliance.settings import Settings
from appliance.store import kept
from appliance.store.files import DISK
from appliance.store.journal import Journal
from appliance.store.site_key import site_key
from appliance.store.spool import Spool
from appliance.verbs import analyze
from bench import line, receivers
from bench.figure import Figure
from bench.receive import STORESCU
from bench.receivers import ENVIRONMENT, Start

PAIRS = 50
AIM_S, AIM_MB = 4.0, 400.0
CHILD = """
from pathlib import Path
from appliance.compose.child import main
code = main()
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
raise SystemExit(code)
"""


def figures() -> Iterator[Figure]:
    """Seconds and memory of composing; then objects a second, ours and the peers'."""
    series = line.series_folder("archive")
    if series is None:
        return
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        root = Path(name)
        seconds, peak, files = _composed(root / "state", series)
        yield Figure("composing SR and SEG of R01-001, the whole process", seconds, "s", AIM_S)
        yield Figure("composing, peak memory", peak / 1e6, "MB", AIM_MB)
        for receiver, start in _archives().items():
            with start(Path(tempfile.mkdtemp(dir=root))) as running:
                address = f'host = "127.0.0.1"\nport = {running.port}\ncalled_ae = "SCANSIDE"\n'
                rate = _delivered(root, address, _pairs(root, files))
                yield Figure(f"delivered to {receiver} by scanside deliver", rate, "objects/s")
                if Path(STORESCU).exists():
                    rate = _sent(running.port, _pairs(root, files))
                    yield Figure(f"sent to {receiver} by dcmtk's storescu", rate, "objects/s")
        if receivers.DICOMWEB.exists():
            with receivers.orthanc_web(Path(tempfile.mkdtemp(dir=root))) as running:
                address = f'kind = "stow"\nurl = "http://127.0.0.1:{running.port}/dicom-web"\n'
                rate = _delivered(root, address, _pairs(root, files))
                yield Figure("delivered to Orthanc by STOW-RS", rate, "objects/s")


def _archives() -> dict[str, Start]:
    return {name: start for name, start in receivers.peers().items() if "pynetdicom" not in name}


def _composed(state: Path, series: Path) -> tuple[float, float, list[Path]]:
    """Seconds, peak bytes, and the files of the report and of the segmentation."""
    archive = {"name": "pacs", "host": "127.0.0.1", "called_ae": "PACS", "profile": ["sr", "seg"]}
    settings = Settings.model_validate({"state": state, "deliver": [archive]})
    DISK.make_folder(state)
    (analysed,) = analyze.analysed(series, settings)
    facts = analysed.result.facts
    key = SeriesKey(facts.study_uid, facts.series_uid)
    folder = Spool(state).folder(key)
    folder.mkdir(parents=True)
    for file, header in zip(analysed.series.files, analysed.series.headers, strict=True):
        (folder / f"{header.sop_instance_uid}.dcm").write_bytes(file.read_bytes())
    kept.keep(state, analysed.report, analysed.result, [])
    with Journal.open(state) as journal:
        owed = destinations.of_report(
            analysed.report,
            key,
            naming=Naming(site_key(state)),
            at=datetime.now(timezone.utc),
            to=destinations.archives(destinations.of(settings.deliver)),
        )
        journal.commit_report(analysed.report, key, owed=owed, series_state="analysed")
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=settings.model_dump_json().encode(),
            capture_output=True,
            check=True,
        )
        seconds = time.perf_counter() - began
        rows = journal.owed.waiting("pacs", -1)
    return seconds, float(done.stdout.split()[-1]), [state / str(row.file) for row in rows]


def _pairs(root: Path, files: list[Path]) -> list[Path]:
    """PAIRS copies of each, under UIDs that nobody knows."""
    folder = Path(tempfile.mkdtemp(dir=root))
    made = []
    for n in range(PAIRS):
        for file in files:
            image = pydicom.dcmread(file)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            made.append(folder / f"{n}-{file.name}")
            image.save_as(made[-1], enforce_file_format=True)
    return made


def _delivered(root: Path, address: str, files: list[Path]) -> float:
    """Objects a second, from the start of the stage until the last one is written down. address: of
    the archive, as lines of its [[deliver]]."""
    state = Path(tempfile.mkdtemp(dir=root))
    config = state / "scanside.toml"
    config.write_text(
        f'state = "{state}"\n[[deliver]]\nname = "pacs"\nprofile = ["sr", "seg"]\n{address}'
    )
    (state / "outgoing").mkdir()
    with Journal.open(state) as journal:
        owed = []
        for file in files:
            file.rename(state / "outgoing" / file.name)
            path = PurePosixPath("outgoing", file.name)
            owed.append(Owed("pacs", file.name, None, File(path)))
        journal.owed.add(owed)
        command = [sys.executable, "-m", "appliance", "deliver", "--config", str(config)]
        with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as stage:
            while journal.owed.counts("pacs").delivered == 0:
                time.sleep(0.01)
            began, first = time.perf_counter(), journal.owed.counts("pacs").delivered
            while journal.owed.counts("pacs").waiting:
                time.sleep(0.01)
            seconds = time.perf_counter() - began
            stage.terminate()
    return (len(files) - first) / seconds


def _sent(port: int, files: list[Path]) -> float:
    """The same by storescu, over one association."""
    began = time.perf_counter()
    subprocess.run(
        [STORESCU, "-R", "-aec", "SCANSIDE", "127.0.0.1", str(port), *map(str, files)],
        env=ENVIRONMENT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return len(files) / (time.perf_counter() - began)
