"""README.md: every path that it names is there, and its table of stages is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PLACES = ("appliance", "compile", "training", "docs", "tests", "bench", "systemd", "jetson", ".ci")


def test_every_path_and_link_is_there() -> None:
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", TEXT)}
    quoted = {word for word in re.findall(r"`([\w./-]+/[\w./-]*)`", TEXT) if "//" not in word}
    named = linked | {word for word in quoted if word.split("/")[0] in PLACES}
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_table_of_stages_is_that_of_the_code() -> None:
    block = TEXT.partition("<!-- stages: begin -->")[2].partition("<!-- stages: end -->")[0]
    rows = re.findall(r"^\| (\w+) \| `scanside (\w+)` \| (.+?) \| `(.+?)` \|$", block, re.M)
    shown = {(name, verb, path) for name, verb, _, path in rows}
    assert shown == {
        (stage.name, stage.name, stage.module.replace(".", "/") + ".py") for stage in STAGES
    }
    assert all(what for _, _, what, _ in rows)


def test_every_folder_of_a_stage_has_its_row_and_its_unit() -> None:
    folders = {path.parent.name for path in (ROOT / "appliance").glob("*/stage.py")}
    assert folders == {stage.name for stage in STAGES}
    for stage in STAGES:
        assert (ROOT / "systemd" / stage.unit).is_file(), stage.unit
