"""Who the patient is: what is kept, what is taken out, and that it goes."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store import identities
from appliance.store.identities import LONGEST, Person

REPORT = uuid.UUID("00000000-0000-8000-8000-000000000001")


def test_a_person_is_kept_read_and_forgotten(tmp_path: Path) -> None:
    assert identities.read(tmp_path, REPORT) is None
    assert identities.kept(tmp_path) == []
    person = Person(name="山田, 太郎", patient_id="4711", birth_date="1960-02-29")
    identities.keep(tmp_path, REPORT, person)
    assert identities.read(tmp_path, REPORT) == person
    assert [path.name for path in identities.kept(tmp_path)] == [f"{REPORT}.json"]
    identities.forget(tmp_path, str(REPORT))
    identities.forget(tmp_path, str(REPORT))
    assert identities.read(tmp_path, REPORT) is None


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("Doe\u202e, enaJ\u202c", "Doe, enaJ"),  # would be read from right to left
        ("a\x00b\x1b[2Jc\nd", "ab[2Jc d"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # the template escapes it
        ("", ""),
    ],
)
def test_what_would_rewrite_the_page_is_taken_out_of_a_name(sent: str, shown: str) -> None:
    assert Person(name=sent).name == shown


def test_a_name_of_64_kilobytes_is_cut() -> None:
    name = Person(name="x" * 65536).name
    assert len(name) == LONGEST
    assert name.endswith("…")


def test_a_damaged_file_and_a_link_are_nobody(tmp_path: Path) -> None:
    folder = tmp_path / identities.FOLDER
    folder.mkdir()
    (folder / f"{REPORT}.json").write_text('{"name": 5}')
    assert identities.read(tmp_path, REPORT) is None
    (folder / f"{REPORT}.json").unlink()
    (tmp_path / "elsewhere.json").write_text('{"name": "Doe"}')
    (folder / f"{REPORT}.json").symlink_to(tmp_path / "elsewhere.json")
    assert identities.read(tmp_path, REPORT) is None
    identities.forget(tmp_path, str(REPORT))
    assert (tmp_path / "elsewhere.json").exists()


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / identities.FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateUnusable):
        identities.keep(tmp_path, REPORT, Person())
