"""An instance is opened only where it fits into memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import line
from appliance.reasons import Code
from appliance.report import SeriesKey
from appliance.store.spool import Spool
from appliance.work import beginning
from appliance.work.followed import Followed
from appliance.work.opening import Unopened, opened

HUGE = 1 << 40


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A file of a terabyte, which is all hole."""
    path = tmp_path / "1.2.3.dcm"
    with path.open("wb") as file:
        file.truncate(HUGE)
    return path


def test_a_file_larger_than_the_memory_is_never_opened(tmp_path: Path, huge: Path) -> None:
    found = opened(Spool(tmp_path), huge, 100 << 20)
    assert isinstance(found, Unopened)
    assert found.reason.code is Code.TOO_LARGE
    assert found.reason.text.startswith("an image of 1048576 MiB, and 100 MiB of memory")


def test_a_file_that_fits_is_read_and_one_that_is_gone_is_none(tmp_path: Path) -> None:
    path = tmp_path / "1.2.3.dcm"
    path.write_bytes(b"12345")
    spool = Spool(tmp_path)
    assert opened(spool, path, 5) == b"12345"
    assert opened(spool, path, None) == b"12345"
    assert opened(spool, path, 0) == b"12345", "of what does not fit the fold has the figures"
    path.unlink()
    assert opened(spool, path, 0) is None


@pytest.mark.parametrize("first", [True, False])
def test_a_series_with_such_a_file_is_refused_wherever_it_came(
    tmp_path: Path, huge: Path, first: bool
) -> None:
    too_large = opened(Spool(tmp_path), huge, 0)
    assert too_large is not None
    followed = Followed(SeriesKey("1.1", "1.2"))
    data = [too_large, b"no DICOM"] if first else [b"no DICOM", too_large]
    for number, one in enumerate(data):
        beginning.begin(followed, one, ())
        followed.add(f"1.2.{number}", one, at=0.0, tick=float(number))
    assert followed.fold is not None
    result = line.finish(followed.fold, None, None)
    assert Code.TOO_LARGE in {reason.code for reason in result.reasons}
    assert result.facts.slices == 2
