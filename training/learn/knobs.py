"""Knobs: what of a recipe may be varied from its command line.

Rules. A knob is a field of a frozen dataclass. An override names a known field and a value of its
type; anything else is one line on stderr and exit code 2. Nothing is evaluated.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

K = TypeVar("K")


class KnobError(ValueError):
    """An override names no knob, lacks its value, or has a value of the wrong type."""


def _parse(name: str, text: str, current: object) -> object:
    """Text as a value of the type of `current` (bool, int, float or str)."""
    if isinstance(current, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise KnobError(f"--{name} wants true or false, not {text!r}")
    if isinstance(current, int):
        try:
            return int(text)
        except ValueError:
            raise KnobError(f"--{name} wants a whole number, not {text!r}") from None
    if isinstance(current, float):
        try:
            return float(text)
        except ValueError:
            raise KnobError(f"--{name} wants a number, not {text!r}") from None
    return text


def override(knobs: K, argv: Sequence[str]) -> K:
    """`knobs` with `--name value` or `--name=value` pairs applied; KnobError says what is wrong."""
    assert dataclasses.is_dataclass(knobs)
    assert not isinstance(knobs, type)
    known = {f.name: getattr(knobs, f.name) for f in dataclasses.fields(knobs)}
    changes: dict[str, Any] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise KnobError(f"expected --knob value, got {word!r}")
        name, has_value, text = word[2:].partition("=")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean --{near[0]}?" if near else "known: " + ", ".join(sorted(known))
            raise KnobError(f"unknown knob --{name}; {hint}")
        if not has_value:
            if not words:
                raise KnobError(f"--{name} has no value")
            text = words.pop(0)
        changes[name] = _parse(name, text, known[name])
    return dataclasses.replace(knobs, **changes)


def knobs_from_command_line(knobs: K) -> K:
    """`override` with sys.argv; a wrong one ends the program with one line and exit code 2."""
    try:
        return override(knobs, sys.argv[1:])
    except KnobError as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        raise SystemExit(2) from None
