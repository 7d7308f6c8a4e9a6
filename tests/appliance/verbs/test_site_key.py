"""A person asks which key makes the pseudonyms, and accepts another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.site_key import fingerprint, register, site_key
from appliance.verbs import site_key as verb


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
