"""Lessons: a pool that is made once, and what is varied in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.implant.pairs.fields import moved
from training.implant.pairs.pair import Chest, drawn
from training.recipes.compare import lessons
from training.recipes.compare.seen import seen


@pytest.fixture(scope="module")
def lesson(host: Chest) -> lessons.Lesson:
    return lessons.of(seen(drawn(np.random.default_rng(2), host, moved)))


def test_a_pool_is_made_once_goes_on_and_is_the_same_again(host: Chest, tmp_path: Path) -> None:
    asked: list[str] = []

    def chest(name: str) -> Chest:
        asked.append(name)
        return host

    few = lessons.pool(tmp_path, ["a", "b"], 3, 2, chest)
    assert sorted(asked) == ["a", "b"]
    first = {path: path.read_bytes() for path in few}
    more = lessons.pool(tmp_path, ["a", "b"], 3, 3, chest)
    assert asked == ["a", "b", "a"]
    assert all(path.read_bytes() == data for path, data in first.items())
    assert set(more) >= set(few)
    fixed, _, lungs, truth = lessons.read(few[0])
    assert fixed.shape == lungs.shape == truth.shape[1:]
    assert lessons.pool(tmp_path, ["a"], 3, 1, chest)[0].parent != few[0].parent


def test_a_pair_whose_boxes_mislead_is_left_out(
    host: Chest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "FAR_MM", 0.0)
    assert lessons.pool(tmp_path, ["a"], 3, 1, lambda _: host) == []


def test_a_mirrored_lesson_turns_its_field_along_x_alone(lesson: lessons.Lesson) -> None:
    truth = lesson[3]
    turned = set()
    for seed in range(12):
        _, _, lungs, field = lessons.varied(np.random.default_rng(seed), lesson)
        mirrored = not np.array_equal(lungs, lesson[2])
        turned.add(mirrored)
        back = field[..., ::-1] if mirrored else field
        sign = np.array([1, 1, -1 if mirrored else 1])[:, None, None, None]
        assert np.allclose(back * sign, truth)
    assert turned == {True, False}


def test_a_halved_lesson_has_half_the_cells_and_its_field_in_them(lesson: lessons.Lesson) -> None:
    fixed, _, lungs, truth = lessons.halved(lesson)
    assert tuple(2 * n for n in fixed.shape) == lesson[0].shape
    assert float(lungs.mean()) == pytest.approx(float(lesson[2].mean()), rel=1e-4)
    assert float(truth.mean()) == pytest.approx(float(lesson[3].mean()) / 2, rel=1e-3)


def test_a_batch_is_filled_up_with_air_to_one_size(lesson: lessons.Lesson) -> None:
    fixed, moving, lungs, truth = lesson
    small = (fixed[:-8], moving[:-8], lungs[:-8], truth[:, :-8])
    prior, current, share, field = lessons.batch_of([lesson, small])
    assert prior.shape == current.shape == share.shape == (2, 1, *fixed.shape)
    assert field.shape == (2, 3, *fixed.shape)
    assert float(current[1, 0, -8:].abs().max()) == 0
    assert np.array_equal(current[0, 0].numpy(), fixed)
    assert np.array_equal(prior[0, 0].numpy(), moving)
