"""What runs learned from: as they wrote it, each data set once, and nothing that they did not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.errors import DataError
from training.read import origin
from training.ship import learned


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three folders of a caller's own, two of one data set."""
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path / "work"))
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.dcm").write_text(name)
        if name != "c":
            said = origin.Origin("a data set", "CC BY 4.0", "train")
            (tmp_path / name / origin.FILE).write_text(said.text())
    return tmp_path


def test_series_of_one_data_set_are_one_source_and_a_silent_folder_states_no_licence(
    scans: Path,
) -> None:
    both, other = learned.of_series(f"{scans}/b,{scans}/a,{scans}/c")
    assert (both["name"], both["licence"]) == ("a data set, 2 of them", "CC BY 4.0")
    assert (other["name"], other["licence"]) == ("CT c", origin.NOT_STATED)
    assert learned.of_series(f"{scans}/a,{scans}/b") == [both]
    (scans / "a" / "0.dcm").write_text("changed")
    assert learned.of_series(f"{scans}/a,{scans}/b")[0]["digest"] != both["digest"]


def test_an_origin_that_says_half_is_refused(scans: Path) -> None:
    (scans / "a" / origin.FILE).write_text('{"name": "a data set"}')
    with pytest.raises(DataError, match="does not say name, licence and split"):
        origin.of_series(f"{scans}/a")


def test_a_bundle_has_what_its_runs_wrote_each_once(scans: Path) -> None:
    one, two = (
        {"name": name, "licence": "CC BY 4.0", "digest": name * 8} for name in ("one", "two")
    )
    for run, sources in (("x", [one, two]), ("y", [two]), ("before", None)):
        folder = scans / "work" / run
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"knobs": {}, "sources": sources}))
    assert learned.of_runs(["y", "", "x"]) == [two, one]
    with pytest.raises(SystemExit, match="call its recipe again with the same knobs"):
        learned.of_runs(["x", "before"])
