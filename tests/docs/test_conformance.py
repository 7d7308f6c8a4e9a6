"""The tables of the conformance statement are what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydicom.uid import UID

from appliance.comparison import Which
from appliance.dicom import retrieve, statuses, stow, syntaxes
from appliance.results import capture, note
from appliance.results.sr import beside, document, findings
from appliance.results.sr.scheme import SCHEME

TEXT = (Path(__file__).parents[2] / "docs" / "dicom-conformance.md").read_text()


def rows(table: str) -> list[tuple[str, ...]]:
    """The cells of a table between its markers, without its head."""
    block = TEXT.partition(f"<!-- {table}: begin -->")[2].partition(f"<!-- {table}: end -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def test_the_transfer_syntaxes_are_those_that_are_taken_in_their_order() -> None:
    assert rows("transfer syntaxes") == [(row.name, row.uid) for row in syntaxes.TABLE]


def test_the_classes_sent_are_those_that_are_composed() -> None:
    composed = {
        document.COMPREHENSIVE_3D: "sr",
        document.COMPREHENSIVE: "sr",
        document.ENHANCED: "sr",
        document.SEGMENTATION: "seg, lungs",
        capture.SECONDARY_CAPTURE: "sc",
        note.KEY_OBJECTS: "sr, with `rejection_note`",
    }
    assert rows("classes sent") == [
        (UID(uid).name.removesuffix(" Storage"), uid, profile) for uid, profile in composed.items()
    ]


def test_the_classes_asked_are_those_that_are_proposed() -> None:
    assert rows("classes asked") == [(UID(uid).name, uid) for uid in retrieve.CLASSES]


def test_the_statuses_mean_what_the_table_says() -> None:
    said = []
    for low, high, answer in statuses.RANGES:
        shown = f"{low:04X}" if low == high else f"{low:04X} to {high:04X}"
        said.append((shown, answer.value.replace("_", " ")))
    assert rows("statuses") == [*said, ("any other", statuses.Answer.UNCLEAR.value)]


def test_the_statuses_of_the_web_mean_what_the_table_says() -> None:
    said: dict[int, str] = {}
    for shown, meaning in rows("web statuses"):
        low, _, high = shown.partition(" to ")
        for http in range(int(low), int(high or low) + 1):
            if high:  # a single status stands for itself, whatever range it is in
                said.setdefault(http, meaning)
            else:
                said[http] = meaning
    assert said == {http: _meant(http) for http in range(200, 600)}


def _meant(http: int) -> str:
    """What becomes of an object that is answered so."""
    if (what := stow.trouble(http)) is not None:
        return what.value
    failed = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [42752]}}]}}'
    by_instance = stow.reply(http, "application/json", failed, "1.2").meant is statuses.Answer.BUSY
    dead = stow.reply(http, "", b"", "1.2").meant is statuses.Answer.UNFIT
    return ", or ".join(["by instance"] * by_instance + ["dead"] * dead)


def test_the_codes_of_our_own_scheme_are_all_there() -> None:
    own = [findings.CONFIDENCE, findings.DENSITY, *findings.DENSITIES.values()]
    own += [beside.named(which, what)[0] for which in get_args(Which) for what in beside.MEASURED]
    assert {code.scheme_designator for code in own} == {SCHEME}
    assert rows("own codes") == sorted((code.value, code.meaning) for code in own)


@pytest.mark.parametrize(
    "table", ["transfer syntaxes", "classes sent", "statuses", "web statuses", "own codes"]
)
def test_no_table_is_empty(table: str) -> None:
    assert len(rows(table)) > 4
