"""The 3D branch: it trains, resumes, learns from a teacher, and its gain is counted right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

import torch

from training.errors import RunError
from training.judge.froc import Marks
from training.learn.checkpoint import load_checkpoint
from training.networks import CubeNet, ProposeNet
from training.recipes.lung_nodule import candidates, cube, hybrid, quantize
from training.recipes.lung_nodule import judge_cube as judge
from training.recipes.lung_nodule.calibrate import Judged
from training.recipes.lung_nodule.candidates import CUBE, PATCH, Candidates
from training.recipes.lung_nodule.fold_candidates import Fold, Kept
from training.ship.onnx_file import exported

TINY = cube.Knobs(steps=2, batch=4, save_every=1, warmup=1)


def pool(count: int = 12, seed: int = 0, real: int = 1) -> Candidates:
    """Noise; a nodule has a bright middle. The first `real` nodules are marked lesions."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    patches = rng.integers(0, 60, (count, PATCH, PATCH)).astype(np.uint8)
    cubes = rng.integers(0, 60, (count, CUBE, CUBE, CUBE)).astype(np.uint8)
    patches[labels == 1, 20:28, 20:28] = 200
    cubes[labels == 1, 16:24, 16:24, 16:24] = 200
    marked = np.zeros(count, bool)
    marked[np.flatnonzero(labels)[:real]] = True
    return Candidates(
        patches,
        cubes,
        labels,
        found=np.ones(count, bool),
        real=marked,
        heat=np.zeros(count, np.float32),
        diameter=np.full(count, 7, np.float32),
        rank=np.arange(count, dtype=np.int32),
        nodule=np.where(labels == 1, np.arange(count) // 2, -1).astype(np.int32),
        scan=np.zeros(count, np.int32),
        truth=np.array([count // 2], np.int32),
        slice_mm=np.array([2.0], np.float32),
    )


def pixels(found: Candidates) -> tuple[Any, Any]:
    return cube.unit(found.patches), cube.middle(cube.unit(found.cubes))


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def weights(model: torch.nn.Module) -> list[Any]:
    return [v.clone() for v in model.state_dict().values()]


def test_two_steps_leave_a_checkpoint_that_a_second_run_takes_up(tmp_path: Path) -> None:
    cube.train(replace(TINY, steps=1), [pool()], None, tmp_path)
    first = load_checkpoint(tmp_path / "last.pt")
    assert first["step"] == 1
    cube.train(TINY, [pool()], None, tmp_path)
    second = load_checkpoint(tmp_path / "last.pt")
    assert second["step"] == 2
    assert second["knobs"]["batch"] == 4
    assert not torch.equal(first["ema"]["head.weight"], second["ema"]["head.weight"])


def test_the_same_seed_trains_the_same_network(tmp_path: Path) -> None:
    one, two = (cube.train(TINY, [pool()], None, folder(tmp_path, str(i))) for i in range(2))
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))


def test_it_learns_to_tell_a_bright_middle_from_noise(tmp_path: Path) -> None:
    k = cube.Knobs(steps=20, batch=8, save_every=100, warmup=2, ema=0.8, bf16=False)
    model = cube.train(k, [pool(24)], None, tmp_path)
    fresh = pool(24, seed=9)
    logits = cube.logits_of(lambda _, cubes: model(cubes), *pixels(fresh))
    assert logits[fresh.labels == 1].min() > logits[fresh.labels == 0].max()


def test_a_teacher_pulls_the_student_where_labels_do_not() -> None:
    patches, cubes, labels = torch.rand(4, 1, 48, 48), torch.rand(4, 1, 32, 32, 32), torch.ones(4)
    k = replace(TINY, soft=1.0)
    seen = []

    def teacher(flat: Any, deep: Any) -> Any:
        seen.append((flat.shape, deep.shape))
        return torch.full((len(deep),), -4.0)

    torch.manual_seed(0)
    model = CubeNet()
    for wants, one in ((-1, teacher), (1, None)):
        model.zero_grad()
        cube.loss_of(model, patches, cubes, labels, one, k).backward()
        assert -wants * float(model.head.bias.grad) > 0
    assert seen == [((4, 1, 48, 48), (4, 1, 32, 32, 32))]


def test_it_starts_as_the_encoder_of_a_proposal_network_that_saw_no_other_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    torch.manual_seed(1)
    encoder = ProposeNet()
    path = folder(tmp_path, "p") / "last.pt"
    torch.save({"ema": encoder.state_dict(), "knobs": {"hosts": "a,b"}}, path)
    model = CubeNet()
    cube.started(model, "p", "b,a,c")
    image = torch.rand(1, 1, 32, 32, 32)
    for net in (model.eval(), encoder.eval()):
        net.requires_grad_(False)
    wanted = encoder.eighth(encoder.quarter(encoder.stem(image)))
    assert torch.equal(model.features(image), wanted)
    with pytest.raises(RunError, match="saw a,b, the student is to see a"):
        cube.started(model, "p", "a")
    torch.save({"ema": ProposeNet((8, 16, 16, 16)).state_dict(), "knobs": {"hosts": "a"}}, path)
    with pytest.raises(RunError, match="another network"):
        cube.started(model, "p", "a")


def test_calibration_cubes_are_of_the_hosts_of_the_run_and_none_is_judged_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    for run in ("segment", "p"):
        (folder(tmp_path, run) / "int8.onnx").write_bytes(b"a network")
    mining = candidates.Mining(host="A0001", propose="p", seeds=3)
    path = folder(tmp_path, "candidates") / f"A0001-{candidates.digest(mining)[:16]}.npz"
    candidates.save(path, pool(60), mining)
    run = {"hosts": "A0001", "propose": "A0001=p", "seeds": 3}
    images, judged, labels = quantize.cubes(run, 1, np.random.default_rng(0), 1)
    assert [batch.shape for batch in images + judged] == [(24, 1, 32, 32, 32)] * 2
    bright = judged[0][:, 0, 16, 16, 16] > 0.5
    assert bright.tolist() == (labels == 1).tolist()
    assert len({cube.tobytes() for batch in images + judged for cube in batch}) == 48


def test_hosts_and_classes_are_drawn_alike_however_many_candidates_they_have() -> None:
    few, many = pool(4), pool(40)
    bright = replace(few, patches=np.full_like(few.patches, 255))
    rng = np.random.default_rng(0)
    patches, _, labels = cube.drawn(rng, [bright, many], 400, positives=0.5, real=0.0)
    assert 0.4 < (patches.min((1, 2)) == 1).mean() < 0.6
    assert 0.4 < labels.mean() < 0.6


def test_marked_lesions_are_drawn_as_often_as_asked() -> None:
    some = pool(40)
    only = replace(some, patches=np.where(some.real[:, None, None], 255, 0).astype(np.uint8))
    rng = np.random.default_rng(0)
    patches, _, _ = cube.drawn(rng, [only], 300, positives=1.0, real=0.5)
    assert 0.4 < patches.max((1, 2)).mean() < 0.65


def test_the_network_sees_the_middle_of_a_cube() -> None:
    cubes = np.zeros((1, CUBE, CUBE, CUBE), np.uint8)
    cubes[0, 4:36, 4:36, 4:36] = 255
    assert cube.middle(cube.unit(cubes)).shape == (1, 32, 32, 32)
    assert cube.middle(cube.unit(cubes)).min() == 1


def test_a_host_without_a_proposal_run_is_named() -> None:
    with pytest.raises(RunError, match="no run for A0001"):
        cube.mined("A0001", "R01-001=propose", 1, 1)


def test_average_precision_is_the_mean_precision_at_each_nodule() -> None:
    labels, scores = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert judge.average_precision(labels, scores) == pytest.approx((1 + 2 / 3) / 2)


def marks(better: bool) -> list[Marks]:
    """Five scans of two nodules; the false findings stand above them or below."""
    score = np.array([0.9, 0.8, 0.2, 0.1]) if better else np.array([0.2, 0.1, 0.9, 0.8])
    return [Marks(score, np.array([0, 1, -1, -1]), 2) for _ in range(5)]


def test_a_better_order_gains_and_the_same_order_gains_nothing() -> None:
    assert judge.gain(marks(False), marks(True), 20)["1 a scan"] == [0.0, 1.0, 1.0, 1.0]
    assert judge.gain(marks(True), marks(True), 20)["cpm"] == [1.0, 1.0, 0.0, 0.0]


def a_fold(host: str, count: int = 40, seed: int = 0) -> Judged:
    """Two scans of `count` candidates and the unaltered host; every fourth hits a nodule, and the
    cube column alone knows it. In the host's own scan the last candidate hits its lesion."""
    rng = np.random.default_rng(seed)
    scan = np.repeat(np.arange(3), count)
    at = np.column_stack([np.tile(np.arange(count) * 30.0, 3), np.zeros((3 * count, 2))])
    rows = [{"center_lps_mm": [30.0 * i, 0.0, 0.0], "diameter_mm": 8.0} for i in range(0, count, 4)]
    lesions = [{"center_lps_mm": [30.0 * (count - 1), 0.0, 0.0], "diameter_mm": 8.0}]
    of = Kept(
        scan,
        at,
        np.full(3 * count, 8.0),
        -np.tile(np.arange(count, dtype=np.float64), 3),
        rng.random((3 * count, 48, 48)).astype(np.float16),
        rng.random((3 * count, 32, 32, 32)).astype(np.float16),
        np.zeros(3 * count, bool),
        [rows, rows, []],
        lesions,
    )
    verdicts = np.concatenate([of.verdicts(i) for i in range(3)])
    lesion = np.where((scan == 2) & (np.arange(3 * count) == 3 * count - 1), 0, -1)
    knows = ((verdicts >= 0) | (lesion >= 0)) * 20.0 - 10 + rng.normal(0, 0.1, 3 * count)
    features = np.column_stack([rng.normal(size=(3 * count, 2)), knows])
    return Judged(Fold(host, "p", top=count, seeds=2), of, features, verdicts, lesion)


def test_a_column_that_knows_better_gains() -> None:
    table = judge.compared([a_fold("a"), a_fold("b", seed=1)], judge.Knobs(samples=20))
    before, after, low, _ = table["all"]["froc"]["cpm"]
    assert after == 1
    assert before < 0.9
    assert low > 0
    assert table["a"]["heat+patch+cube"]["ranks"] == [1]
    assert table["a"]["cube"]["auc"] == 1
    assert table["a"]["heat"]["auc"] < 0.9


def test_fewer_candidates_are_the_best_of_each_scan() -> None:
    few = judge.fewer(a_fold("a"), 10)
    assert np.bincount(few.of.scan).tolist() == [10, 10, 10]
    assert few.of.heat.min() == -9
    assert len(few.features) == len(few.verdicts) == len(few.lesion) == len(few.of.cubes) == 30


def test_the_judge_reads_torch_and_onnx_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    model = cube.train(TINY, [pool()], None, folder(tmp_path, "run"))
    plain = exported(model, (32, 32, 32), ["logit"], many=True)
    onnx.save_model(plain, str(tmp_path / "run" / "float.onnx"))
    of = a_fold("a", count=2).of
    torch_logits = judge.logits(of, "run", "last.pt")
    assert torch_logits.shape == (6,)
    assert np.abs(torch_logits - judge.logits(of, "run", "float.onnx")).max() < 1e-3
    with pytest.raises(RunError, match="no such network"):
        judge.logits(of, "run", "int8.onnx")


def luna_patches(count: int = 16) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 255, (count, 50, 50)).astype(np.uint8)
    labels = (np.arange(count) % 2).astype(np.uint8)
    return {
        f"{s}_{what}": v
        for s in ("train", "val")
        for what, v in (("images", images), ("labels", labels))
    }


