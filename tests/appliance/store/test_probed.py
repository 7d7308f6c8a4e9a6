"""Figures of scanners: whole files, bounded, and a damaged one costs its own scanner alone."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store import probed as kept
from appliance.watching.probe import Probed, ProbedSeries
from appliance.watching.scanner import Scanner

NOON = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)


def probed(model: str, hour: int = 0, count: int = 1) -> Probed:
    at = NOON + timedelta(hours=hour)
    one = ProbedSeries(
        series=uuid.uuid4(),
        bundle="a" * 64,
        at=at,
        sizes_mm=(5.0,),
        found=(True,),
        beside=0,
        extra=0,
    )
    return Probed(scanner=Scanner(model=model), series=(one,) * count)


def test_what_was_kept_is_read_again_the_newest_scanner_first(tmp_path: Path) -> None:
    first, second = probed("A", 1), probed("B", 2)
    for one in (second, first):
        kept.keep(tmp_path, one)
    assert kept.all_of(tmp_path) == (second, first)
    assert kept.of_scanner(tmp_path, first.scanner) == first
    assert kept.of_scanner(tmp_path, Scanner(model="C")) == Probed(scanner=Scanner(model="C"))


@pytest.mark.parametrize("data", [b"", b"{}", b'{"schema": "scanside.probe/9"}', b"\xff" * 9])
def test_a_file_that_cannot_be_read_is_set_aside_and_begins_anew(
    tmp_path: Path, data: bytes
) -> None:
    one, other = probed("A"), probed("B")
    kept.keep(tmp_path, one)
    kept.keep(tmp_path, other)
    path = next(p for p in (tmp_path / "probe").iterdir() if "A" in p.read_text().split(",")[3])
    path.write_bytes(data)
    assert kept.all_of(tmp_path) == (other,)
    kept.keep(tmp_path, one)
    assert path.with_suffix(kept.DAMAGED).read_bytes() == data
    assert kept.of_scanner(tmp_path, one.scanner) == one


def test_the_scanner_that_was_probed_longest_ago_goes_first(tmp_path: Path) -> None:
    for hour in range(kept.MOST_SCANNERS + 1):
        kept.keep(tmp_path, probed(f"M{hour}", hour))
    models = [one.scanner.model for one in kept.all_of(tmp_path)]
    assert len(models) == kept.MOST_SCANNERS
    assert "M0" not in models
    assert models[0] == f"M{kept.MOST_SCANNERS}"


def test_the_last_series_of_a_scanner_are_kept(tmp_path: Path) -> None:
    many = probed("A", count=kept.MOST_SERIES + 5)
    kept.keep(tmp_path, many)
    assert len(kept.of_scanner(tmp_path, many.scanner).series) == kept.MOST_SERIES


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "probe").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateUnusable):
        kept.keep(tmp_path, probed("A"))


def test_what_a_killed_process_had_not_finished_is_removed(tmp_path: Path) -> None:
    kept.keep(tmp_path, probed("A"))
    left = tmp_path / "probe" / ".x.json.0123.tmp"
    left.write_bytes(b"half")
    kept.clear_unfinished(tmp_path)
    assert not left.exists()
    assert len(kept.all_of(tmp_path)) == 1
