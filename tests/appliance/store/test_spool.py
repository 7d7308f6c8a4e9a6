"""The spool: one file, one acknowledged instance."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import InstanceRefused
from appliance.report import SeriesKey
from appliance.store.spool import Spool, checked_uid

STUDY, SERIES, SOP = "1.2.3", "1.2.3.4", "1.2.3.4.5"


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def incoming(spool: Spool, data: bytes = b"data") -> Path:
    path = spool.incoming_path()
    path.write_bytes(data)
    return path


def test_a_stored_instance_is_listed_and_its_temporary_file_is_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.store(incoming(spool), STUDY, SERIES, SOP, same_bytes) == "stored"
    assert spool.series() == [SeriesKey(STUDY, SERIES)]
    found = spool.instances(SeriesKey(STUDY, SERIES))
    assert found == {SOP: tmp_path / "spool" / STUDY / SERIES / f"{SOP}.dcm"}
    assert found[SOP].read_bytes() == b"data"
    assert not list((tmp_path / "incoming").iterdir())


def test_the_same_content_twice_is_stored_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.store(incoming(spool), STUDY, SERIES, SOP, same_bytes)
    assert spool.store(incoming(spool), STUDY, SERIES, SOP, same_bytes) == "duplicate"
    assert not list((tmp_path / "incoming").iterdir())


def test_other_content_under_a_known_uid_is_refused_and_the_first_one_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.store(incoming(spool, b"first"), STUDY, SERIES, SOP, same_bytes)
    with pytest.raises(InstanceRefused) as refused:
        spool.store(incoming(spool, b"other"), STUDY, SERIES, SOP, same_bytes)
    assert (refused.value.status, refused.value.code) == (0x0111, "duplicate_sop_instance")
    assert spool.instances(SeriesKey(STUDY, SERIES))[SOP].read_bytes() == b"first"


@pytest.mark.parametrize(
    "uid",
    [
        *(None, "", ".", "..", "../../x", "1..2", ".1", "1.", "1/2", "1.2\n", "1.2\0"),
        *("１.2", "1" * 65, "1.2.x", " 1.2", "~", "1.2.dcm"),
    ],
)
def test_what_is_no_uid_never_becomes_a_path(tmp_path: Path, uid: str | None) -> None:
    spool = Spool(tmp_path / "state")
    for parts in ((uid, SERIES, SOP), (STUDY, uid, SOP), (STUDY, SERIES, uid)):
        with pytest.raises(InstanceRefused) as refused:
            spool.store(incoming(spool), *parts, same_bytes)
        assert (refused.value.status, refused.value.code) == (0xC000, "bad_uid")
        assert not uid or len(uid) < 2 or uid not in refused.value.text
    assert not [p for p in (tmp_path / "state" / "spool").iterdir() if p.name != ".lock"]


def test_leading_zeros_of_real_scanners_are_tolerated() -> None:
    assert checked_uid("1.02.003.0", "SOPInstanceUID") == "1.02.003.0"


@pytest.mark.parametrize("names_lost", [True, False])
@pytest.mark.parametrize("at", range(18))
def test_what_was_acknowledged_survives_a_power_cut_at_any_step(
    tmp_path: Path, cut_disk: Any, power_cut: Any, at: int, names_lost: bool
) -> None:
    Spool(tmp_path)
    spool = Spool(tmp_path, cut_disk(tmp_path, at, names_lost=names_lost))
    acknowledged = []
    try:
        for n in range(3):
            temp = incoming(spool)
            spool.store(temp, STUDY, SERIES, f"1.{n}", same_bytes)
            acknowledged.append(f"1.{n}")
    except power_cut:
        pass
    found = Spool(tmp_path).instances(SeriesKey(STUDY, SERIES))
    assert set(acknowledged) <= set(found)
    assert all(path.read_bytes() == b"data" for path in found.values())


def _race(root: Path, barrier: Any, answers: Any, data: bytes) -> None:
    spool = Spool(root)
    temps = [incoming(spool, data) for _ in range(40)]
    barrier.wait()
    for n, temp in enumerate(temps):
        try:
            answers.put((n, spool.store(temp, STUDY, SERIES, f"1.{n}", same_bytes)))
        except InstanceRefused as e:
            answers.put((n, e.code))


@pytest.mark.parametrize(
    ("second", "loser"), [(b"same", "duplicate"), (b"other", "duplicate_sop_instance")]
)
def test_of_two_racing_senders_one_stores_and_nothing_is_overwritten(
    tmp_path: Path, second: bytes, loser: str
) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_race, args=(tmp_path, barrier, answers, data))
        for data in (b"same", second)
    ]
    for process in processes:
        process.start()
    got = [answers.get(timeout=60) for _ in range(80)]
    for process in processes:
        process.join(60)
    for n in range(40):
        assert sorted(answer for m, answer in got if m == n) == sorted(["stored", loser])
    assert len(Spool(tmp_path).instances(SeriesKey(STUDY, SERIES))) == 40


def test_deleting_takes_a_series_at_one_stroke_unless_more_came(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    key = SeriesKey(STUDY, SERIES)
    for n in range(3):
        spool.store(incoming(spool), STUDY, SERIES, f"1.{n}", same_bytes)
    assert not spool.delete(key, expected=2)
    assert len(spool.instances(key)) == 3
    assert spool.delete(key, expected=3)
    assert spool.series() == []
    assert not list((tmp_path / "incoming").iterdir())
    assert spool.delete(key, expected=3), "deleting again goes on where a power cut stopped"


def test_the_quarantine_keeps_bytes_and_reason(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    kept = spool.quarantine(incoming(spool, b"junk"), "not DICOM")
    assert kept.read_bytes() == b"junk"
    assert json.loads(kept.with_suffix(".json").read_text())["why"] == "not DICOM"
    assert {path for path, _ in spool.quarantined()} == {kept, kept.with_suffix(".json")}


def test_only_stale_temporary_files_are_cleared(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    stale, fresh = incoming(spool), incoming(spool)
    os.utime(stale, (time.time() - 500, time.time() - 500))
    assert spool.clear_incoming(idle_s=100) == 1
    assert not stale.exists()
    assert fresh.exists()


def test_names_that_are_not_ours_are_not_listed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.store(incoming(spool), STUDY, SERIES, SOP, same_bytes)
    (tmp_path / "spool" / "lost+found").mkdir()
    (tmp_path / "spool" / STUDY / SERIES / "notes.txt").write_text("x")
    (tmp_path / "spool" / STUDY / SERIES / ".1.2.dcm.tmp").write_text("x")
    assert spool.series() == [SeriesKey(STUDY, SERIES)]
    assert list(spool.instances(SeriesKey(STUDY, SERIES))) == [SOP]


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "state")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.2.3.4.dcm").write_bytes(b"not ours")
    study = tmp_path / "state" / "spool" / "1.2"
    study.mkdir()
    (study / "1.2.3").symlink_to(outside)
    real = study / "1.2.5"
    real.mkdir()
    (real / "1.2.5.1.dcm").symlink_to(outside / "1.2.3.4.dcm")
    (real / "1.2.5.2.dcm").write_bytes(b"ours")
    assert spool.series() == [SeriesKey("1.2", "1.2.5")]
    assert list(spool.instances(SeriesKey("1.2", "1.2.5"))) == ["1.2.5.2"]
