"""Files that several recipes make at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from training.errors import DataError
from training.read.files import whole, whole_folder

REPOSITORY = Path(__file__).resolve().parents[3]
MAKER = """
import sys, time
from pathlib import Path
from training.read.files import whole
own, other, path = (Path(word) for word in sys.argv[1:])
with whole(path) as file:
    file.write(b"the first half, ")
    file.flush()
    own.touch()
    end = time.monotonic() + 60
    while not other.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not path.exists() or path.read_bytes() == b"the first half, the second"
    file.write(b"the second")
"""


def test_two_processes_that_make_the_same_file_at_once_both_leave_it_whole(tmp_path: Path) -> None:
    a, b, path = tmp_path / "a", tmp_path / "b", tmp_path / "made.npy"
    makers = [
        subprocess.Popen([sys.executable, "-c", MAKER, *map(str, names)], cwd=REPOSITORY)
        for names in ((a, b, path), (b, a, path))
    ]
    assert [maker.wait(timeout=120) for maker in makers] == [0, 0]
    assert path.read_bytes() == b"the first half, the second"
    assert sorted(tmp_path.iterdir()) == [a, b, path]


def broken(path: Path) -> None:
    with whole(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_a_file_that_broke_while_it_was_made_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        broken(tmp_path / "made.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_there_once_it_is_whole_and_never_replaces_another(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "series"

    def break_off(part: Path) -> None:
        (part / "0.dcm").write_bytes(b"one slice")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left"), whole_folder(out, "--out") as part:
        break_off(part)
    assert list(out.parent.iterdir()) == []
    with whole_folder(out, "--out") as part:
        (part / "0.dcm").write_bytes(b"one slice")
        assert not out.exists()
    assert [p.name for p in out.parent.iterdir()] == ["series"]
    with (
        pytest.raises(DataError, match="already there; remove it or choose another --out"),
        whole_folder(out, "--out"),
    ):
        raise AssertionError("it must not be entered")
    assert (out / "0.dcm").read_bytes() == b"one slice"
