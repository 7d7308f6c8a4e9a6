"""LUNA16's own layout, drawn small: from .mhd and tables to patches, and to series that analyse."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from rigs.tiny_luna16 import chest, lung_labels, tiny_luna16
from training import evaluate
from training.errors import DataError, command
from training.implant.hosts import load_host, to_lps
from training.read import origin
from training.read.datasets import Mark, read
from training.read.folders import work_folder
from training.read.left_out import SERIES
from training.recipes.lung_nodule import luna16
from training.recipes.lung_nodule.patches import load_patches

BUNDLE = Path(evaluate.__file__).parents[1] / "appliance/factory/bundles/lung-nodule.scanside"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan to train on and one to choose by, with both tables in CSVFILES."""
    return tiny_luna16(tmp_path_factory.mktemp("luna16"))


def test_the_scans_with_the_most_nodules_come_first_and_no_more_than_asked_for(
    tmp_path: Path,
) -> None:
    nodule = Mark((0.0, 0.0, 0.0), 6.0, nodule=True)
    every = [(split, tmp_path / f"{n}.mhd") for split in ("train", "val") for n in "abcd"]
    nodules = {"a": [nodule], "b": [nodule] * 3, "c": [nodule] * 2}
    found = luna16.chosen(every, nodules, "train", 2)
    assert [path.stem for path in found] == ["b", "c"]
    assert {path.stem for path in luna16.chosen(every, nodules, "val", 0)} == set("abcd")


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["luna16", *map(str, words)])
    command(luna16.main)


@pytest.fixture(autouse=True)
def _work(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lungs of LUNA16 are kept in the work folder."""
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path_factory.mktemp("work")))


@pytest.mark.long
def test_patches_are_cut_where_the_nodules_are_and_known_nodules_are_no_negatives(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "patches.npz"
    run(monkeypatch, tiny, "--patches", out, "--negatives", 5)
    with np.load(out) as file:
        images, labels = file["train_images"], file["train_labels"]
        names = {"train_images", "train_labels", "val_images", "val_labels"}
        assert set(file) == {*names, "left_out", "origin"}
    assert set(load_patches(out)) == names
    with np.load(out) as file:
        assert labels.sum() == len(chest(1).nodules)
        assert len(labels) == labels.sum() + 5
        assert images.shape == (len(labels), luna16.PATCH, luna16.PATCH)
    # brighter in the middle than at the rim of lung around it, as a nodule is
    middle, rim = images[:, 24:27, 24:27].mean((1, 2)), images[:, 8:12, 8:12].mean((1, 2))
    assert np.mean(middle[labels == 1] > rim[labels == 1]) > 0.6
    before = out.read_bytes()
    run(monkeypatch, tiny, "--patches", out, "--negatives", 5)
    assert out.read_bytes() == before


def test_a_scan_of_a_patient_who_is_left_out_is_in_no_split(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "subset0").mkdir()
    for name in ("1.2.10", *SERIES):
        (tmp_path / "subset0" / f"{name}.mhd").write_bytes(
            (tiny / "subset0" / "1.2.10.mhd").read_bytes()
        )
    assert [path.stem for _, path in luna16.scans(tmp_path)] == ["1.2.10"]


@pytest.mark.long
def test_a_series_has_the_scans_own_hu_and_its_nodules_as_truth(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, tiny, "--series", tmp_path, "--split", "val")
    (folder,) = tmp_path.iterdir()
    assert folder.name == "1.2.12"
    truth = json.loads((folder / "truth.json").read_text())
    assert len(truth) == len(chest(3).nodules)
    again, first = read(folder), read(tiny / f"subset{luna16.VAL_FOLD}" / "1.2.12.mhd")
    assert np.array_equal(again.hu, first.hu)
    assert again.spacing == pytest.approx(first.spacing)
    assert again.origin == pytest.approx(first.origin)
    assert origin.of_series(str(folder)).split == "val"
    with np.load(work_folder("cache") / "1.2.12-lungs.npz") as file:
        ml = file["mask"].sum() * luna16.GRID_MM**3 / 1000
    labelled = (lung_labels(chest(3)) > 0).sum() * np.prod(chest(3).spacing_mm) / 1000
    assert labelled < ml < 1.3 * labelled  # closed at vessels
    assert b"1.2.12\0" not in b"".join(p.read_bytes() for p in folder.glob("*.dcm"))
    figures = evaluate.of_folder(evaluate.open_bundle(BUNDLE), tmp_path)
    assert figures["per_series"][0]["status"] == "analysed"
    assert figures["operating_point"]["sensitivity"] > 0
    with pytest.raises(SystemExit, match="already there"):
        run(monkeypatch, tiny, "--series", tmp_path)


def test_what_is_not_luna16_is_told_in_one_line(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="not LUNA16's layout"):
        list(luna16.scans(tmp_path))
    (tmp_path / "subset0").symlink_to(tiny / "subset0")
    with pytest.raises(SystemExit, match=r"candidates_V2\.csv or candidates\.csv"):
        run(monkeypatch, tmp_path, "--patches", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.long
def test_a_scan_of_luna16_is_a_host_of_the_recipes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, tiny, "--series", tmp_path / "hosts", "--split", "train")
    host = load_host(tmp_path, f"{tmp_path}/hosts/1.2.10", tmp_path)
    assert len(host.lesions) == len(chest(1).nodules)
    for lesion, nodule in zip(host.lesions, chest(1).nodules, strict=True):
        assert to_lps(host.volume, lesion.center_mm) == pytest.approx(nodule.center_lps_mm, abs=0.1)
    assert len(host.places.deep) > 1000
