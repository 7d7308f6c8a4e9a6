"""What ships and what does not, by figures alone."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.recipes.chest_pneumonia import frontal_figures
from training.recipes.chest_pneumonia.frontal_rule import BY_CT, falls_short

GOOD: dict[str, Any] = {
    "keep": 0.995,
    "threshold": 0.3,
    "val": {
        "kept_with_pneumonia": {"share": 0.985},
        "kept_without_it": {"share": 1.0},
        "blank": {"share": 0.9},
    },
    "left_out": {name: {"share": 0.9} for name in BY_CT},
    "drawn": {"the demo's": 0.5, "healthy": 0.99},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one figure changed."""
    found = deepcopy(GOOD)
    *way, last = path.split("/")
    at = found
    for step in way:
        at = at[step]
    at[last] = value
    return found


def test_figures_at_their_bars_ship() -> None:
    assert falls_short(GOOD) == ()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("val/kept_with_pneumonia/share", 0.984, "kept_with_pneumonia of val 0.9840"),
        ("val/kept_without_it/share", 0.98, "kept_without_it of val 0.9800"),
        ("val/blank/share", 0.89, "blanks refused 0.8900"),
        *((f"left_out/{name}/share", 0.89, f"{name} of CTs refused 0.8900") for name in BY_CT),
        *((f"left_out/{name}", None, f"{name} of CTs refused: none was shown") for name in BY_CT),
        ("drawn/healthy", 0.35, "healthy lies 0.23 above the threshold"),
        ("drawn/the demo's", 0.2, "the demo's lies -0.54 above the threshold"),
    ],
)
def test_whatever_falls_short_is_named(path: str, value: Any, says: str) -> None:
    (said,) = falls_short(changed(path, value))
    assert said.startswith(says)


def test_no_bundle_takes_a_run_that_falls_short(tmp_path: Path) -> None:
    about = {"figures": changed("left_out/lateral/share", 0.5)}
    (tmp_path / "metrics.json").write_text(json.dumps(about))
    with pytest.raises(SystemExit, match=r"does not ship: lateral of CTs refused 0\.5000"):
        frontal_figures.read(tmp_path)


def test_a_run_without_drawn_chests_is_refused_in_one_line(tmp_path: Path) -> None:
    about = {"figures": {name: one for name, one in GOOD.items() if name != "drawn"}}
    (tmp_path / "metrics.json").write_text(json.dumps(about))
    with pytest.raises(SystemExit, match="older recipe"):
        frontal_figures.read(tmp_path)
