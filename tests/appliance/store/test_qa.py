"""Records of water phantoms: kept whole, and read whatever lies beside them."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.report import BundleRef
from appliance.store import qa
from appliance.watching.qa import QaRecord
from appliance.watching.scanner import Scanner

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)


def record(day: int) -> QaRecord:
    return QaRecord(
        report_id=uuid.UUID(int=day + 1),
        study="a" * 32,
        at=NOON + timedelta(days=day),
        scanner=Scanner(),
        bundle=BundleRef(name="water-qa", version="1.0.0", digest="b" * 64),
        input_digest="c" * 64,
        verdict="not_measured",
    )


def test_what_is_kept_is_read_again_the_oldest_first(tmp_path: Path) -> None:
    assert qa.every(tmp_path) == ()
    for day in (2, 0, 1):
        qa.keep(tmp_path, record(day))
    assert qa.every(tmp_path) == (record(0), record(1), record(2))
    assert qa.kept(tmp_path, record(1).report_id) == record(1)
    qa.keep(tmp_path, record(1))
    assert len(qa.every(tmp_path)) == 3, "the same report has one record"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[" * 99, b"\xff\xfe", b'{"schema": "scanside.qa/9"}', b"x" * 200_000]
)
def test_what_cannot_be_understood_is_passed_over(tmp_path: Path, data: bytes) -> None:
    qa.keep(tmp_path, record(0))
    bad = tmp_path / qa.FOLDER / f"{uuid.UUID(int=77)}.json"
    bad.write_bytes(data)
    (tmp_path / qa.FOLDER / "else.json").write_bytes(data)
    (tmp_path / qa.FOLDER / f"{uuid.UUID(int=78)}.json").mkdir()
    assert qa.every(tmp_path) == (record(0),)
    cut = tmp_path / qa.FOLDER / f"{record(0).report_id}.json"
    cut.write_bytes(cut.read_bytes()[:-20])
    assert qa.kept(tmp_path, record(0).report_id) is None


def test_no_link_is_followed(tmp_path: Path) -> None:
    qa.keep(tmp_path, record(0))
    there = tmp_path / qa.FOLDER / f"{record(0).report_id}.json"
    there.rename(tmp_path / "elsewhere")
    there.symlink_to(tmp_path / "elsewhere")
    assert qa.every(tmp_path) == ()
    linked = tmp_path / "other"
    linked.mkdir()
    (linked / qa.FOLDER).symlink_to(tmp_path / qa.FOLDER)
    with pytest.raises(StateUnusable):
        qa.keep(linked, record(1))


def test_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qa, "MOST", 3)
    for day in range(5):
        qa.keep(tmp_path, record(day))
    assert qa.every(tmp_path) == (record(2), record(3), record(4))
