"""Candidates that the 3D branch learns on: where they lie, what they are called, what is cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from appliance.preprocess.spec import Cube, Orient, Patch, Rescale, Window
from appliance.quality.implant import Shape
from training.errors import RunError
from training.implant.hosts import Host, Target
from training.implant.nodules import Places
from training.read.volume import Volume, stack_of
from training.recipes.lung_nodule import bundle, candidates
from training.recipes.lung_nodule.candidates import (
    LEFT_OUT,
    Mining,
    Scan,
    cut,
    joined,
    labelled,
    mined_of,
    scan_of,
)

AIR = -850.0


def empty_scan(
    targets: list[Target],
    implants: int,
    mass: np.ndarray | None = None,
    unsure: tuple[Target, ...] = (),
) -> Scan:
    volume = Volume("v", np.full((40, 60, 60), AIR, np.float32), (2.0, 1.0, 1.0), (0, 0, 0))
    nothing = np.zeros((54, 40, 40), bool)
    return Scan(volume, tuple(targets), implants, unsure, nothing if mass is None else mass, 1.0)


def points(*zyx: tuple[float, float, float]) -> np.ndarray:
    return np.array(zyx, np.float64)


def a_host(lesions: tuple[Target, ...] = ()) -> Host:
    """100 x 90 x 90 mm of air, of which the inner part is free."""
    hu = np.full((50, 90, 90), AIR, np.float32)
    grid = np.stack(np.meshgrid(*[np.arange(20.0, n, 3.0) for n in (80, 70, 70)], indexing="ij"))
    deep = grid.reshape(3, -1).T
    places = Places(deep, np.linspace(1, 20, len(deep)), np.zeros((0, 3)))
    volume = Volume("host", hu, (2.0, 1.0, 1.0), (-45.0, -200.0, 30.0))
    return Host(volume, 0.0, places, lesions, np.zeros((67, 60, 60), bool))


def ball() -> list[Shape]:
    z, y, x = np.ogrid[-10:11, -10:11, -10:11]
    return [Shape(((z**2 + y**2 + x**2 <= 100) * 255).astype(np.uint8), 12.0, 1)]


def test_the_best_hit_counts_and_the_second_is_left_out() -> None:
    scan = empty_scan([Target((30, 30, 30), 8.0)], 1)
    found = labelled(points((31, 30, 30), (30, 33, 30), (70, 10, 10)), scan)
    assert found.tolist() == [0, LEFT_OUT, -1]


def test_what_lies_between_hit_and_false_is_left_out() -> None:
    scan = empty_scan([Target((30, 30, 30), 20.0)], 1)
    found = labelled(points((30, 30, 41), (30, 30, 45.9), (30, 30, 46.1)), scan)
    assert found.tolist() == [LEFT_OUT, LEFT_OUT, -1]


def test_a_marked_lesion_is_never_a_negative() -> None:
    lesion = Target((40, 30, 30), 6.0)
    around = points(*[(40 + d, 30, 30) for d in np.arange(-10.9, 11, 0.5)])
    assert (labelled(around, empty_scan([lesion], 0)) != -1).all()


def test_what_may_be_a_nodule_is_neither_a_nodule_nor_a_negative() -> None:
    scan = empty_scan([], 0, unsure=(Target((40, 30, 30), 6.0),))
    around = points(*[(40 + d, 30, 30) for d in (-11.1, -10.9, 0.0, 10.9, 11.1)])
    assert labelled(around, scan).tolist() == [-1, LEFT_OUT, LEFT_OUT, LEFT_OUT, -1]


def test_spots_and_doubtful_marks_of_a_host_move_with_its_scan() -> None:
    spot, mark = Target((20.0, 30.0, 40.0), 12.0), Target((60.0, 50.0, 30.0), 6.0)
    host = replace(a_host(), spots=(spot,), unsure=(mark,))
    scan = scan_of(host, ball(), Mining(native=0.0, mirrored=1.0), 3)
    wanted = [(20, 30, 90 - 40), (60, 50, 90 - 30)]
    assert [t.center_mm for t in scan.unsure] == [
        pytest.approx(tuple(scan.scale * v for v in at)) for at in wanted
    ]


def test_nothing_in_or_beside_the_boxed_mass_is_a_negative() -> None:
    mass = np.zeros((54, 40, 40), bool)
    mass[20:30, 20:30, 20:30] = True  # 30 to 45 mm
    found = labelled(points((37, 37, 37), (37, 37, 49), (37, 37, 58)), empty_scan([], 0, mass))
    assert found.tolist() == [LEFT_OUT, LEFT_OUT, -1]


@pytest.mark.parametrize("thickness", [1.25, 5.0])
def test_a_spot_keeps_its_place_on_other_slices(thickness: float) -> None:
    hu = np.zeros((30, 8, 8), np.float32)
    hu[12:15, 4, 4] = 1000
    volume = Volume("v", hu, (2.0, 1.0, 1.0), (0, 0, 7.0))
    other = candidates.resliced(volume, thickness, 0.0, np.random.default_rng(0))
    heights = other.lps(np.stack([np.arange(len(other.hu)), *[np.full(len(other.hu), 4)] * 2], 1))
    weight = other.hu[:, 4, 4]
    assert other.spacing[0] == thickness
    assert weight @ heights[:, 2] / weight.sum() == pytest.approx(7 + 13 * 2, abs=0.4)


def test_targets_follow_what_was_mirrored_stretched_and_resliced() -> None:
    host, mining = a_host(), Mining(mirrored=1.0, native=0.0)
    scan = scan_of(host, ball(), mining, seed=3)
    assert scan.implants == len(scan.targets) > 3
    assert scan.scale != 1
    for target in scan.targets:
        if target.diameter_mm < 8:
            continue
        z, y, x = np.floor(np.array(target.center_mm) / scan.volume.spacing).astype(int)
        assert scan.volume.hu[z, y, x] > AIR + 100
    unturned = scan_of(host, ball(), replace(mining, mirrored=0.0), seed=3)
    assert np.array_equal(unturned.volume.hu[:, :, ::-1], scan.volume.hu)


def test_the_same_seed_makes_the_same_scan() -> None:
    one, two = (scan_of(a_host(), ball(), Mining(), seed=5) for _ in range(2))
    assert np.array_equal(one.volume.hu, two.volume.hu)
    assert one.targets == two.targets


def test_what_is_cut_is_what_the_device_cuts() -> None:
    rng = np.random.default_rng(0)
    volume = Volume(
        "v", rng.uniform(-1200, 600, (30, 70, 70)).astype("f4"), (2.0, 0.7, 0.7), (0,) * 3
    )
    centers = [(24.3, 25.1, 29.0), (3.0, 40.0, 55.0)]
    stack = stack_of(volume)
    window = Window(low=bundle.LOW_HU, high=bundle.HIGH_HU)
    backend = CpuBackend("onnxruntime", {}, {})
    device_patch = backend.gather(stack, (Rescale(), Orient(), Patch(size=48), window), centers)
    device_cube = backend.gather(
        stack, (Rescale(), Orient(), Cube(size=32, spacing_mm=0.8), window), centers
    )
    patches, cubes = cut(stack, centers)
    assert np.abs(patches / 255 - device_patch.data[:, 0]).max() <= 0.51 / 255
    assert np.abs(cubes[:, 4:36, 4:36, 4:36] / 255 - device_cube.data[:, 0]).max() <= 0.51 / 255


def one_bright_cell(image: np.ndarray) -> dict[str, Any]:
    heat = np.full([1, 1, *(n // 4 for n in image.shape[2:])], -9.0, np.float32)
    heat[0, 0, 5, 8, 9] = 2
    return {"heat": heat, "log_diameter": np.full(heat.shape, np.log(7.0), np.float32)}


def backend() -> CpuBackend:
    """Lung everywhere and one candidate, at 5 mm * (5.5, 8.5, 9.5) from the outer edge."""
    runs: Any = {
        "segment": lambda image: {"lungs": np.ones_like(image)},
        "propose": one_bright_cell,
    }
    entries = {role: bundle.network(role, "0" * 64) for role in runs}
    return CpuBackend("onnxruntime", entries, runs)


def test_a_scan_gives_its_candidates_and_its_nodules_at_jittered_centres() -> None:
    near = Target((27.5, 42.0, 47.0), 8.0)
    scan = empty_scan([near, Target((60.0, 20.0, 20.0), 6.0)], 1)
    found = mined_of(scan, backend(), Mining(jittered=2), seed=0)
    assert found.found.tolist() == [True] + [False] * 4
    assert found.labels.tolist() == [1] * 5
    assert found.nodule.tolist() == [0, 0, 1, 0, 1]
    assert found.rank.tolist() == [0, -1, -1, -1, -1]
    assert found.real.tolist() == [False, False, True, False, True]
    assert found.truth.tolist() == [1]
    assert found.heat[0] == 2
    assert found.diameter[0] == pytest.approx(7.0, rel=1e-5)


def test_a_false_candidate_is_one_far_from_every_nodule() -> None:
    found = mined_of(empty_scan([], 0), backend(), Mining(), seed=0)
    assert found.labels.tolist() == [0]
    assert found.nodule.tolist() == [-1]


def test_files_hold_what_was_mined_and_scans_are_numbered_on(tmp_path: Path) -> None:
    one = mined_of(empty_scan([Target((27.5, 42.0, 47.0), 8.0)], 1), backend(), Mining(), 0)
    both = joined([one, one])
    assert both.scan.tolist() == [0, 0, 1, 1]
    candidates.save(tmp_path / "some.npz", both, Mining())
    again = candidates.load(tmp_path / "some.npz")
    assert np.array_equal(again.cubes, both.cubes)
    assert again.truth.tolist() == [1, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["some.npz"]


def test_a_file_is_named_by_its_knobs_and_by_the_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    for run in ("segment", "p"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "int8.onnx").write_bytes(b"one")
    mining = Mining(propose="p")
    names = {candidates.digest(mining), candidates.digest(replace(mining, seeds=25))}
    (tmp_path / "p" / "int8.onnx").write_bytes(b"two")
    names.add(candidates.digest(mining))
    assert len(names) == 3


def test_only_scans_with_a_licence_to_train_are_mined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    with pytest.raises(ValueError, match="siemens-j2k may not be trained on"):
        candidates.cached(Mining(host="siemens-j2k"))
    with pytest.raises(RunError, match="train and quantize it first"):
        candidates.cached(Mining(propose="none"))
