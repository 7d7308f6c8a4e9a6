"""docs/dependencies.md: its lower bounds are those of pyproject.toml, with a reason each."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement

from compile import lock

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
ASKED = lock.project()["project"]
EVERY = [
    *ASKED["dependencies"],
    *(one for extra in ASKED["optional-dependencies"].values() for one in extra),
]


def said() -> dict[str, str]:
    """Library -> its lower bound in the table; several of one row stand in the same order."""
    table = TEXT.partition("| library | at least | why not older |")[2]
    found = {}
    for names, bounds, why in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", table, re.M):
        if set(names) != {"-"}:
            assert why
            libraries = re.sub(r" \(.+?\)", "", names).split(", ")
            found |= dict(zip(libraries, bounds.split(", "), strict=True))
    return found


def lower(requirement: Requirement) -> set[str]:
    return {one.version for one in requirement.specifier if one.operator == ">="}


def test_every_lower_bound_that_it_names_is_that_of_pyproject() -> None:
    bounds = {one.name: lower(one) for one in map(Requirement, EVERY)}
    assert {name: bound for name, bound in said().items() if bounds[name] != {bound}} == {}


def test_every_library_of_the_default_set_has_a_reason() -> None:
    device = [*ASKED["dependencies"], *ASKED["optional-dependencies"]["openvino"]]
    device += ASKED["optional-dependencies"]["engine"]
    assert {Requirement(one).name for one in device} <= said().keys()


def test_a_library_that_is_asked_for_twice_has_one_lower_bound() -> None:
    seen: dict[str, set[str]] = {}
    for one in map(Requirement, EVERY):
        assert seen.setdefault(one.name, lower(one)) == lower(one), one.name


def test_every_lock_has_its_row() -> None:
    rows = set(re.findall(r"^\| `locks/(\w+)\.txt` \|", TEXT, re.M))
    assert rows == set(lock.LOCKS)
