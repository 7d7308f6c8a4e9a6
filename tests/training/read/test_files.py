"""Files that several recipes make at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from training.read.files import whole

REPOSITORY = Path(__file__).resolve().parents[2]
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
