"""The 3D branch: it trains, resumes, learns from a teacher, and its gain is counted right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

import torch

from training.errors import RunError
from training.learn.checkpoint import load_checkpoint
from training.networks import CubeNet, ProposeNet
from training.recipes.lung_nodule import candidates, cube, quantize
from training.recipes.lung_nodule.candidates import CUBE, Candidates

TINY = cube.Knobs(steps=2, batch=4, save_every=1, warmup=1)


def pixels(found: Candidates) -> tuple[Any, Any]:
    return cube.unit(found.patches), cube.middle(cube.unit(found.cubes))


def weights(model: torch.nn.Module) -> list[Any]:
    return [v.clone() for v in model.state_dict().values()]


@pytest.mark.long
def test_two_steps_leave_a_checkpoint_that_a_second_run_takes_up(pool: Any, tmp_path: Path) -> None:
    cube.train(replace(TINY, steps=1), [pool()], None, tmp_path)
    first = load_checkpoint(tmp_path / "last.pt")
    assert first["step"] == 1
    cube.train(TINY, [pool()], None, tmp_path)
    second = load_checkpoint(tmp_path / "last.pt")
    assert second["step"] == 2
    assert second["knobs"]["batch"] == 4
    assert not torch.equal(first["ema"]["head.weight"], second["ema"]["head.weight"])


def test_the_same_seed_trains_the_same_network(folder: Any, pool: Any, tmp_path: Path) -> None:
    one, two = (cube.train(TINY, [pool()], None, folder(tmp_path, str(i))) for i in range(2))
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))


@pytest.mark.long
def test_it_learns_to_tell_a_bright_middle_from_noise(pool: Any, tmp_path: Path) -> None:
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
    folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_what_is_no_hybrid_or_another_one_teaches_nobody(
    folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    path = folder(tmp_path, "h") / "last.pt"
    weights_of = CubeNet().state_dict()
    torch.save({"recipe": "lung_nodule_cube", "knobs": {"hosts": "a"}, "ema": weights_of}, path)
    with pytest.raises(RunError, match="made by lung_nodule_cube: no hybrid"):
        cube.teacher_of("h", "a")
    knobs = {"hosts": "a", "scale": 0.25, "zoom": 1}
    torch.save({"recipe": "lung_nodule_hybrid", "knobs": knobs, "ema": weights_of}, path)
    with pytest.raises(RunError, match="is of another network"):
        cube.teacher_of("h", "a")


def test_calibration_cubes_are_of_the_hosts_of_the_run_and_none_is_judged_on(
    folder: Any, pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_hosts_and_classes_are_drawn_alike_however_many_candidates_they_have(pool: Any) -> None:
    few, many = pool(4), pool(40)
    bright = replace(few, patches=np.full_like(few.patches, 255))
    rng = np.random.default_rng(0)
    patches, _, labels = cube.drawn(rng, [bright, many], 400, positives=0.5, real=0.0)
    assert 0.4 < (patches.min((1, 2)) == 1).mean() < 0.6
    assert 0.4 < labels.mean() < 0.6


def test_marked_lesions_are_drawn_as_often_as_asked(pool: Any) -> None:
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
