"""docs/CONTRIBUTING.md: one page, its layers those of the contract, its lists short."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "CONTRIBUTING.md").read_text(encoding="utf-8")
LISTS = re.findall(r"^## (Add .+?)\n(.+?)(?=^## )", TEXT, re.M | re.S)
MOST_LINES = 120
MOST_PLACES = 6


def contract() -> dict[str, Any]:
    """The contract of the appliance's layers in pyproject.toml."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = data["tool"]["importlinter"]["contracts"]
    (found,) = (c for c in contracts if c.get("containers") == ["appliance"])
    return dict(found)


def test_the_layers_are_those_of_the_contract() -> None:
    block = TEXT.partition("<!-- layers: begin -->")[2].partition("<!-- layers: end -->")[0]
    assert block.strip().strip("`").split("\n")[1:-1] == contract()["layers"]


def test_it_is_one_page() -> None:
    assert len(TEXT.splitlines()) <= MOST_LINES


@pytest.mark.parametrize(("title", "body"), LISTS, ids=[title for title, _ in LISTS])
def test_what_is_added_touches_at_most_six_places_that_are_there(title: str, body: str) -> None:
    steps = re.findall(r"^\d\. .+?(?=^\d\. |\Z|\n\n)", body, re.M | re.S)
    assert 1 < len(steps) <= MOST_PLACES, title
    assert all(re.search(r"`[\w./-]+[/.][\w./-]*`|as below", step) for step in steps), title
    paths = [path for path in re.findall(r"`([\w./-]+)`", body) if "/" in path]
    assert len(paths) > 1
    for path in paths:
        before, new, _ = path.partition("NAME")
        place = before.rpartition("/")[0] if new else path
        assert list(ROOT.glob(place.replace("TASK", "*"))), path


def test_a_kind_a_destination_a_stage_and_a_recipe_are_explained() -> None:
    titles = " ".join(title for title, _ in LISTS)
    assert all(word in titles for word in ("kind", "destination", "stage", "recipe"))


def test_the_commands_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.M), target
