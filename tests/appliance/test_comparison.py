"""A comparison says what was measured, and never what it means for a patient."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.comparison import Comparison, Followed
from appliance.reasons import REMEDIES, Code

ROOT = Path(__file__).parents[2] / "appliance"
SPOKEN = ("comparison.py", "prior", "lines/compare.py", "compare", "results", "web")
"""Code whose texts may stand in a comparison, on a page or in a structured report."""
ENGLISH = re.compile(
    r"\b(benign|malignan(t|cy)|stable|unstable|stability|progress(ion|ive|ed|ing)|regress(ion|ed)?"
    r"|categor(y|ies)|lung-rads|fleischner|biops(y|ies)|recommend\w*|advis(e|ed|able)|advice"
    r"|follow-up|suspicio(n|us)|respon(se|der)s? to)\b",
    re.IGNORECASE,
)
CHINESE = re.compile(
    r"良性|恶性|稳定|进展|消退|分级|类别|活检|随访|复查|建议|可疑(病|结节|恶)|缓解"
)
MAY = {"it says nothing of malignancy"}
"""Of `certainty`: that no such thing is said."""
OTHERWISE = {"stable"}
"""Words of code with a meaning of their own, such as how an array is sorted."""


def texts_of_code(path: Path) -> Iterator[str]:
    """String constants of a Python file, but its docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    silent = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    silent |= {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in silent
        ):
            yield node.value


def python_files() -> list[Path]:
    found = []
    for name in SPOKEN:
        path = ROOT / name
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def strings(value: Any) -> Iterator[str]:
    """Every string of a JSON value, keys as well."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def judging(texts: Iterator[str]) -> list[str]:
    """Texts that judge, or advise."""
    return [
        text
        for text in texts
        if (ENGLISH.search(text) or CHINESE.search(text))
        and text not in OTHERWISE
        and not any(said in text for said in MAY)
    ]


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_text_of_the_code_that_compares_or_shows_judges_or_advises(path):
    assert judging(texts_of_code(path)) == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_text_of_the_page_judges_or_advises(language):
    files = sorted((ROOT / "web" / "text" / language).glob("*.json"))
    assert files
    said = {
        f"{file.stem}.{key}": text
        for file in files
        for key, text in json.loads(file.read_text()).items()
    }
    of_thresholds = "feedback.no_proposal"  # of no patient: there is no proposal of a threshold
    assert set(judging(iter(said.values()))) <= {said[of_thresholds]}


def test_no_part_of_a_comparison_is_called_so():
    schema = Comparison.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        part.pop("description", None)  # what a record is, for who reads the code
    of_reasons = schema["$defs"].pop("Code")
    assert "same_scan" in of_reasons["enum"]
    assert judging(strings(schema)) == []


def test_no_reason_against_a_comparison_judges_or_advises():
    assert judging(iter(REMEDIES[code] for code in Code)) == []


@pytest.mark.parametrize(
    "text",
    ["The nodule is benign.", "Stable since 2023", "no progression", "Category 3", "考虑良性结节",
     "与前片相比稳定", "病灶进展", "Lung-RADS 4A", "biopsy is recommended", "建议随访"],
)  # fmt: skip
def test_a_text_that_judges_would_be_found(text):
    assert judging(iter(["larger", text])) == [text]


def test_texts_are_found_in_code_and_docstrings_are_none(tmp_path):
    file = tmp_path / "some.py"
    file.write_text('"""It is stable."""\ndef f():\n    """benign"""\n    return "malignant"\n')
    assert judging(texts_of_code(file)) == ["malignant"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"finding": 1, "state": "not_comparable"},
        {"finding": 1, "state": "new", "why": ("too_thick",)},
        {"finding": 1, "state": "new", "change": {"verdict": "larger"}},
        {"state": "gone"},
    ],
)
def test_a_finding_that_contradicts_its_state_is_refused(wrong):
    with pytest.raises(ValidationError):
        Followed.model_validate(wrong)
