"""How rows name readers: by a key of the page's own, which is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.web.access import names


def test_the_key_is_made_once_and_belongs_to_the_stage_alone(tmp_path: Path) -> None:
    first = names.key(tmp_path)
    assert len(first) == 32
    assert names.key(tmp_path) == first
    assert (tmp_path / "web" / "key").stat().st_mode & 0o777 == 0o600


def test_a_name_is_the_same_for_the_same_and_tells_nothing_without_the_key() -> None:
    one, other = b"a" * 32, b"b" * 32
    assert names.reader(one, "anna") == names.reader(one, "anna")
    assert len({names.reader(one, "anna"), names.reader(one, "ben"), names.reader(other, "anna"),
                names.session(one, "anna")}) == 4  # fmt: skip


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_damaged_key_is_an_error(tmp_path: Path, size: int) -> None:
    names.key(tmp_path)
    (tmp_path / "web" / "key").write_bytes(b"x" * size)
    with pytest.raises(StateUnusable) as raised:
        names.key(tmp_path)
    assert raised.value.code == "web_file_damaged"
