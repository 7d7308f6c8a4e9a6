"""The doctor and the archives of earlier exams: asked, not queried, and the line is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.dicom.retrieve import CLASSES, FIND
from appliance.settings import Settings
from appliance.store.events import PriorsAsked
from appliance.store.journal import Journal
from appliance.verbs.checks.check import Check, Device
from appliance.verbs.checks.earlier import earlier
from rigs.peers import free_port
from rigs.queried import Odd, serving

PRIOR = {"ae_title": "PACS", "host": "192.0.2.30", "role": "prior"}
Checked = Callable[..., Check]


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    def check(*ports: int, allow: tuple[dict[str, str], ...] = (PRIOR,)) -> Check:
        rows = [{"name": f"pacs{port}", "address": f"PACS@127.0.0.1:{port}"} for port in ports]
        said = {"state": tmp_path, "priors": {"query": rows}, "dicom": {"allow": allow}}
        return earlier(Device(Settings.model_validate(said), "scanside.toml"))

    return check


def test_without_archives_there_is_nothing_to_ask(checked: Checked) -> None:
    found = checked(allow=())
    assert (found.ok, found.remedy) == (True, "")
    assert "no [[priors.query]]" in found.text


def test_an_archive_that_lets_us_look_and_may_store_is_well_and_is_asked_of_nobody(
    checked: Checked,
) -> None:
    with serving(Odd()) as archive:
        found = checked(archive.port)
    assert (found.ok, found.remedy) == (True, "")
    assert "answers C-ECHO with 0x0000" in found.text
    assert archive.asked == []


def test_a_service_that_it_does_not_accept_is_named(checked: Checked) -> None:
    with serving(Odd(), classes=(FIND,)) as archive:
        found = checked(archive.port)
    assert not found.ok
    assert "does not accept Study Root C-MOVE" in found.text
    assert "C-FIND" not in found.text
    assert f'[[priors.query]] name = "pacs{archive.port}"' in found.remedy
    assert set(CLASSES) > {FIND}


def test_one_that_is_away_is_named_and_the_other_is_asked(checked: Checked) -> None:
    away = free_port()
    with serving(Odd()) as archive:
        found = checked(away, archive.port)
    assert not found.ok
    assert "no connection" in found.text
    assert f'name = "pacs{away}": address' in found.remedy
    assert f'name = "pacs{archive.port}"' not in found.remedy


@pytest.mark.parametrize(
    ("allow", "words"),
    [
        ((), "may not store to us"),
        (({**PRIOR, "ae_title": "CT1"},), "may not store to us"),
        (({**PRIOR, "role": "exam"},), "taken for exams of today"),
        ((PRIOR, {**PRIOR, "role": "exam"}), "taken for exams of today"),
        (({**PRIOR, "ae_title": "*", "role": "exam"},), "taken for exams of today"),
    ],
)
def test_an_archive_that_may_not_store_earlier_exams_fails_with_the_line_to_add(
    checked: Checked, allow: tuple[dict[str, str], ...], words: str
) -> None:
    with serving(Odd()) as archive:
        found = checked(archive.port, allow=allow)
    assert not found.ok
    assert words in found.remedy
    assert 'role = "prior"' in found.remedy


def test_how_the_last_request_ended_is_said(checked: Checked, tmp_path: Path) -> None:
    with serving(Odd()) as archive, Journal.open(tmp_path) as journal:
        name = f"pacs{archive.port}"
        for found, moved, text in ((3, 3, ""), (2, 1, "it does not know the AE title BOX")):
            code = "failed" if text else "moved"
            said = {"subject": name, "code": code, "found": found, "moved": moved, "text": text}
            journal.events.add(PriorsAsked.model_validate(said))
        found_now = checked(archive.port)
    assert "1 of 2 exams moved (it does not know the AE title BOX)" in found_now.text
    assert "3 of 3" not in found_now.text
