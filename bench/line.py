"""From the last slice to PUBACK: R01-001, a real chest CT, sent by storescu to the real line.

    last slice -> [spooled, folded] -> plausible end -> segment, propose, classify -> report
               -> outbox -> broker -> PUBACK

Rules
- Times are the product's own: the file's mtime is the last slice (its acknowledgement follows the
  sync of file and folder), `times` of the report, the outbox row's PUBACK. Broker, sender, all
  stages and this program share the machine's cores.
- Each run has new UIDs, so that nothing is known before.
- The first findings are out when the last message of the preliminary report is acknowledged.
- The banner of the page is there when the in-room check is committed, with its event `checked`.
- When the analysis begins, ends and what it is made of, `work` itself notes (bench/trace).
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from appliance.results.mqtt import MQTT, Envelope
from appliance.store.delivery import State
from bench.figure import Figure
from bench.site import STORESCU, TREE, Site, running, trace, traced

SERIES = "R01-001"
RUNS = 10
IN_A_ROW = 8
AT_ONCE = ("CT1", "CT2", "CT3")
EACH = 3
AIM_S = 0.8
CHECKED_S = 1.0


def figures() -> Iterator[Figure]:
    """Latency, its parts, throughput. None, with the reason, where data or dcmtk is missing."""
    images = chest_ct()
    if images is None:
        return
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        folder = Path(name)
        notes = folder / "trace"
        with running(folder, traced(notes)) as site:
            analysed(site, folder, images, ("WARM",), 1)  # does not count
            alone = [analysed(site, folder, images, ("CT1",), 1)[0] for _ in range(RUNS)]
            yield from _latency(alone, trace(notes, "finish")[-RUNS:])
            in_a_row = analysed(site, folder, images, ("CT1",), IN_A_ROW)
            usual = statistics.median(row["first_out"] - row["last"] for row in alone)
            yield from _throughput(f"{IN_A_ROW} studies in a row", in_a_row, usual)
            at_once = analysed(site, folder, images, AT_ONCE, EACH)
            yield from _throughput(f"{len(AT_ONCE)} scanners, {EACH} studies each", at_once, usual)


def chest_ct() -> list[Any] | None:
    """R01-001; None, and the reason is printed, where it or dcmtk is missing."""
    if not STORESCU.exists():
        print("line: left out, dcmtk is not installed (apt-get install dcmtk)")
        return None
    folder = series_folder("line")
    return (
        None if folder is None else [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    )


def series_folder(part: str) -> Path | None:
    """Where R01-001 lies; None, and the reason is printed, where it is missing."""
    shared = TREE.parent / "shared" / "data" / "ct" / SERIES
    if shared.is_dir():
        return shared
    print(f"{part}: left out, {SERIES} is not at {shared}")
    return None


Row = dict[str, float]
"""Of one series, seconds since 1970: sent, first, last, released, folded, inferred, committed,
checked (its first in-room check is committed), first_out (PUBACK of the last preliminary message),
complete (the verdict), last_out (PUBACK of the last message); images."""


def analysed(
    site: Site, folder: Path, images: Sequence[Any], senders: Sequence[str], each: int
) -> list[Row]:
    """Each sender sends `each` studies, one association after the other; what the journal says."""
    series: list[str] = []
    folders: dict[str, list[Path]] = {}
    for ae in senders:
        for _ in range(each):
            path = folder / "files" / generate_uid()
            series.append(copied(images, path))
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


def copied(images: Sequence[Any], folder: Path) -> str:
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
        """SELECT body, created, delivered_at FROM owed
        WHERE series_uid = ? AND destination = ? AND state = ? ORDER BY id""",
        (series, MQTT, State.DELIVERED),
    )
    messages_said = [
        (
            json.loads(Envelope.model_validate_json(row["body"]).payload),
            row["created"],
            row["delivered_at"],
        )
        for row in messages
    ]
    early_ones = [
        one for one in messages_said if "preliminary" in (one[0].get("event"), one[0].get("stage"))
    ]
    first = early_ones or messages_said  # the verdict was there before anything preliminary
    checks = [created for said, created, _ in messages_said if said.get("event") == "checked"]
    return {
        "sent": began,
        "images": early["series"]["slices"],
        "first": times["first_slice"],
        "last": times["last_slice"],
        "released": times["released"],
        "folded": times["prepared"],
        "inferred": times["inferred"],
        "committed": min(created for _, created, _ in first),
        "checked": min(checks),
        "first_out": max(at for *_, at in first),
        "complete": _seconds(reports["final"]["times"]["complete"]),
        "last_out": max(at for *_, at in messages_said),
    }


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def _latency(rows: Sequence[Row], analyses: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """`analyses`: the trace of the analysis of each series."""

    def median(begin: str, end: str) -> float:
        return statistics.median(row[end] - row[begin] for row in rows)

    def noted(value: Callable[[Row, dict[str, Any]], float]) -> float:
        return statistics.median(map(value, rows, analyses))

    made = {
        "to the last slice folded": median("last", "folded"),
        "to the start of the analysis": noted(lambda row, one: one["begin"] - row["folded"]),
        **{
            name: noted(lambda _, one, name=name: one["spent"][name])  # type: ignore[misc]
            for name in analyses[0]["spent"]
        },
        "interpret": noted(lambda _, one: interpret_s(one)),
        "report, masks, commit": noted(lambda row, one: row["committed"] - one["end"]),
        "publish, PUBACK": median("committed", "first_out"),
    }
    first = [row["first_out"] - row["last"] for row in rows]
    last = [row["last_out"] - row["last"] for row in rows]
    what = f"{SERIES}, last slice to PUBACK"
    yield Figure(f"{what}, first findings, p50 of {len(rows)}", _p(first, 50), "s", AIM_S, made)
    yield Figure(f"{what}, first findings, p95", _p(first, 95), "s", AIM_S)
    checked = [row["checked"] - row["last"] for row in rows]
    yield Figure(f"{SERIES}, last slice to the banner, p50", _p(checked, 50), "s", CHECKED_S)
    ended = {
        "quiet time and verdict": median("last", "complete"),
        "report, publish, PUBACK": median("complete", "last_out"),
    }
    yield Figure(f"{what}, final, p50", _p(last, 50), "s", parts=ended)
    yield Figure(f"{what}, final, p95", _p(last, 95), "s")


def interpret_s(analysis: dict[str, Any]) -> float:
    """Seconds of an analysis that its backend did not take."""
    whole = float(analysis["end"]) - float(analysis["begin"])
    return whole - float(sum(analysis["spent"].values()))


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
