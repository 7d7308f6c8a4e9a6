"""Pausing, listing, retrying, dropping."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from uuid import UUID

import pytest
from rich.console import Console

from appliance.errors import ScansideError
from appliance.publish import pause
from appliance.results import destinations
from appliance.results.owed import Owed
from appliance.results.pacs import Ordered
from appliance.settings import Deliver, Settings
from appliance.store import bell
from appliance.store.journal import Journal
from appliance.verbs import outbox
from rigs.peers import an_event


@pytest.fixture
def journal(tmp_path: Path):
    with Journal.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path)


def test_a_pause_is_durable_and_idempotent(tmp_path: Path) -> None:
    assert pause.set_paused(tmp_path, True)
    assert not pause.set_paused(tmp_path, True)
    assert pause.paused(tmp_path)
    assert pause.set_paused(tmp_path, False)
    assert not pause.set_paused(tmp_path, False)
    assert not pause.paused(tmp_path)


def test_list_shows_what_waits_and_what_is_dead_in_order(journal, site) -> None:
    journal.owed.add([an_event(n) for n in range(3)])
    first, second, _ = (row.key for row in journal.owed.waiting("mqtt", 3))
    journal.owed.never("mqtt", second, "PUBACK 0x90")
    journal.owed.ack("mqtt", [first])
    rows = outbox.listed(site)
    assert [row.state for row in rows] == ["dead", "waiting"]
    out = io.StringIO()
    shown = outbox.table(rows, datetime.now(timezone.utc), journal.owed.counts())
    Console(file=out, width=120).print(shown)
    assert "outbox: 1 waiting, 1 dead" in out.getvalue()
    dead, waiting = out.getvalue().splitlines()[-3:-1]
    assert all(word in dead for word in ("2", "mqtt", "dead", "study/", "/event"))
    assert "PUBACK 0x90" in dead
    assert all(word in waiting for word in ("3", "mqtt", "waiting"))


def test_what_draws_no_seq_is_listed_and_named_by_its_key(journal, site) -> None:
    journal.owed.add([Owed("archive", "report-1", None, b"bytes"), an_event(1)])
    journal.owed.never("archive", "report-1", "refused")
    out = io.StringIO()
    rows = outbox.listed(site)
    Console(file=out, width=120).print(
        outbox.table(rows, datetime.now(timezone.utc), journal.owed.counts())
    )
    assert [row.destination for row in rows] == ["archive", "mqtt"]
    assert "report-1" in out.getvalue()
    assert outbox.retry(site, "report-1") == 1
    outbox.drop(site, "report-1")
    assert [row.destination for row in outbox.listed(site)] == ["mqtt"]


def test_objects_for_an_archive_are_shown_with_their_keys_and_tried_again(
    journal, tmp_path: Path
) -> None:
    archive = {"name": "pacs", "host": "h", "called_ae": "A"}
    site = Settings.model_validate({"state": tmp_path, "deliver": [archive]})
    one = Ordered(report_id=UUID(int=1), stage="final", edition=1, kind="sr", file="x.dcm")
    body = one.model_dump_json().encode()
    journal.owed.add(Owed("pacs", key, None, body) for key in ("k 1", "k 2"))
    journal.owed.composed("pacs", "k 1", PurePosixPath("outgoing/x.dcm"))
    journal.owed.never("pacs", "k 1", "C-STORE 0xA900")
    out = io.StringIO()
    table = outbox.table(
        outbox.listed(site), datetime.now(timezone.utc), journal.owed.counts(),
        destinations.of(site.deliver),
    )  # fmt: skip
    Console(file=out, width=250).print(table)
    dead, waiting = out.getvalue().splitlines()[-3:-1]
    assert "sr of report" in dead
    assert "(--key 'k 1')" in dead
    assert "C-STORE 0xA900" in dead
    assert "not composed yet (--key 'k 2')" in waiting
    (tmp_path / "run").mkdir()
    with bell.hearing(tmp_path, "deliver") as rung, bell.hearing(tmp_path, "work") as hints:
        assert outbox.retry(site, "k 1") == 1
        assert bell.take(rung)
        assert bell.take(hints), "what was never composed is composed at once"
    outbox.drop(site, "k 1", "pacs")
    assert [row.key for row in outbox.listed(site)] == ["k 2"]


def test_to_look_at_the_outbox_changes_nothing(journal, site) -> None:
    journal.owed.add([an_event(1)])
    journal.close()
    before = {path.name: path.read_bytes() for path in site.state.iterdir()}
    outbox.show(site)
    assert {path.name: path.read_bytes() for path in site.state.iterdir()} == before


def test_retry_makes_the_dead_wait_again_wakes_the_stage_and_is_audited(journal, site) -> None:
    (site.state / "run").mkdir()
    journal.owed.add([an_event(1)])
    (row,) = journal.owed.waiting("mqtt", 1)
    journal.owed.never("mqtt", row.key, "x")
    with bell.hearing(site.state, "publish") as heard:
        assert outbox.retry(site) == 1
        assert bell.take(heard)
    assert [r.key for r in journal.owed.waiting("mqtt", 5)] == [row.key]
    assert [r.action for r in journal.audit.rows()] == ["outbox_retry"]
    assert outbox.retry(site) == 0
    with pytest.raises(ScansideError, match=f"message {row.seq} is not dead"):
        outbox.retry(site, row.seq)


def test_of_a_long_list_the_first_are_shown_and_all_are_counted(
    journal, site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.owed.add([an_event(n) for n in range(5)])
    all_of_them = outbox.listed
    monkeypatch.setattr(outbox, "listed", lambda settings: all_of_them(settings, 3))
    outbox.show(site)
    said = capsys.readouterr().out
    assert "outbox: 5 waiting, 0 dead" in said
    assert "the first 3 are shown" in said


def test_drop_takes_one_by_its_number_and_is_audited(journal, site) -> None:
    journal.owed.add([an_event(1), an_event(2)])
    first, second = journal.owed.waiting("mqtt", 2)
    outbox.drop(site, first.seq)
    assert [r.seq for r in journal.owed.waiting("mqtt", 5)] == [second.seq]
    assert journal.audit.rows()[0].detail["seq"] == first.seq
    assert journal.audit.rows()[0].actor.startswith("uid ")
    with pytest.raises(ScansideError, match="neither waiting nor dead"):
        outbox.drop(site, first.seq)


def test_what_is_owed_to_two_may_be_dropped_for_one(journal, site) -> None:
    journal.owed.add([Owed(to, "report-1", None, b"bytes") for to in ("archive", "viewer")])
    with pytest.raises(ScansideError, match="neither waiting nor dead for printer"):
        outbox.drop(site, "report-1", "printer")
    outbox.drop(site, "report-1", "archive")
    assert [row.destination for row in outbox.listed(site)] == ["viewer"]
    (audited,) = journal.audit.rows()
    assert (audited.detail["key"], audited.detail["to"]) == ("report-1", "archive")
    with pytest.raises(ScansideError, match="for archive"):
        outbox.drop(site, "report-1", "archive")
    outbox.drop(site, "report-1")
    assert outbox.listed(site) == []


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


def test_all_that_an_archive_is_owed_is_dropped_once_the_settings_do_not_name_it(
    journal, site
) -> None:
    journal.owed.add([Owed("old", f"k {n}", None, b"{}") for n in range(3)])
    journal.owed.add([Owed("new", "k 0", None, b"{}")])
    journal.owed.never("old", "k 1", "0xA900")
    named = site.model_copy(
        update={"deliver": (Deliver(name="old", host="127.0.0.1", called_ae="PACS"),)}
    )
    with pytest.raises(ScansideError, match="old is named in the settings"):
        outbox.drop_all(named, "old")
    assert outbox.drop_all(site, "old") == 3
    assert [(row.destination, row.key) for row in outbox.listed(site)] == [("new", "k 0")]
    (said,) = journal.audit.rows()
    assert (said.action, said.detail) == ("outbox_drop", {"to": "old", "count": 3})
    assert outbox.drop_all(site, "old") == 0
