"""From the last slice to PUBACK: R01-001, a real chest CT, sent by storescu to the real line.

    last slice -> [spooled, folded] -> plausible end -> segment, propose, classify -> report
               -> outbox -> broker -> PUBACK

Rules
- Times are the product's own: the file's mtime is the last slice (its acknowledgement follows the
  sync of file and folder), `times` of the report, the outbox row's PUBACK. Broker, sender, all
  stages and this program share the machine's cores.
- Each run has new UIDs, so that nothing is known before.
- The first findings are out when the last message of the preliminary report is acknowledged.
- What inference is made of is measured apart, in this process, on the same series.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from appliance import line
from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.bundle import trust
from appliance.bundle.manifest import Network
from appliance.bundle.shelf import FACTORY
from bench.figure import Figure
from bench.site import STORESCU, Site, running

SERIES = "R01-001"
RUNS = 10
IN_A_ROW = 8
AT_ONCE = ("CT1", "CT2", "CT3")
EACH = 3
AIM_S = 0.8


def figures() -> Iterator[Figure]:
    """Latency, its parts, throughput. None, with the reason, where data or dcmtk is missing."""
    shared = Path(__file__).resolve().parents[2] / "shared" / "data" / "ct" / SERIES
    if not shared.is_dir():
        print(f"line: left out, {SERIES} is not at {shared}")
        return
    if not STORESCU.exists():
        print("line: left out, dcmtk is not installed (apt-get install dcmtk)")
        return
    images = [pydicom.dcmread(path) for path in sorted(shared.glob("*.dcm"))]
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        folder = Path(name)
        parts = _inference([path.read_bytes() for path in sorted(shared.glob("*.dcm"))])
        with running(folder) as site:
            _analysed(site, folder, images, ("WARM",), 1)  # does not count
            alone = [_analysed(site, folder, images, ("CT1",), 1)[0] for _ in range(RUNS)]
            yield from _latency(alone, parts)
            in_a_row = _analysed(site, folder, images, ("CT1",), IN_A_ROW)
            usual = statistics.median(row["first_out"] - row["last"] for row in alone)
            yield from _throughput(f"{IN_A_ROW} studies in a row", in_a_row, usual)
            at_once = _analysed(site, folder, images, AT_ONCE, EACH)
            yield from _throughput(f"{len(AT_ONCE)} scanners, {EACH} studies each", at_once, usual)


Row = dict[str, float]
"""Of one series, seconds since 1970: sent, first, last, released, folded, inferred, committed,
first_out (PUBACK of the last preliminary message), complete (the verdict), last_out (PUBACK of the
last message); images."""


def _analysed(
    site: Site, folder: Path, images: Sequence[Any], senders: Sequence[str], each: int
) -> list[Row]:
    """Each sender sends `each` studies, one association after the other; what the journal says."""
    series: list[str] = []
    folders: dict[str, list[Path]] = {}
    for ae in senders:
        for _ in range(each):
            path = folder / "files" / generate_uid()
            series.append(_copy(images, path))
            folders.setdefault(ae, []).append(path)
    began = time.time()
    scanners = [site.scanner(ae, studies) for ae, studies in folders.items()]
    site.ended(series)
    if sum(scanner.wait(60) for scanner in scanners):
        raise SystemExit("a sender failed")
    shutil.rmtree(folder / "files")
    rows = [_row(site, uid, began) for uid in series]
    if lost := [row for row in rows if row["images"] != len(images)]:
        raise SystemExit(f"{len(lost)} series are not whole")
    return rows


def _copy(images: Sequence[Any], folder: Path) -> str:
    """The series under new UIDs, on disk; its Series Instance UID."""
    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    for number, image in enumerate(images):
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
    return str(series)


def _row(site: Site, series: str, began: float) -> Row:
    reports = {
        row["stage"]: json.loads(row["json"])
        for row in site.rows("SELECT stage, json FROM reports WHERE series_uid = ?", (series,))
    }
    early = reports.get("preliminary", reports["final"])
    times = {k: _seconds(v) for k, v in early["times"].items() if v is not None}
    messages = site.rows(
        """SELECT payload, created, delivered_at FROM messages
        WHERE series_uid = ? AND state = 'delivered' ORDER BY seq""",
        (series,),
    )
    said = [(json.loads(r["payload"]), r["created"], r["delivered_at"]) for r in messages]
    early_ones = [
        one for one in said if "preliminary" in (one[0].get("event"), one[0].get("stage"))
    ]
    first = early_ones or said  # the verdict was there before anything preliminary
    return {
        "sent": began,
        "images": early["series"]["slices"],
        "first": times["first_slice"],
        "last": times["last_slice"],
        "released": times["released"],
        "folded": times["prepared"],
        "inferred": times["inferred"],
        "committed": min(created for _, created, _ in first),
        "first_out": max(at for *_, at in first),
        "complete": _seconds(reports["final"]["times"]["complete"]),
        "last_out": max(at for *_, at in said),
    }


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def _latency(rows: Sequence[Row], parts: dict[str, float]) -> Iterator[Figure]:
    def median(begin: str, end: str) -> float:
        return statistics.median(row[end] - row[begin] for row in rows)

    made = {
        "to the last slice folded": median("last", "folded"),
        "to the start of inference": median("folded", "inferred") - sum(parts.values()),
        **parts,
        "report, masks, commit": median("inferred", "committed"),
        "publish, PUBACK": median("committed", "first_out"),
    }
    first = [row["first_out"] - row["last"] for row in rows]
    last = [row["last_out"] - row["last"] for row in rows]
    what = f"{SERIES}, last slice to PUBACK"
    yield Figure(f"{what}, first findings, p50 of {len(rows)}", _p(first, 50), "s", AIM_S, made)
    yield Figure(f"{what}, first findings, p95", _p(first, 95), "s", AIM_S)
    ended = {
        "quiet time and verdict": median("last", "complete"),
        "report, publish, PUBACK": median("complete", "last_out"),
    }
    yield Figure(f"{what}, final, p50", _p(last, 50), "s", parts=ended)
    yield Figure(f"{what}, final, p95", _p(last, 95), "s")


def _throughput(what: str, rows: Sequence[Row], usual: float) -> Iterator[Figure]:
    """How many an hour, and how much longer each waits than one that comes alone (`usual`)."""
    took = max(row["last_out"] for row in rows) - rows[0]["sent"]
    waits = [max(0.0, row["first_out"] - row["last"] - usual) for row in rows]
    yield Figure(f"{what}: studies per hour", 3600 * len(rows) / took, "1/h")
    yield Figure(f"{what}: first findings later than alone, p50", _p(waits, 50), "s")
    yield Figure(f"{what}: first findings later than alone, max", max(waits), "s")


def _p(values: Sequence[float], percent: float) -> float:
    """Percentile by linear interpolation."""
    at = (len(values) - 1) * percent / 100
    low, ordered = int(at), sorted(values)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def _inference(files: Sequence[bytes]) -> dict[str, float]:
    """Seconds of each step of `line.finish` on this series, the median of 5; the rest as one."""
    loaded = trust.check(next((FACTORY / "bundles").glob("*.scanside")).read_bytes())
    networks: dict[str, Network] = dict(loaded.manifest.networks.items())
    clocked = _Clocked(open_backend(choose(), networks, loaded.networks))
    fold = line.begin([loaded.bundle])
    for data in files:
        fold = line.add(fold, data)
    runs = []
    for _ in range(6):
        clocked.spent = {}
        began = time.perf_counter()
        line.finish(fold, loaded.bundle, clocked)
        took = time.perf_counter() - began
        runs.append({**clocked.spent, "interpret": took - sum(clocked.spent.values())})
    clocked.close()
    return {name: statistics.median(run[name] for run in runs[1:]) for name in runs[-1]}


class _Clocked:
    """A backend whose calls are timed by name."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.spent: dict[str, float] = {}
        self.ref = backend.ref
        self.prepare = partial(self._call, "prepare", backend.prepare)
        self.gather = partial(self._call, "prepare", backend.gather)
        self.rest = backend.rest
        self.close = backend.close

    def infer(self, role: str, image: Any) -> Any:
        return self._call(role, partial(self._backend.infer, role), image)

    def _call(self, name: str, function: Any, *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - began
