"""Shared CTs: which may be trained on, and what a series that is none says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

import pytest

from training.errors import DataError
from training.read.folders import shared_folder
from training.read.shared_series import (
    NEVER_TRAIN,
    TRAINING_SERIES,
    host_boxes,
    known_lesions,
    nodule_hosts,
    read_series,
    series_folder,
    training_series,
)


@pytest.mark.parametrize("name", NEVER_TRAIN)
def test_series_without_a_licence_to_train_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="may not be trained on"):
        training_series(tmp_path, name)


def test_slices_of_8_mm_are_no_host_of_nodules() -> None:
    assert nodule_hosts("R01-001,A0001") == ["R01-001", "A0001"]
    with pytest.raises(DataError, match="A0002 has slices of 8 mm: it counts for masses alone"):
        nodule_hosts("R01-001,A0002")


def test_marks_of_radiologists_are_truth_from_three_on_and_those_of_engineers_are_told_apart(
    tmp_path: Path,
) -> None:
    truth = tmp_path / "data" / "ct-truth"
    truth.mkdir(parents=True)
    place = {"center_lps_mm": [1, 2, 3], "diameter_mm": 7}
    by_eye = [{**place, "what": "a likely nodule"}]
    (truth / "known-lesions.json").write_text(json.dumps({"note": "x", "A": by_eye}))
    read = [{**place, "readers": n} for n in (4, 3, 2, 1)] + [{**place, "readers": 4, "ignore": 1}]
    (truth / "lidc-readers.json").write_text(json.dumps({"note": "x", "B": read}))
    (eye,) = known_lesions(tmp_path, "A")
    assert (eye.by_eye, eye.ignore, eye.what) == (True, False, "a likely nodule")
    marks = known_lesions(tmp_path, "B")
    assert [m.ignore for m in marks] == [False, False, True, True, True]
    assert not any(m.by_eye for m in marks)
    assert known_lesions(tmp_path, "C") == []
    (truth / "lidc-readers.json").write_text(json.dumps({"B": [{"readers": 4}]}))
    with pytest.raises(DataError, match=r"lidc-readers\.json: not a list of center_lps_mm"):
        known_lesions(tmp_path, "B")


@pytest.mark.skipif(
    not (shared_folder() / "data" / "ct-truth").is_dir(), reason="no ../shared/data"
)
def test_the_shared_cts_have_seven_nodules_of_three_readers_and_three_marks_to_ignore() -> None:
    marks = [m for n in TRAINING_SERIES for m in known_lesions(shared_folder(), n) if not m.by_eye]
    assert (len(marks), sum(m.ignore for m in marks)) == (10, 3)
    boxed = [n for n in TRAINING_SERIES if host_boxes(shared_folder(), n)]
    assert boxed == ["A0001", "A0002"]


def test_what_the_unpacking_said_is_the_error(tmp_path: Path) -> None:
    unpack = tmp_path / "data" / "unpack"
    unpack.parent.mkdir()
    unpack.write_text("#!/bin/sh\necho 'R01-001.zip: bad checksum' >&2\nexit 3\n")
    unpack.chmod(0o755)
    with pytest.raises(DataError, match=r"unpack: R01-001\.zip: bad checksum"):
        series_folder(tmp_path, "R01-001")


def test_a_series_that_is_no_series_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 images are no series"):
        read_series(tmp_path)
    (tmp_path / "0001.dcm").write_bytes(b"half")
    with pytest.raises(DataError, match=tmp_path.name):
        read_series(tmp_path)
