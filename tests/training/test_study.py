"""The study: rows of real commands, each run once, its line kept, and gone on with when stopped."""

from __future__ import annotations

import datetime
import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training import study
from training.errors import RunError
from training.learn.knobs import override
from training.read.left_out import KEY
from training.recipes.lung_nodule import study as lung_nodule
from training.tracks import Failed, Row

TODAY = datetime.date(2026, 11, 29)
SMALL = ["--steps", "2", "--warmup", "1", "--batch", "8", "--threads", "1", "--bf16", "false"]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty table, and a work folder of its own."""
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path / "work"))
    path = tmp_path / "study.md"
    path.write_text(f"# The study\n\n{study.HEAD}")
    return path


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("task", sorted(study.ROWS))
def test_every_row_names_recipes_and_knobs_that_there_are_and_no_row_comes_twice(
    task: str,
) -> None:
    rows = study.ROWS[task]()
    assert len({row.name for row in rows}) == len({row.figures for row in rows}) == len(rows)
    for row in rows:
        assert row.shown
        for module, *words in row.commands:
            recipe = importlib.import_module(module)
            own = getattr(getattr(recipe, "Knobs", None), "__module__", "")
            if own == module:
                override(recipe.Knobs(), words)
            assert callable(recipe.main)
        assert str(row.figures) in row.commands[-1] or row.figures.parent.name in row.commands[-1]


@pytest.mark.long
def test_a_tiny_row_is_run_its_line_kept_and_the_row_not_run_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = np.random.default_rng(0).integers(0, 200, (16, 50, 50)).astype(np.uint8)
    labels = (np.arange(16) % 2).astype(np.uint8)
    named = {"images": patches, "labels": labels}
    data = {f"{split}_{what}": a for split in ("train", "val") for what, a in named.items()}
    np.savez(tmp_path / "patches.npz", left_out=np.array(KEY), **data)
    monkeypatch.setenv("SCANSIDE_PATCHES", str(tmp_path / "patches.npz"))
    row = lung_nodule.ensemble()
    commands = (row.commands[0], row.commands[-1])  # one teacher is enough to walk the way
    few = [[w.split(",")[0] if "," in w else w for w in words] for words in commands]
    tiny = replace(row, commands=tuple([*words, *SMALL] for words in few))
    assert study.run_row("lung-nodule", tiny, table, TODAY)
    text = table.read_text()
    mean = json.loads(row.figures.read_text())["compared"]["teacher"]
    begins = f"| lung-nodule | {row.name} | AUC of the mean {mean}; gain over one"
    last = text.splitlines()[-1]
    assert last.startswith(begins)
    assert last.endswith(
        f"| `python -m training.study lung-nodule --row '{row.name}'` | 2026-11-29 |"
    )
    assert not study.run_row("lung-nodule", tiny, table, TODAY)
    assert table.read_text() == text


def test_a_row_that_fails_leaves_no_line(
    table: Path, steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(steps))
    figures = steps / "figures.json"
    shown = {"CPM": ("cpm",)}
    broken = Row("a row", (["step", "first", ""], ["step", "broken", ""]), figures, shown)
    before = table.read_text()
    with pytest.raises(Failed):
        study.run_row("toy", broken, table, TODAY)
    figures.write_text('{"other": 1}')
    whole = replace(broken, commands=(["step", "first", ""],))
    with pytest.raises(RunError, match="no cpm in it"):
        study.run_row("toy", whole, table, TODAY)
    assert table.read_text() == before
    figures.write_text('{"cpm": 0.5}')
    assert study.run_row("toy", whole, table, TODAY)
    assert "| toy | a row | CPM 0.5 |" in table.read_text()


def test_the_page_has_the_table_and_says_that_it_was_not_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, table: Path
) -> None:
    page = (Path(study.__file__).parents[1] / study.TABLE).read_text()
    assert study.HEAD in page
    assert ("**Not run yet.**" in page) == page.endswith(study.HEAD)
    monkeypatch.setattr("sys.argv", ["study", "--list", "lung-compare"])
    study.main()
    printed = capsys.readouterr().out
    assert "lung-compare, lesson: NCC + mask:" in printed
    assert "training.recipes.compare.displace --name study-ncc-with-mask-fold-2" in printed
