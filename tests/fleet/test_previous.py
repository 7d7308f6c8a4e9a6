"""Back and forth between this release, the one after it and the one before, each a process of its
own on one state folder; the one before is the wheel that is built of its commit."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.store.journal import JOURNAL_NAME, steps
from rigs.previous_release import COMMIT, REPOSITORY, installed, ran

DAY = """
import datetime, json, pathlib, sys
from appliance.naming import Naming
from appliance.report import BackendRef, BundleRef, Finding, Report, SeriesKey, SeriesRef, StudyRef
from appliance.results import destinations, mqtt
from appliance.store.events import BrokerAway
from appliance.store.journal import Journal
from appliance.store.spool import Spool

state, day, migrate = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "migrate"
at = datetime.datetime(2026, 1, day, tzinfo=datetime.timezone.utc)
naming, key, digest = Naming(bytes(32)), SeriesKey("1.2", f"1.2.{day}"), "a" * 64
spool = Spool(state)
temp = spool.incoming_path()
temp.write_bytes(b"an instance")
spool.store(temp, key.study, key.series, f"1.3.{day}", lambda one, other: False)
report = Report(
    report_id=naming.report(key, digest, "b" * 64), input_digest="b" * 64, revision=1,
    status="analysed", stage="final", study=StudyRef(pseudonym=naming.study("1.2")),
    series=SeriesRef(slices=1), backend=BackendRef(name="b", precision="fp32"),
    bundle=BundleRef(name="n", version="1.0.0", digest=digest),
    findings=(Finding(id=1, tracking_uid="2.25.1", kind="nodule", score=0.9, threshold=0.5,
        center_lps_mm=(0, 0, 0), box_lps_mm=(0, 0, 0, 1, 1, 1), key_image=0),),
)
with Journal.open(state) as journal:
    if migrate:
        journal.migrate("work")
    association = journal.series.association_opened(calling_ae="CT1", called_ae="S", host="h")
    journal.series.arrived(association, key, calling_ae="CT1", instances=1, at=at.timestamp())
    journal.series.association_ended(association, "released")
    owed = destinations.of_report(report, key, naming=naming, at=at, to=[mqtt.Mqtt()])
    journal.commit_report(report, key, owed=owed, series_state="analysed", instances=1)
    first = journal.owed.waiting("mqtt", 1)[0]
    journal.owed.ack("mqtt", [first.key])
    journal.told.keep(report.report_id, "final", 1, "told")
    journal.events.add(BrokerAway(text=f"day {day}"))
    journal.audit.add("alice", "login", day=day)
    journal.tidy(state)
    print(json.dumps({
        "reports": sorted(str(one.report_id) for one in journal.reports.recent(99)),
        "series": sorted(one.series_uid for one in journal.series.all("analysed")),
        "spool": sorted(one.series for one in spool.series()),
        "seqs": [row.seq for row in journal.owed.waiting("mqtt", 99)],
        "days": [one.event.text for one in journal.events.of(BrokerAway)][::-1],
        "audit": journal.audit.verify(), "acts": len(journal.audit.of(["login"])),
        "whole": journal.whole(),
    }))
"""
AFTER = """
from appliance.store.journal import steps
from rigs import later
steps.STEPS = {**steps.STEPS, **later.steps_to(steps.newest() + 1)}
"""
"""Makes of this release the one after it: its journal has made one step more."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("previous"))


def said(state: Path) -> steps.Header:
    with closing(sqlite3.connect(state / JOURNAL_NAME)) as db:
        return steps.header(db)


def check(seen: dict[str, Any], days: int) -> None:
    """All that was said and stored on so many days is there, and nothing twice."""
    assert seen["whole"] is None
    assert seen["audit"] is None
    assert len(seen["reports"]) == days
    assert seen["series"] == seen["spool"] == sorted(f"1.2.{n}" for n in range(1, days + 1))
    assert seen["days"] == [f"day {day}" for day in range(1, days + 1)]
    assert seen["acts"] == days
    assert seen["seqs"] == sorted(set(seen["seqs"]))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_each_release_goes_on_with_what_the_others_left(before: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    config = tmp_path / "scanside.toml"
    config.write_text(f'state = "{state}"\n[site]\nname = "ward"\ndevice = "box1"\n')

    def lives(who: str, day: int, migrate: bool = False) -> dict[str, Any]:
        """One day of one release; nobody relies on how the last one left the file."""
        (state / f"{JOURNAL_NAME}.users").unlink(missing_ok=True)
        python, packages = (before, None) if who == "before" else (Path(sys.executable), REPOSITORY)
        program = (AFTER if who == "after" else "") + DAY
        how = "migrate" if migrate else "trial"
        command = [str(python), "-c", program, str(state), str(day), how]
        seen: dict[str, Any] = json.loads(ran(command, packages))
        check(seen, day)
        return seen

    lives("before", 1)
    lives("this", 2)
    lives("before", 3)
    lives("this", 4, migrate=True)
    assert said(state).schema == steps.newest()
    lives("before", 5)
    lives("after", 6)
    assert said(state).schema == steps.newest(), "it is on trial"
    lives("this", 7)
    lives("after", 8, migrate=True)
    assert said(state) == (steps.newest() + 1, steps.FIRST)
    lives("this", 9)
    lives("before", 10)
    lives("after", 11)
    assert said(state) == (steps.newest() + 1, steps.FIRST), "nobody has taken it back"
    listed = ran([str(before), "-m", "appliance", "outbox", "list", "--config", str(config)])
    assert "waiting, 0 dead" in listed


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_release_before_is_the_wheel_of_its_commit_and_not_this_one(before: Path) -> None:
    program = "import appliance.store.journal as it; print(it.__file__)"
    found = Path(ran([str(before), "-c", program]).strip())
    assert found.is_relative_to(before.parent.parent), COMMIT