SMALL = hybrid.Knobs(
    hosts="a,b", scale=0.125, steps=2, pairs=3, alone=3, warmup=1, save_every=1, judge_every=2
)


def test_pairs_and_patches_alone_make_one_batch() -> None:
    k = replace(SMALL, pairs=100, alone=4, hidden=0.2)
    patches, cubes, present, labels = hybrid.batch_of(
        np.random.default_rng(0), [pool()], luna_patches(), k
    )
    assert patches.shape == (104, 1, 48, 48)
    assert cubes.shape == (104, 1, 32, 32, 32)
    assert labels.shape == (104,)
    assert present[100:].tolist() == [[1, 0]] * 4
    assert (present.sum(1) >= 1).all()
    hidden = 1 - present[:100].mean(0)
    assert ((hidden > 0.1) & (hidden < 0.3)).all()


def test_a_hybrid_trains_and_teaches_only_a_student_of_its_own_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    trained = hybrid.train(SMALL, [pool()], luna_patches(), folder(tmp_path, "t"))
    teacher = cube.teacher_of("t", "b,a")
    of = a_fold("a", count=2).of
    wanted = cube.logits_of(trained, of.patches, of.cubes)
    assert np.array_equal(cube.logits_of(teacher, of.patches, of.cubes), wanted)
    assert np.array_equal(judge.logits(of, "t", "last.pt"), wanted)
    with pytest.raises(RunError, match="saw a,b, its student is to see a"):
        cube.teacher_of("t", "a")
    taught = cube.train(replace(TINY, name="s"), [pool()], teacher, folder(tmp_path, "s"))
    alone = cube.train(replace(TINY, name="s"), [pool()], None, folder(tmp_path, "x"))
    assert not torch.equal(taught.head.weight, alone.head.weight)
