"""The training loop: exact resumes, frozen stages, and what a run survives or says."""

from __future__ import annotations

import csv
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from torch import Tensor, nn  # noqa: E402

from training.errors import RunError  # noqa: E402
from training.learn import loop  # noqa: E402
from training.learn.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from training.learn.loop import MOST_SKIPPED, Job, Schedule, device, fit, rates  # noqa: E402
from training.learn.steps import Plateau  # noqa: E402

SCHEDULE = Schedule(steps=8, rate=0.05, warmup=2, judge_every=2, save_every=3, bf16=False)


def network() -> nn.Module:
    """A base and a head, with what chance and statistics a real one has."""
    torch.manual_seed(3)
    base = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3))
    return nn.Sequential(base, nn.Linear(6, 1))


def draw(rng: np.random.Generator) -> tuple[Tensor, ...]:
    x = torch.from_numpy(rng.standard_normal((8, 4), dtype=np.float32))
    return x, x.sum(1)


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x).squeeze(1) - y).square().mean()


def job(**changes: Any) -> Job:
    def judge(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"fit": -float(loss(model, *draw(np.random.default_rng(9))))}

    figures = {"judge": judge}
    return Job(
        **{"recipe": "toy", "knobs": {"rate": 0.05}, "draw": draw, "loss": loss} | figures | changes
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = fit(network(), SCHEDULE, job(), whole, seed=1)
    calls = 0

    def breaks(rng: np.random.Generator) -> tuple[Tensor, ...]:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return draw(rng)

    with pytest.raises(RunError, match="goes on from step 3"):
        fit(network(), SCHEDULE, job(draw=breaks), cut, seed=1)
    torch.manual_seed(99)
    found = fit(network(), SCHEDULE, job(), cut, seed=1)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert [(r["step"], r["val"]) for r in rows(cut)] == [
        (r["step"], r["val"]) for r in rows(whole)
    ]
    assert [r["step"] for r in rows(whole)] == ["2", "4", "6", "8"]


def test_a_frozen_part_stands_still_then_learns(tmp_path: Path) -> None:
    model = network()
    before = {n: v.clone() for n, v in model[0].state_dict().items()}
    head = model[1].weight.detach().clone()
    still = replace(SCHEDULE, steps=4, frozen_steps=4, decay=0.5)
    frozen = job(frozen=lambda m: [m[0]])
    fit(model, still, frozen, tmp_path, seed=1)
    assert all(torch.equal(v, before[n]) for n, v in model[0].state_dict().items())
    assert not torch.equal(model[1].weight, head)
    fit(model, replace(still, steps=6), frozen, tmp_path, seed=1)
    assert not torch.equal(model[0][0].weight, before["0.weight"])
    assert not torch.equal(model[0][1].running_mean, before["1.running_mean"])


def test_what_was_frozen_warms_up_on_its_own_and_stays_gentle() -> None:
    s = replace(SCHEDULE, steps=100, rate=1.0, warmup=10, frozen_steps=20, gentle=0.1)
    assert rates(s, 5)[1] == rates(s, 19)[1] == 0
    first, later = rates(s, 20), rates(s, 40)
    assert first[1] == pytest.approx(0.01 * first[0])
    assert later[1] == pytest.approx(0.1 * later[0])


def test_a_plateau_drops_the_rate_after_judgements_without_gain() -> None:
    plateau = Plateau(patience=2)
    drops = []
    for figure in (0.5, 0.6, 0.6, 0.55, 0.7, 0.7, 0.7):
        plateau.see(figure)
        drops.append(plateau.drops)
    assert drops == [0, 0, 0, 1, 1, 1, 2]
    s = replace(SCHEDULE, kind="plateau", rate=1.0, warmup=1, factor=0.3)
    assert rates(s, 50, drops=2)[0] == pytest.approx(0.09)


def test_a_run_on_a_plateau_slows_down_and_logs_it(tmp_path: Path) -> None:
    s = replace(SCHEDULE, kind="plateau", patience=1, warmup=1)
    fit(network(), s, job(judge=lambda _: {"fit": 0.5}), tmp_path, seed=1)
    assert [float(r["rate"]) for r in rows(tmp_path)] == pytest.approx([0.05, 0.05, 0.015, 0.0045])


def some(bad: Callable[[int], bool], spoil: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """`loss`, spoiled at some calls."""
    calls = 0

    def of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        value = loss(model, x, y)
        return spoil(value) if bad(calls) else value

    return of


def test_a_step_without_a_number_changes_nothing(tmp_path: Path) -> None:
    model = network()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    nan = some(lambda _: True, lambda value: value * float("nan"))
    with pytest.raises(RunError, match="for 2 steps in a row at step 2, the last"):
        fit(model, replace(SCHEDULE, steps=2), job(loss=nan), tmp_path, seed=1)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert not (tmp_path / "last.pt").exists()


def test_a_run_goes_on_after_a_step_without_a_number_and_logs_it(tmp_path: Path) -> None:
    nan = some(lambda n: n == 2, lambda value: value * float("nan"))
    fit(network(), replace(SCHEDULE, steps=4), job(loss=nan), tmp_path, seed=1)
    fit(network(), SCHEDULE, job(), tmp_path, seed=1)
    assert [r["skipped"] for r in rows(tmp_path)] == ["1"] * 4


def test_a_run_that_has_no_number_for_long_ends_with_one_line(tmp_path: Path) -> None:
    nan = some(lambda n: n > 5, lambda value: value / 0)
    often = replace(SCHEDULE, steps=99, save_every=1)
    with pytest.raises(RunError, match="no number for 20 steps in a row at step 25") as ended:
        fit(network(), often, job(loss=nan), tmp_path, seed=1)
    assert "\n" not in str(ended.value)
    assert "last.pt is of step 5)" in str(ended.value)
    assert MOST_SKIPPED == 20
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 5
    assert all(torch.isfinite(v).all() for v in state["ema"].values())


def test_data_that_are_no_numbers_end_a_run_at_once(tmp_path: Path) -> None:
    calls = 0

    def broken(rng: np.random.Generator) -> tuple[Tensor, ...]:
        nonlocal calls
        calls += 1
        x, y = draw(rng)
        return x * (float("nan") if calls == 5 else 1), y

    with pytest.raises(RunError, match=r"drawn for step 5 holds .* look at the data .* of step 3"):
        fit(network(), SCHEDULE, job(draw=broken), tmp_path, seed=1)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3


def test_weights_that_are_no_numbers_end_a_run_though_its_loss_is_one(tmp_path: Path) -> None:
    calls = 0

    def spoils(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        value = loss(model, x, y)
        if calls == 4:  # batch statistics of training do not enter the loss
            model[0][1].running_mean.data.fill_(float("inf"))
        return value

    with pytest.raises(RunError, match=r"weights are no numbers at step 4 \(0\.1\.running_mean\)"):
        fit(network(), SCHEDULE, job(loss=spoils), tmp_path, seed=1)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 3
    assert all(torch.isfinite(v).all() for v in state["ema"].values())


def test_a_batch_that_does_not_fit_is_halved_and_learns_the_same(tmp_path: Path) -> None:
    class Full:
        """Memory for two samples."""

        def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss(model, x, y)

    def seven(rng: np.random.Generator) -> tuple[Tensor, ...]:
        x, y = draw(rng)
        return x[:7], y[:7]  # parts of two, and one of one

    def plain() -> nn.Module:
        torch.manual_seed(1)
        return nn.Linear(4, 1)

    roomy, tight = tmp_path / "roomy", tmp_path / "tight"
    roomy.mkdir()
    tight.mkdir()
    expected = fit(plain(), SCHEDULE, job(draw=seven), roomy, seed=1)
    found = fit(plain(), SCHEDULE, job(loss=Full(), draw=seven), tight, seed=1)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_one_sample_that_does_not_fit_ends_the_run_with_one_line(tmp_path: Path) -> None:
    def full(*_: object) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    with pytest.raises(RunError, match="one sample alone does not fit"):
        fit(network(), SCHEDULE, job(loss=full), tmp_path, seed=1)


def test_another_recipes_checkpoint_and_other_knobs_are_refused_and_kept(tmp_path: Path) -> None:
    fit(network(), SCHEDULE, job(), tmp_path, seed=1)
    kept = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(RunError, match="was made by toy, not by other: give another --name"):
        fit(network(), SCHEDULE, job(recipe="other"), tmp_path, seed=1)
    with pytest.raises(RunError, match=r"made with --rate 0\.05, not 0\.1"):
        fit(network(), SCHEDULE, job(knobs={"rate": 0.1}), tmp_path, seed=1)
    with pytest.raises(RunError, match=r"with --rate 0\.05, not 0\.1, without --batch, now 4: "):
        fit(network(), SCHEDULE, job(knobs={"rate": 0.1, "batch": 4}), tmp_path, seed=1)
    with pytest.raises(RunError, match=r"with --rate 0\.05, which is no knob any more: give"):
        fit(network(), SCHEDULE, job(knobs={}), tmp_path, seed=1)
    with pytest.raises(RunError, match="is of step 8, beyond --steps 7: give another --name"):
        fit(network(), replace(SCHEDULE, steps=7), job(), tmp_path, seed=1)
    assert (tmp_path / "last.pt").read_bytes() == kept
    old = {"model": {}, "knobs": {}, "step": 3}
    save_checkpoint(tmp_path / "last.pt", old)
    with pytest.raises(RunError, match="was made by an older recipe"):
        fit(network(), SCHEDULE, job(), tmp_path, seed=1)


def test_a_checkpoint_of_another_network_is_refused_and_names_the_tensor(tmp_path: Path) -> None:
    fit(network(), SCHEDULE, job(), tmp_path, seed=1)
    wider, longer = network(), network()
    wider[1] = nn.Linear(6, 2)
    longer.append(nn.Linear(1, 1))
    for other, said in (
        (wider, "1.weight is 1x6 there and 2x6 here"),
        (longer, "2.weight is missing there and 1x1 here"),
    ):
        with pytest.raises(RunError, match=f"is of another network: {said}: give") as ended:
            fit(other, SCHEDULE, job(), tmp_path, seed=1)
        assert "\n" not in str(ended.value)


def test_what_only_calls_itself_a_checkpoint_of_this_recipe_is_one_line(tmp_path: Path) -> None:
    for state in (
        {"recipe": "toy", "knobs": {"rate": 0.05}},
        {"recipe": "toy", "knobs": {"rate": 0.05}, "model": network().state_dict(), "ema": {}},
        [1, 2],
    ):
        torch.save(state, tmp_path / "last.pt")
        with pytest.raises(RunError, match=r"last\.pt") as ended:
            fit(network(), SCHEDULE, job(), tmp_path, seed=1)
        assert "\n" not in str(ended.value)


def test_only_what_ships_is_averaged_judged_and_returned(tmp_path: Path) -> None:
    judged: list[nn.Module] = []

    def judge(model: nn.Module) -> dict[str, float]:
        judged.append(model)
        return {"fit": 0.0}

    state = fit(network(), SCHEDULE, job(ships=lambda m: m[0], judge=judge), tmp_path, seed=1)
    assert set(state) == set(network()[0].state_dict())
    assert set(load_checkpoint(tmp_path / "last.pt")["model"]) == set(network().state_dict())
    assert torch.equal(judged[-1].state_dict()["0.weight"], state["0.weight"])


def test_a_run_learns_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device() == torch.device("cuda")
    state = fit(network(), SCHEDULE, job(), tmp_path, seed=1, on=torch.device("cpu"))
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 8
    assert all(value.device.type == "cpu" for value in state.values())


def test_no_recipe_takes_its_steps_elsewhere() -> None:
    root = Path(loop.__file__).parents[1]
    own = [p.name for p in root.rglob("*.py") if "backward()" in p.read_text()]
    assert own == ["loop.py"]


def test_half_a_checkpoint_a_missing_one_and_no_checkpoint_are_one_line(tmp_path: Path) -> None:
    fit(network(), SCHEDULE, job(), tmp_path, seed=1)
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:-500])
    for broken in (path, tmp_path / "text.pt"):
        if not broken.exists():
            broken.write_text("not a checkpoint")
        with pytest.raises(RunError, match="no whole checkpoint") as ended:
            load_checkpoint(broken)
        assert "\n" not in str(ended.value)
    with pytest.raises(RunError, match="has this run been trained"):
        load_checkpoint(tmp_path / "none.pt")


def test_a_schedule_is_what_the_knobs_say_and_is_judged_at_the_end_unless_told() -> None:
    s = Schedule.of(Schedule(steps=70, rate=0.5, warmup=3, save_every=9), clip=5.0)
    assert (s.steps, s.rate, s.warmup, s.save_every, s.clip) == (70, 0.5, 3, 9, 5.0)
    assert s.judge_every == 70
    assert Schedule.of(s, judge_every=10).judge_every == 10


def test_a_checkpoint_names_no_module_that_might_be_renamed(tmp_path: Path) -> None:
    fit(network(), SCHEDULE, job(), tmp_path, seed=1)
    with zipfile.ZipFile(tmp_path / "last.pt") as file:
        (pickled,) = (file.read(n) for n in file.namelist() if n.endswith("data.pkl"))
    named = {word for _, word, _ in pickletools.genops(pickled) if isinstance(word, str)}
    assert not [word for word in named if word.startswith(("training", "appliance"))]
    assert any(word.startswith("torch") for word in named)
