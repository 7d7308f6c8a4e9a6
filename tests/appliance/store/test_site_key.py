"""The site key: made once, kept, never replaced unnoticed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.naming import Naming
from appliance.report import Report, SeriesKey
from appliance.store.files import Disk
from appliance.store.journal import JOURNAL_NAME, Journal, Manner
from appliance.store.site_key import (
    ACTION,
    KEY_BYTES,
    accept,
    fingerprint,
    is_used,
    known_fingerprint,
    register,
    site_key,
)


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    state = tmp_path / "state"
    key = site_key(state)
    assert len(key) == KEY_BYTES == 32
    assert site_key(state) == key
    assert [p.name for p in state.iterdir()] == ["site.key"]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    site_key(tmp_path)
    assert (tmp_path / "site.key").stat().st_mode & 0o777 == 0o600


def test_two_devices_have_two_keys(tmp_path: Path) -> None:
    assert site_key(tmp_path / "a") != site_key(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"short", b"k" * 33])
def test_a_damaged_key_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "site.key").write_bytes(content)
    with pytest.raises(StateUnusable, match=f"{len(content)} bytes") as caught:
        site_key(tmp_path)
    assert "backup" in caught.value.remedy
    assert (tmp_path / "site.key").read_bytes() == content


def test_stages_that_start_together_have_one_key(tmp_path: Path) -> None:
    gate, keys = threading.Barrier(8), []

    def start() -> None:
        gate.wait()
        keys.append(site_key(tmp_path))

    stages = [threading.Thread(target=start) for _ in range(8)]
    for stage in stages:
        stage.start()
    for stage in stages:
        stage.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert os.listdir(tmp_path) == ["site.key"]


def test_a_power_cut_at_any_step_leaves_no_key_or_a_whole_one(
    tmp_path: Path, cut_disk: Callable[..., Disk], power_cut: type[Exception]
) -> None:
    for names_lost in (False, True):
        for step in range(20):
            state = tmp_path / f"{step}-{names_lost}"
            state.mkdir()
            try:
                site_key(state, cut_disk(state, step, names_lost=names_lost))
            except power_cut:
                assert len(site_key(state)) == KEY_BYTES
                continue
            break
        else:
            pytest.fail("the disk was cut at every step")


def test_a_state_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateUnusable):
        site_key(tmp_path / "state")


@pytest.fixture
def mended(tmp_path: Path, make_report: Callable[..., Report]) -> Path:
    """A state folder whose journal was made anew: its audit knows no fingerprint, but one study was
    named with the key."""
    with Journal.open(tmp_path) as journal:
        key = site_key(tmp_path)
        register(journal, key, "work")
        report = make_report()
        named = report.study.model_copy(update={"pseudonym": Naming(key).study("1.2")})
        report = report.model_copy(update={"study": named})
        series = SeriesKey("1.2", "1.2.3")
        journal.commit_report(report, series, owed=[], series_state="analysed", instances=1)
    (tmp_path / JOURNAL_NAME).unlink()
    Journal.open(tmp_path, manner=Manner.MEND).close()
    return tmp_path


def test_after_a_damage_of_the_journal_the_key_that_named_the_studies_goes_on(mended: Path) -> None:
    assert known_fingerprint(mended) is None
    with Journal.open(mended) as journal:
        register(journal, site_key(mended), "work")
    assert known_fingerprint(mended) == fingerprint(site_key(mended))


@pytest.mark.parametrize(
    ("other", "code"), [(None, "site_key_lost"), (b"o" * KEY_BYTES, "site_key_changed")]
)
def test_after_a_damage_of_the_journal_another_key_is_still_none_or_refused(
    mended: Path, other: bytes | None, code: str
) -> None:
    (mended / "site.key").unlink()
    if other is not None:
        (mended / "site.key").write_bytes(other)
    with pytest.raises(StateUnusable) as caught:
        site_key(mended)
    assert caught.value.code == code
    assert "scanside site-key --accept" in caught.value.remedy
    assert is_used(mended)
    with Journal.open(mended) as journal:
        accept(journal, mended, "uid 0")
    assert other in (None, site_key(mended))


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A state folder whose audit knows its key."""
    with Journal.open(tmp_path) as journal:
        register(journal, site_key(tmp_path), "work")
    return tmp_path


def test_its_fingerprint_is_written_once_and_is_no_part_of_it(known: Path) -> None:
    key = site_key(known)
    with Journal.open(known) as journal:
        register(journal, key, "work")
        (row,) = journal.audit.of((ACTION,))
    assert row.detail == {"fingerprint": fingerprint(key)}
    assert known_fingerprint(known) == fingerprint(key)
    assert len(fingerprint(key)) == 16
    assert fingerprint(key) not in key.hex()
    assert fingerprint(key) != fingerprint(bytes(32))


def test_where_the_audit_knows_a_key_a_lost_one_is_not_made_anew(known: Path) -> None:
    (known / "site.key").unlink()
    with pytest.raises(StateUnusable) as caught:
        site_key(known)
    assert caught.value.code == "site_key_lost"
    assert "scanside site-key --accept" in caught.value.remedy
    assert not (known / "site.key").exists()


def test_another_key_than_the_audit_knows_is_refused(known: Path) -> None:
    (known / "site.key").write_bytes(b"o" * KEY_BYTES)
    with pytest.raises(StateUnusable, match=str(known_fingerprint(known))) as caught:
        site_key(known)
    assert caught.value.code == "site_key_changed"
    assert (known / "site.key").read_bytes() == b"o" * KEY_BYTES


@pytest.mark.parametrize("other", [b"o" * KEY_BYTES, None])
def test_a_person_accepts_another_key_and_that_is_audited(known: Path, other: bytes | None) -> None:
    before = known_fingerprint(known)
    (known / "site.key").unlink()
    if other is not None:
        (known / "site.key").write_bytes(other)
    with Journal.open(known) as journal:
        found = accept(journal, known, "uid 0")
        assert accept(journal, known, "uid 0") == found
        rows = journal.audit.of((ACTION,))
        assert [row.detail.get("before") for row in rows] == [None, before]
    key = site_key(known)
    assert fingerprint(key) == found == known_fingerprint(known)
    assert other in (None, key)


def test_a_file_that_is_no_key_is_not_accepted(known: Path) -> None:
    (known / "site.key").write_bytes(b"short")
    with Journal.open(known) as journal, pytest.raises(StateUnusable, match="5 bytes"):
        accept(journal, known, "uid 0")


def test_a_link_is_no_key(known: Path) -> None:
    (known / "site.key").rename(known / "elsewhere")
    (known / "site.key").symlink_to(known / "elsewhere")
    with pytest.raises(StateUnusable):
        site_key(known)
