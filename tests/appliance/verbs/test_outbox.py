"""Waking, pausing, listing, retrying, dropping."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from pathlib import Path

import pytest
from rich.console import Console

from appliance.errors import ScansideError, StateUnusable
from appliance.publish import again, pause
from appliance.report import event_id
from appliance.settings import Settings
from appliance.store import bell
from appliance.store.database import Database
from appliance.store.journal import Journal
from appliance.verbs import outbox
from rigs.peers import a_report, an_event, commit


@pytest.fixture
def journal(tmp_path: Path):
    with Journal.open(tmp_path / "journal.sqlite") as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path)


def test_waking_nobody_is_no_error(tmp_path: Path) -> None:
    bell.wake(tmp_path)
    bell.wake(Path("/" + "x" * 300))


def test_waking_rings_the_bell_and_a_full_bell_does_not_block(tmp_path: Path) -> None:
    listening = bell.Bell(tmp_path)
    assert not listening.drain()
    for _ in range(5000):
        bell.wake(tmp_path)
    assert listening.drain()
    assert not listening.drain()
    listening.close()


def test_a_socket_left_by_a_killed_stage_is_replaced(tmp_path: Path) -> None:
    first = bell.Bell(tmp_path)
    first.close()
    second = bell.Bell(tmp_path)
    bell.wake(tmp_path)
    assert second.drain()
    second.close()


def test_a_path_too_long_for_a_socket_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable) as e:
        bell.Bell(tmp_path / ("x" * 120))
    assert "`state`" in e.value.remedy


def test_a_pause_is_durable_and_idempotent(tmp_path: Path) -> None:
    assert pause.set_paused(tmp_path, True)
    assert not pause.set_paused(tmp_path, True)
    assert pause.paused(tmp_path)
    assert pause.set_paused(tmp_path, False)
    assert not pause.set_paused(tmp_path, False)
    assert not pause.paused(tmp_path)


def test_list_shows_what_waits_and_what_is_dead_in_order(journal, site) -> None:
    journal.post([an_event(n) for n in range(3)])
    first, second, _ = (row.seq for row in journal.waiting(3))
    journal.bury(second, "PUBACK 0x90")
    journal.delivered(first)
    rows = outbox.listed(site)
    assert [row.state for row in rows] == ["dead", "waiting"]
    out = io.StringIO()
    shown = outbox.table(rows, datetime.now(timezone.utc), journal.outbox_counts())
    Console(file=out, width=120).print(shown)
    assert "outbox: 1 waiting, 1 dead" in out.getvalue()
    assert "PUBACK 0x90" in out.getvalue()
    assert "dead" in out.getvalue()


def test_retry_makes_the_dead_wait_again_wakes_the_stage_and_is_audited(journal, site) -> None:
    listening = bell.Bell(site.state)
    journal.post([an_event(1)])
    (row,) = journal.waiting(1)
    journal.bury(row.seq, "x")
    assert outbox.retry(site) == 1
    assert listening.drain()
    assert [r.event_id for r in journal.waiting(5)] == [row.event_id]
    assert [r.action for r in journal.audit_rows()] == ["outbox_retry"]
    assert outbox.retry(site) == 0
    with pytest.raises(ScansideError, match=f"message {row.seq} is not dead"):
        outbox.retry(site, row.seq)
    listening.close()


def test_of_a_long_list_the_first_are_shown_and_all_are_counted(
    journal, site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.post([an_event(n) for n in range(5)])
    all_of_them = outbox.listed
    monkeypatch.setattr(outbox, "listed", lambda settings: all_of_them(settings, 3))
    outbox.show(site)
    said = capsys.readouterr().out
    assert "outbox: 5 waiting, 0 dead" in said
    assert "the first 3 are shown" in said


def test_drop_takes_one_by_its_number_and_is_audited(journal, site) -> None:
    journal.post([an_event(1), an_event(2)])
    first, second = journal.waiting(2)
    outbox.drop(site, first.seq)
    assert [r.seq for r in journal.waiting(5)] == [second.seq]
    assert journal.audit_rows()[0].detail["seq"] == first.seq
    assert journal.audit_rows()[0].actor.startswith("uid ")
    with pytest.raises(ScansideError, match="neither waiting nor dead"):
        outbox.drop(site, first.seq)


def test_owe_again_takes_all_messages_of_one_report_and_its_withdrawal(
    journal, tmp_path: Path
) -> None:
    old = a_report("1")
    new = a_report("2").model_copy(update={"supersedes": old.report_id})
    commit(journal, old)
    commit(journal, new)
    for row in journal.waiting(100):
        journal.delivered(row.seq)
    sender = again.Again(Database(tmp_path / "journal.sqlite"))
    assert sender.owe_again(old) == 4
    ids = [row.event_id for row in journal.waiting(100)]
    assert ids[-1] == str(event_id(old.report_id, "superseded"))
    assert sender.owe_again(a_report("3")) == 0


def test_acknowledgements_that_came_together_are_one_transaction(journal) -> None:
    journal.post([an_event(n) for n in range(20)])
    said: list[str] = []
    journal._db._db.set_trace_callback(said.append)
    journal.delivered(*(row.seq for row in journal.waiting(19)))
    journal._db._db.set_trace_callback(None)
    assert said.count("COMMIT") == 1
    counts = journal.outbox_counts()
    (left,) = journal.waiting(20)
    assert (counts.delivered, counts.waiting, counts.oldest_waiting) == (19, 1, left.created)


def test_before_the_first_start_nothing_is_owed_and_looking_makes_no_journal(
    tmp_path: Path,
) -> None:
    fresh = Settings(state=tmp_path / "state")
    assert outbox.listed(fresh) == []
    assert outbox.retry(fresh) == 0
    with pytest.raises(ScansideError) as refused:
        outbox.drop(fresh, 1)
    assert refused.value.code == "not_owed"
    assert not fresh.state.exists()
