"""Knobs: what an override may say, and the one line that a wrong one gets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.learn.knobs import KnobError, knobs_from_command_line, override  # noqa: E402


@dataclass(frozen=True)
class Knobs:
    """One of each type."""

    name: str = "x"
    steps: int = 10
    rate: float = 0.1
    bf16: bool = True


def test_overrides_take_the_type_of_their_knob() -> None:
    k = override(Knobs(), ["--steps", "7", "--rate=1e-3", "--bf16", "false", "--name", "--odd"])
    assert k == Knobs(name="--odd", steps=7, rate=1e-3, bf16=False)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--stepz", "7"], "did you mean --steps?"),
        (["--qqq", "7"], "known: bf16, name, rate, steps"),
        (["--steps", "7.5"], "--steps wants a whole number"),
        (["--rate", "fast"], "--rate wants a number"),
        (["--bf16", "1"], "--bf16 wants true or false"),
        (["--steps"], "--steps has no value"),
        (["steps", "7"], "expected --knob value"),
    ],
)
def test_a_wrong_override_is_named(argv: list[str], says: str) -> None:
    with pytest.raises(KnobError, match=says.replace("?", r"\?")):
        override(Knobs(), argv)


def test_a_wrong_override_ends_a_recipe_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["recipe", "--step", "3"])
    with pytest.raises(SystemExit) as ended:
        knobs_from_command_line(Knobs())
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: unknown knob --step; did you mean --steps?\n"
