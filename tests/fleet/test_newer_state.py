"""An appliance that was rolled back starts on the state of its successor: every file that a later
release may have added to is read, and what was added is left out."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from appliance.bundle import gates, golden
from appliance.bundle.tables import ChoiceTable, InstalledTable, Tables
from appliance.records import Facts, Result
from appliance.report import BundleRef, Coverage, Report, Scored, Scores, SeriesKey, Status
from appliance.results.feedback import ReportScores
from appliance.results.mqtt import Envelope
from appliance.results.owed import Owed
from appliance.retain import age
from appliance.runtime.engine_shelf import EngineShelf, Failure, Here
from appliance.store import heartbeat, identities, kept
from appliance.store.events import BrokerAway
from appliance.store.files import DISK
from appliance.store.hand import Hand
from appliance.store.heartbeat import Heart, TroubleCode
from appliance.store.identities import Person
from appliance.store.journal import JOURNAL_NAME, Journal, damage
from appliance.store.journal.damage import Damage
from appliance.update.trust import MARK, Mark, Trust
from appliance.web.access.accounts import Account, Users
from appliance.web.access.kept import Kept
from appliance.web.access.passwords import Hashed
from rigs.feedback import act

ADDED = {"of_a_later_release": {"more": [1, 2]}}
DIGEST, OTHER = "a" * 64, "b" * 64
REPORT_ID = uuid.UUID(int=5)
KEY = SeriesKey("1.2", "1.2.3")
PERSON = Person(name="Doe, Jane", patient_id="4711")
SCORES = Scores(threshold=0.5, candidates=(Scored(score=0.4), Scored(score=0.1)))
GATE = golden.Gate(
    passed=True,
    results=(golden.GoldenResult(network="n", file="f", max_abs_diff=0.0, atol=1.0, passed=True),),
)
HERE = Here(
    library="tensorrt", version="10", architecture="sm_87", gpu="orin", board=None, power_mode=None,
    appliance="0.2.0",
)  # fmt: skip
FIELDS = {"accounts", "results", "troubles", "here", "password", "recall", "scores", "candidates"}
"""Names of fields in the files below that hold records; what else holds a table has keys."""


def widened(value: Any, *, is_record: bool = True) -> Any:
    """The JSON of records, as a later release would write it: each has a field more."""
    if isinstance(value, list):
        return [widened(one, is_record=is_record) for one in value]
    if not isinstance(value, dict):
        return value
    inside = {k: widened(v, is_record=not is_record or k in FIELDS) for k, v in value.items()}
    return inside | ADDED if is_record else inside


def add_to(path: Path, *, is_record: bool = True) -> None:
    text = path.read_text()
    path.write_text(json.dumps(widened(json.loads(text), is_record=is_record)))
    assert path.read_text() != text


@dataclass(frozen=True)
class Kind:
    """A file of state."""

    path: str
    """From the state folder on."""
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    is_record: bool = True
    """False for a table, whose rows are the records."""


def _kept(state: Path) -> object:
    report = Report.model_construct(report_id=REPORT_ID)
    facts = Facts("1.2", "1.2.3", "CT", 2, None, None, None, Coverage(), images=("1.3", "1.4"))
    result = Result(Status.NOT_ANALYSED, facts, input_digest=DIGEST, scores=SCORES)
    return kept.keep(state, report, result, ["1.3", "1.4"])


def _beat(state: Path) -> object:
    heart = Heart(state, "work")
    heart.suffer(TroubleCode.JOURNAL_DAMAGED, "it was")
    return heart.beat()


GATE_NAME = f"{DIGEST[:16]}-0.json"


def _gate(state: Path) -> None:
    DISK.make_folder(state / gates.FOLDER)
    made = gates.Kept(bundle=DIGEST, backend="onnxruntime", gate=GATE)
    DISK.write(state / gates.FOLDER / GATE_NAME, made.model_dump_json().encode())


def _trust(state: Path) -> Trust:
    return Trust(state, b"", datetime(2026, 1, 1, tzinfo=timezone.utc))


def _table(table: Any) -> Callable[[Path], object]:
    return lambda state: Tables(state, DISK).write(table)


def _engines(state: Path) -> EngineShelf:
    return EngineShelf(state, BundleRef(name="n", version="1.0.0", digest=DIGEST))


def _failed(state: Path) -> object:
    failure = Failure(code="engine_failed", text="it did", remedy="", here=HERE)
    return _engines(state)._write("failed.json", failure)


INSTALLED = InstalledTable.model_validate(
    {DIGEST: {"name": "lung-nodule", "version": "1.0.0", "signed_by": OTHER}}
)
CHOICES = ChoiceTable.model_validate({"lung-nodule": {"active": DIGEST, "previous": OTHER}})
USERS = Users(
    accounts=(
        Account(name="alice", role="radiologist", password=Hashed(salt="00" * 16, hash="0" * 64)),
    )
)
KINDS = {
    "accounts of the page": Kind(
        "web/users.json",
        lambda state: Kept(state, "users.json", Users).change(lambda _: USERS),
        lambda state: Kept(state, "users.json", Users).now(),
    ),
    "bundles on the shelf": Kind(
        "bundles/installed.json", _table(INSTALLED),
        lambda state: Tables(state, DISK).read(InstalledTable), is_record=False,
    ),
    "the active bundle": Kind(
        "bundles/active.json", _table(CHOICES),
        lambda state: Tables(state, DISK).read(ChoiceTable), is_record=False,
    ),
    "golden cases that passed": Kind(
        f"{gates.FOLDER}/{GATE_NAME}", _gate,
        lambda state: gates.Gates(state, None)._kept(DIGEST),
    ),
    "names of patients": Kind(
        f"{identities.FOLDER}/{REPORT_ID}.json",
        lambda state: identities.keep(state, REPORT_ID, PERSON),
        lambda state: identities.read(state, REPORT_ID),
    ),
    "images of a report": Kind(
        f"{kept.FOLDER}/{REPORT_ID}/images.json", _kept,
        lambda state: (kept.images(state, REPORT_ID), kept.scores(state, REPORT_ID)),
    ),
    "a record beside a report": Kind(
        f"{kept.FOLDER}/{REPORT_ID}/person.json",
        lambda state: kept.keep_record(state, REPORT_ID, "person", PERSON),
        lambda state: kept.kept_record(state, REPORT_ID, "person", Person),
    ),
    "what is known of ages": Kind(
        "seen.json",
        lambda state: DISK.write(
            state / "seen.json", age.Ledger(passed=9.0, first={"x": 4.0}).model_dump_json().encode()
        ),
        lambda state: age.read(state / "seen.json"),
    ),
    "a heartbeat": Kind(
        "run/work.beat", _beat, lambda state: heartbeat.read(state, "work")
    ),
    "a damage of the journal that is being mended": Kind(
        damage.DAMAGE_NAME,
        lambda state: damage.write(state, Damage(at=1.0, why="a bad page", file="x"), DISK),
        damage.read,
    ),
    "what could not be built": Kind(
        f"engines/{DIGEST[:16]}/failed.json", _failed,
        lambda state: _engines(state).failed(HERE),
    ),
    "below which no release is taken": Kind(
        MARK,
        lambda state: DISK.write(
            state / MARK, Mark(root=3, timestamp=4, roles={"stable": 7}).model_dump_json().encode()
        ),
        lambda state: _trust(state).mark(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_what_a_later_release_has_added_to_a_file_of_state_is_left_out(
    tmp_path: Path, name: str
) -> None:
    kind = KINDS[name]
    kind.write(tmp_path)
    before = kind.read(tmp_path)
    assert before
    add_to(tmp_path / kind.path, is_record=kind.is_record)
    assert kind.read(tmp_path) == before


def test_a_mark_of_a_later_release_still_blames_the_series_that_was_in_hand(tmp_path: Path) -> None:
    hand, path = Hand(tmp_path), tmp_path / "run" / "work.hand"
    with hand.holding(KEY, "judge"):
        add_to(path)
        found = hand.last()
    assert found is not None
    assert found.key == KEY


@pytest.fixture
def journal_of_a_later_release(tmp_path: Path, make_report: Callable[..., Report]) -> Path:
    """A state folder whose journal has, in everything that is JSON in it, a field more."""
    report = make_report()
    body = widened({"topic": "t", "qos": 1, "retain": False, "payload": "{}"})
    with Journal.open(tmp_path) as journal:
        owed = [Owed("mqtt", "k", KEY, json.dumps(body).encode())]
        journal.commit_report(report, KEY, owed=owed, series_state="analysed", instances=3)
        journal.events.add(BrokerAway(text="gone"))
        journal.feedback.say(act(report, "missed"), ReportScores(threshold=0.5, findings=1))
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME, isolation_level=None)) as db:
        named = "SELECT sql FROM sqlite_master WHERE name = 'feedback_never_changes'"
        (trigger,) = db.execute(named).fetchone()
        db.execute("DROP TRIGGER feedback_never_changes")
        for table, column, where in (
            ("reports", "json", "$.later"), ("reports", "json", "$.findings[0].later"),
            ("events", "detail", "$.later"), ("feedback", "scores", "$.later"),
        ):  # fmt: skip
            changed = db.execute(
                f"""UPDATE {table} SET {column} = json_set({column}, ?, 1)
                WHERE {column} IS NOT NULL""",  # noqa: S608 - the names above
                (where,),
            )
            assert changed.rowcount, table
        db.execute(trigger)
    return tmp_path


def test_what_a_later_release_has_added_to_what_the_journal_keeps_is_left_out(
    journal_of_a_later_release: Path, make_report: Callable[..., Report]
) -> None:
    report = make_report()
    with Journal.open(journal_of_a_later_release) as journal:
        assert journal.reports.get(report.report_id) == report
        assert journal.reports.of_series(KEY) == journal.reports.recent(9) == [report]
        assert [one.event.text for one in journal.events.of(BrokerAway)] == ["gone"]
        (said,) = journal.feedback.all()
        assert said.scores == ReportScores(threshold=0.5, findings=1)
        first, *_ = journal.owed.waiting("mqtt", 9)
        assert Envelope.stored(first.body or b"").topic == "t"
    assert damage.suspected(journal_of_a_later_release / JOURNAL_NAME) is None
