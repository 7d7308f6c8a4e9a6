"""Splits that share a patient or a picture are found and named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage

from training import leaks
from training.leaks import Item, Leaks, check
from training.read.fingerprint import of_image, of_volume
from training.read.study_index import Study, as_table
from training.read.volume import Volume


def chest(seed: int) -> np.ndarray:
    """A smooth body with its own lungs and lumps, [z, y, x] in HU."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (24, 48, 48)], indexing="ij")
    hu = np.where(y**2 + x**2 < 0.9, 40.0, -1000.0)
    for side in (-0.4, 0.4):
        wide = rng.uniform(0.25, 0.4, 2)
        inside = (z / 0.9) ** 2 + ((y - 0.1) / 0.6) ** 2 + ((x - side) / wide[0]) ** 2
        hu[inside < 1] = -850
    for _ in range(12):
        at = rng.uniform(-0.8, 0.8, 3)
        near = (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2
        hu[near < rng.uniform(0.05, 0.2) ** 2 * 4] = rng.uniform(-900, 900)
    return (hu + rng.normal(0, 20, hu.shape)).astype(np.float32)


def item(name: str, split: str, hu: np.ndarray, patient: str = "") -> Item:
    digest = str(hash(hu.tobytes()))
    return Item(name, split, patient or name, digest, of_volume(hu))


def lines(*items: Item) -> tuple[str, ...]:
    with pytest.raises(Leaks) as found:
        check(items)
    return found.value.lines


def test_splits_that_are_apart_pass() -> None:
    items = [item(f"{s}{n}", s, chest(n)) for n, s in enumerate(["train"] * 8 + ["val"] * 4)]
    check(items)


def test_a_patient_in_two_splits_is_named_with_both_scans() -> None:
    found = lines(
        item("a", "train", chest(1), "P1"),
        item("b", "train", chest(2), "P2"),
        item("c", "test", chest(3), "P1"),
    )
    assert found == ("a (train) and c (test) are of one patient (P1)",)


def test_the_same_pixels_in_two_splits_are_named_once() -> None:
    found = lines(item("a", "train", chest(1)), item("b", "val", chest(1)))
    assert found == ("a (train) and b (val) are the same pixels",)


def test_a_patch_that_was_cut_from_a_host_is_named_unless_its_patient_is_left_out(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    hu = ndimage.gaussian_filter(rng.normal(0, 4000, (3, 120, 120)), (0, 2, 2)) - 500
    ct = Volume("host", hu.astype(np.float32), (2.0, 0.7, 0.7), (0.0, 0.0, 0.0))
    grey = np.rint((np.clip(hu, -1000, 400) + 1000) / 1400 * 255).astype(np.uint8)
    others = rng.integers(0, 255, (2, 50, 50)).astype(np.uint8)
    images = np.stack([others[0], grey[1, 33:83, 20:70], others[1]])
    arrays = {"train_images": images, "train_labels": np.zeros(3, np.uint8)}
    path = tmp_path / "patches.npz"
    for row, wanted in ((7, 1), (123_700, 0)):
        np.savez(path, train_luna_row=np.array([1, row, 2]), **arrays)
        found = list(leaks.in_hosts(path, [ct]))
        assert len(found) == wanted
        assert all(f.startswith("train_images[1] was cut from host, slice 1: ") for f in found)
        assert len(leaks.of_npz(path)) == 2 + wanted


def test_within_a_split_everything_may_repeat() -> None:
    check([item("a", "train", chest(1), "P1"), item("b", "train", chest(1), "P1")])


def test_noise_a_softer_kernel_and_thicker_slices_do_not_hide_a_copy() -> None:
    rng = np.random.default_rng(0)
    noisy = chest(1) + rng.normal(0, 60, (24, 48, 48)).astype(np.float32)
    soft = ndimage.gaussian_filter(chest(1), (0, 1, 1))
    thick = chest(1).reshape(12, 2, 48, 48).mean(1)
    for copy in (noisy, soft, thick):
        (line,) = lines(item("a", "train", chest(1)), item("b", "val", copy))
        assert line.startswith("a (train) and b (val) are near-duplicates: similarity 0.9")


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ((0,), "mirrored head to feet"),
        ((1,), "mirrored front to back"),
        ((2,), "mirrored left to right"),
        ((1, 2), "mirrored front to back and left to right"),
    ],
)
def test_a_mirrored_copy_is_found_and_named(axes: tuple[int, ...], said: str) -> None:
    rng = np.random.default_rng(0)
    copy = np.flip(chest(1), axes) + rng.normal(0, 30, (24, 48, 48)).astype(np.float32)
    found = lines(item("a", "train", chest(1)), item("b", "val", copy))
    assert len(found) == 1
    assert found[0].endswith(f", {said}")


def test_blank_scans_are_like_no_other() -> None:
    air = np.full((24, 48, 48), -1000, np.float32)
    noisy = air + np.random.default_rng(0).normal(0, 1, air.shape).astype(np.float32)
    check([item("a", "train", air), item("b", "val", noisy)])


def patches(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(0, 1, (count, 50, 50)), (0, 2.5, 2.5))
    return np.clip(128 + 500 * smooth, 0, 255).astype(np.uint8)


def run(monkeypatch: pytest.MonkeyPatch, path: Path) -> object:
    monkeypatch.setattr(sys, "argv", ["leaks", str(path)])
    try:
        leaks.main()
    except SystemExit as ended:
        return ended.code
    return 0


def saved(path: Path, train: np.ndarray, val: np.ndarray) -> Path:
    np.savez(
        path,
        train_images=train,
        train_labels=np.zeros(len(train), np.uint8),
        val_images=val,
        val_labels=np.zeros(len(val), np.uint8),
    )
    return path


def test_a_turned_patch_is_found_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = patches(1, 600), patches(2, 30)
    path = saved(tmp_path / "p.npz", train, val)
    assert run(monkeypatch, path) == 0
    assert "no leak: 630 items, patients not known" in capsys.readouterr().out
    noise = np.random.default_rng(3).normal(0, 8, (50, 50))
    val[7] = np.clip(np.rot90(train[555], -1) + noise, 0, 255)
    val[9] = train[4]
    assert run(monkeypatch, saved(path, train, val)) == 1
    found = capsys.readouterr().out.splitlines()
    assert found[0] == "leak: train_images[4] (train) and val_images[9] (val) are the same pixels"
    assert found[1].startswith("leak: train_images[555] (train) and val_images[7] (val) are near")
    assert found[1].endswith("turned by 90 degrees")
    assert len(found) == 2


def test_leaks_between_indexed_scans_end_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        Study("dicom", f"P{n:016x}", f"scan{n}", str(n), (1, 1, 1), 24, split, None, of_volume(hu))
        for n, (split, hu) in enumerate(
            [("train", chest(1)), ("val", chest(2)), ("test", chest(1) + 30)]
        )
    ]
    path = tmp_path / "index.csv"
    path.write_text(as_table(rows[:2]))
    assert run(monkeypatch, path) == 0
    path.write_text(as_table(rows))
    assert run(monkeypatch, path) == 1
    assert "scan0 (train) and scan2 (test) are near-duplicates" in capsys.readouterr().out


def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.csv").write_text("half")
    assert run(monkeypatch, tmp_path / "index.csv") == 2
    assert run(monkeypatch, tmp_path / "gone.npz") == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in said] == [True, True]


def test_the_same_image_in_colour_has_the_same_fingerprint() -> None:
    grey = patches(1, 1)[0]
    colour = np.repeat(grey[..., None], 3, axis=2)
    assert np.allclose(of_image(grey), of_image(colour), atol=1e-5)
