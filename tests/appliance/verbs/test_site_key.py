"""A person asks which key makes the pseudonyms, and accepts another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from appliance.store.site_key import fingerprint, register, site_key
from appliance.verbs import site_key as verb
from rigs.entries import named
from rigs.reports import NAMING


def test_before_the_first_use_there_is_none_and_none_is_made(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state")
    assert "no site key yet" in verb.show(settings)
    assert not settings.state.exists()


def test_it_says_the_fingerprint_and_never_the_key(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    key = site_key(tmp_path)
    assert verb.show(settings) == f"site key {fingerprint(key)}"
    assert key.hex() not in verb.show(settings)


def test_a_lost_key_is_an_error_until_a_person_accepts_a_new_one(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    before = site_key(tmp_path)
    with Journal.open(tmp_path) as journal:
        register(journal, before, "work")
    (tmp_path / "site.key").unlink()
    with pytest.raises(StateUnusable) as caught:
        verb.show(settings)
    assert caught.value.code == "site_key_lost"
    said = verb.accept(settings)
    assert fingerprint(site_key(tmp_path)) in said
    assert site_key(tmp_path) != before
    assert fingerprint(site_key(tmp_path)) in verb.show(settings)
    assert "counts from now on" in said
    with Journal.open(tmp_path) as journal:
        audited = journal.audit.head()
    assert "counted already; nothing is changed" in verb.accept(settings), (
        "no stage must start again"
    )
    with Journal.open(tmp_path) as journal:
        assert journal.audit.head() == audited


def test_with_another_key_the_entries_of_earlier_exams_go(tmp_path: Path) -> None:
    settings, key = Settings(state=tmp_path), site_key(tmp_path)
    with Journal.open(tmp_path) as journal:
        register(journal, key, "work")
    held = Priors(tmp_path)
    held.keep(NAMING.patient("", "a12"), named(1), b"x", fingerprint=fingerprint(key))
    verb.accept(settings)
    assert len(held.all()) == 1, "the same key"
    (tmp_path / "site.key").write_bytes(bytes(32))
    verb.accept(settings)
    assert held.all() == ()
    with Journal.open(tmp_path) as journal:
        (row,) = journal.audit.of(("priors_deleted",))
    assert row.detail == {"why": "site_key", "count": 1}
