"""The files of web/: whole, of their owner alone, and never read as empty where damaged."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.report import Record
from appliance.web.access.kept import Kept
from rigs.cuts import Full


class Words(Record):
    words: tuple[str, ...] = ()


def with_word(word: str) -> Words:
    return Words(words=(word,))


def test_without_a_file_there_is_nothing_and_a_change_makes_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "words.json", Words)
    assert kept.now() == Words()
    kept.change(lambda _: with_word("a"))
    path = tmp_path / "web" / "words.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert kept.now().words == ("a",)


def test_a_change_of_another_process_is_seen_at_once(tmp_path: Path) -> None:
    here, there = (Kept(tmp_path, "words.json", Words) for _ in range(2))
    assert here.now() == Words()
    there.change(lambda _: with_word("a"))
    assert here.now().words == ("a",)
    there.change(lambda _: with_word("b"))
    assert here.now().words == ("b",)
    (tmp_path / "web" / "words.json").unlink()
    assert here.now() == Words()


def test_of_changes_at_the_same_time_none_is_lost(tmp_path: Path) -> None:
    def add(word: str) -> None:
        Kept(tmp_path, "words.json", Words).change(
            lambda before: Words(words=(*before.words, word))
        )

    threads = [threading.Thread(target=add, args=(str(n),)) for n in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert sorted(Kept(tmp_path, "words.json", Words).now().words) == sorted(map(str, range(20)))


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"words": 3}', b'{"other": []}', b"\xff" * 9])
def test_a_damaged_file_is_an_error_and_not_an_empty_list(tmp_path: Path, damaged: bytes) -> None:
    kept = Kept(tmp_path, "words.json", Words)
    kept.change(lambda _: with_word("a"))
    (tmp_path / "web" / "words.json").write_bytes(damaged)
    for read in (kept.now, lambda: kept.change(lambda words: words)):
        with pytest.raises(StateUnusable, match="damaged") as raised:
            read()
        assert raised.value.code == "web_file_damaged"


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(with_word("a").model_dump_json())
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "words.json").symlink_to(other)
    with pytest.raises(StateUnusable):
        Kept(tmp_path, "words.json", Words).now()


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    Kept(tmp_path, "words.json", Words).change(lambda _: with_word("a"))
    with pytest.raises(StateUnusable, match="No space"):
        Kept(tmp_path, "words.json", Words, Full()).change(lambda _: with_word("b"))
    assert Kept(tmp_path, "words.json", Words).now().words == ("a",)
