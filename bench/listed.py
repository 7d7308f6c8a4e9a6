"""The work list of 10,000 studies, by the real stage `scanside web` over HTTP.

    python -m bench listed

Rules
- Three series a study: one with a report, one set aside, one that in every fiftieth study is
  refused. They are written into the tables in one transaction: as the stages write them, each
  synced, it would take minutes.
- A figure is the median of REPEAT requests of one account, after one that does not count.
- A deep page is the one behind the study in the middle. A search is for three letters, with which
  every 4,096th pseudonym begins.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from appliance.naming import Naming
from appliance.report import (
    BackendRef,
    BundleRef,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)
from appliance.store.journal import JOURNAL_NAME, Journal
from bench.figure import Figure
from bench.page import rigs

STUDIES, REFUSED_OF, REPEAT = 10_000, 50, 20
AIM_MS = 200.0
BEGAN, APART_S = 1_700_000_000.0, 900.0
NAMING, DIGEST = Naming(bytes(range(32))), "a" * 64
BUNDLE = BundleRef(name="lung-nodule", version="1.0.0", digest=DIGEST)
SERIES = """INSERT INTO series (study_uid, series_uid, state, calling_ae, first_at, last_at,
    instances, updated, pseudonym) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
REPORTS = """INSERT INTO reports (report_id, study_uid, series_uid, bundle_digest, revision, status,
    stage, input_digest, json, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def figures() -> Iterator[Figure]:
    """The list, and what is asked of it."""
    middle = f"behind={BEGAN + APART_S * STUDIES / 2:.9f}-1000000"
    asked = {
        "first page": "/",
        "deep page": f"/?{middle}",
        "search": f"/?q={NAMING.study(_study(STUDIES // 3))[:3]}",
        "search that finds nothing": f"/?q={32 * 'f'}",
        "one scanner, deep page": f"/?scanner=CT2&{middle}",
        "what was not analysed": "/?status=not_analysed",
    }
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as folder:
        state = Path(folder) / "state"
        state.mkdir()
        _fill(state)
        web = rigs("web")["web"]
        with web.running(state) as page, page.logged_in("technologist") as browser:
            for what, address in asked.items():
                times = [_ms(browser, address) for _ in range(REPEAT + 1)][1:]
                name, parts = f"list of {STUDIES:,} studies, {what}", {"max": max(times)}
                yield Figure(name, statistics.median(times), "ms", AIM_MS, parts)


def _ms(browser: Any, address: str) -> float:
    began = time.perf_counter()
    browser.get(address).raise_for_status()
    return 1e3 * (time.perf_counter() - began)


def _study(number: int) -> str:
    return f"1.2.840.99.{number}"


def _fill(state: Path) -> None:
    """A journal with all of them, that is known to be whole."""
    Journal.open(state).close()
    with closing(sqlite3.connect(state / JOURNAL_NAME)) as db:
        for number in range(STUDIES):
            study, at = _study(number), BEGAN + APART_S * number
            pseudonym, scanner = NAMING.study(study), f"CT{number % 5}"
            third = "refused" if number % REFUSED_OF == 0 else "analysed"
            for nth, became in enumerate(("analysed", "set_aside", third)):
                times = (at + nth, at + nth + 60, 150, at + 90)
                db.execute(SERIES, (study, f"{study}.{nth}", became, scanner, *times, pseudonym))
            key = SeriesKey(study, f"{study}.0")
            report = _report(key, pseudonym)
            what = (report.revision, report.status, report.stage, report.input_digest)
            row = (*what, report.model_dump_json(), at + 80)
            db.execute(REPORTS, (str(report.report_id), key.study, key.series, DIGEST, *row))
        db.commit()
    Journal.open(state).close()


def _report(key: SeriesKey, pseudonym: str) -> Report:
    return Report(
        report_id=NAMING.report(key, BUNDLE.digest, DIGEST),
        input_digest=DIGEST,
        revision=1,
        status=Status.ANALYSED,
        stage=Stage.FINAL,
        study=StudyRef(pseudonym=pseudonym),
        series=SeriesRef(slices=150),
        bundle=BUNDLE,
        backend=BackendRef(name="openvino", precision="int8"),
    )
