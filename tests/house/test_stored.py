"""Records of state are read so that a later release may have added to them (`Record.stored`)."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STRICT = {
    "appliance/apply/door.py": "a person's wish: one that is not understood whole is refused",
    "appliance/apply/requests.py": "the same",
    "appliance/bundle/manifest.py": "a closed vocabulary: it says which appliance it needs",
    "appliance/bundle/trust.py": "of the wheel itself",
    "appliance/host/driver.py": "from a child of the same release",
    "appliance/publish/desired.py": "from a broker, and no state",
    "appliance/release/record.py": "signed, and made for more releases than one: it has a version",
    "appliance/runtime/as_child.py": "from its parent, of the same release",
    "appliance/runtime/trial.py": "from a child of the same release",
    "appliance/verbs/compare.py": "points that a person wrote, and no state",
    "appliance/verbs/drift.py": "from another box, and no state",
    "appliance/web/examined.py": "from a child of the same release",
    "appliance/web/pixels/child.py": "from its parent, of the same release",
    "appliance/web/pixels/decoder.py": "from a child of the same release",
}
"""Who reads records that are no state, and why an unknown field is refused there."""


def strict(source: str) -> list[int]:
    """Lines on which JSON is read as a record that refuses what it does not know."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("model_validate_json", "validate_json")
        and not any(keyword.arg == "extra" for keyword in node.keywords)
    ]


def test_state_is_read_as_a_later_release_may_have_written_it() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "appliance").rglob("*.py")
        if strict(path.read_text(encoding="utf-8"))
    }
    assert found == STRICT.keys(), "Read state by `Record.stored`, or say here why it is none."


def test_a_strict_reading_is_found() -> None:
    assert strict("Report.model_validate_json(text)") == [1]
    assert strict("adapter.validate_json(row['refs'])") == [1]
    assert not strict("Report.stored(text)\nmodel.model_validate_json(text, extra='ignore')")
