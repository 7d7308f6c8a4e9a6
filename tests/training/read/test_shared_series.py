"""Shared CTs: which may be trained on, and what a series that is none says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

import pytest

from training.errors import DataError
from training.read.shared_series import NEVER_TRAIN, read_series, series_folder, training_series


@pytest.mark.parametrize("name", NEVER_TRAIN)
def test_series_without_a_licence_to_train_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="may not be trained on"):
        training_series(tmp_path, name)


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
