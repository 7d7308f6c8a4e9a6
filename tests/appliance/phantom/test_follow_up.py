"""The same person later, and somebody else: the truth is what was drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from appliance.phantom.chest import Nodule, Phantom, Scan, chest, plan
from appliance.phantom.follow_up import ELSEWHERE_MM, Course, FollowUp, follow_up, stranger
from appliance.phantom.kernel import LUNG, SOFT, STANDARD, Kernel
from appliance.phantom.raster import Point, between
from appliance.phantom.vessels import Trees

COARSE = (3.0, 1.6, 1.6)
QUIET = Scan(COARSE, noise_hu=0.0)
BALL = Nodule((0.0, 0.0, 0.0), 12.0, "solid", 40.0)


def course(index: int, then: float | None, now: float | None) -> Course:
    """Of a place where the default set has an isolated nodule."""
    at = chest(3, spacing_mm=(30.0, 8.0, 8.0)).nodules[index].center_lps_mm
    return Course(replace(BALL, center_lps_mm=at), then, now)


@pytest.fixture(scope="module")
def asked() -> FollowUp:
    """Four nodules without noise: equal, larger, new, gone."""
    asked = [
        course(5, 12.0, 12.0),
        course(7, 10.0, 14.0),
        course(8, None, 12.0),
        course(11, 12.0, None),
    ]
    return follow_up(3, breath_mm=20.0, prior=QUIET, current=QUIET, courses=asked)


@pytest.fixture(scope="module")
def bare() -> FollowUp:
    """The same exams without any."""
    return follow_up(3, breath_mm=20.0, prior=QUIET, current=QUIET, courses=())


def values(phantom: Phantom, points: np.ndarray) -> np.ndarray:
    """HU at points [n, 3]."""
    index = (points - phantom.origin_lps_mm)[:, ::-1] / phantom.spacing_mm
    return between([phantom.hu.astype(np.float32)], index)[0]


def drawn_at(with_it: Phantom, without: Phantom, near: Point) -> tuple[np.ndarray, float]:
    """(Centre of what was added around a place, its equivalent diameter in mm)."""
    gain = (with_it.hu.astype(float) - without.hu).clip(0)
    grid = np.indices(gain.shape).reshape(3, -1)[::-1].T * with_it.spacing_mm[::-1]
    points = grid + with_it.origin_lps_mm
    close = np.linalg.norm(points - near, axis=1) < 16
    weight = gain.ravel()[close]
    center = (points[close] * weight[:, None]).sum(0) / max(weight.sum(), 1)
    volume = weight.sum() / (BALL.hu + 850) * np.prod(with_it.spacing_mm)
    return center, float((volume * 6 / np.pi) ** (1 / 3))


@pytest.mark.long
def test_the_same_arguments_give_the_same_bytes_and_noise_differs_between_exams() -> None:
    scan = Scan((10.0, 5.0, 5.0))
    one, two = (follow_up(1, prior=scan, current=scan) for _ in range(2))
    assert one.current.hu.tobytes() == two.current.hu.tobytes()
    assert one.prior.hu.tobytes() == two.prior.hu.tobytes()
    still = follow_up(1, breath_mm=0.0, prior=scan, current=scan, courses=())
    assert still.prior.hu.tobytes() != still.current.hu.tobytes()


def test_the_first_exam_is_the_chest_of_that_seed_with_other_noise() -> None:
    scan = Scan((8.0, 4.0, 4.0), noise_hu=0.0)
    both = follow_up(1, prior=scan, current=scan, courses=())
    plain = chest(1, spacing_mm=scan.spacing_mm, noise_hu=0.0, nodules=())
    apart = np.abs(both.prior.hu.astype(float) - plain.hu)
    assert np.percentile(apart, 99) < 60, "the grain of the lung alone"
    assert apart.mean() < 4


@pytest.mark.long
def test_nodules_are_drawn_in_both_exams_where_and_as_large_as_the_truth_says(
    asked: FollowUp, bare: FollowUp
) -> None:
    for truth in asked.followed:
        for exam, empty, nodule, place in (
            (asked.prior, bare.prior, truth.then, truth.place_then_lps_mm),
            (asked.current, bare.current, truth.now, truth.place_now_lps_mm),
        ):
            center, diameter = drawn_at(exam, empty, place)
            if nodule is None:
                assert diameter < 2.5, "nothing is there"
                continue
            assert nodule.center_lps_mm == place
            assert nodule in exam.nodules
            assert np.linalg.norm(center - place) < 1.2
            assert diameter == pytest.approx(nodule.diameter_mm, abs=1.2)


@pytest.mark.long
def test_the_truth_says_what_became_of_each(asked: FollowUp) -> None:
    assert [one.state for one in asked.followed] == ["matched", "matched", "new", "gone"]
    assert [one.change for one in asked.followed] == ["equal", "larger", None, None]
    assert asked.followed[1].volume_ratio == pytest.approx(1.4**3)
    assert [len(exam.nodules) for exam in (asked.prior, asked.current)] == [3, 3]


def test_places_of_both_exams_are_those_of_the_field(asked: FollowUp) -> None:
    then = np.array([one.place_then_lps_mm for one in asked.followed])
    now = np.array([one.place_now_lps_mm for one in asked.followed])
    assert np.abs(asked.to_prior(now) - then).max() < 1e-3
    assert np.abs(asked.to_current(then) - now).max() < 1e-3
    moved = now - then - ELSEWHERE_MM
    assert 3 < np.linalg.norm(moved, axis=1).max() < 25


@pytest.mark.long
def test_vessels_lie_where_the_field_moves_them(bare: FollowUp) -> None:
    """What is bright in the lung of one exam is bright at its place in the other."""
    prior = bare.prior
    index = np.argwhere((prior.hu > -600) & (prior.hu < -300))
    points = index[:, ::-1] * np.array(prior.spacing_mm)[::-1] + prior.origin_lps_mm
    inner = points[(np.abs(np.abs(points[:, 0]) - 75) < 30) & (np.abs(points[:, 2] + 20) < 50)]
    inner = inner[np.abs(inner[:, 1]) < 50]
    there = values(bare.current, bare.to_current(inner))
    astray = values(bare.current, bare.to_current(inner) + np.array([0.0, 0.0, 8.0]))
    assert np.median(there) > np.median(astray) + 80


def test_breathing_out_makes_the_lung_denser(bare: FollowUp) -> None:
    at = np.stack(np.meshgrid([-85.0, 85.0], [0.0, 20.0, 40.0], np.arange(-40, 10, 5.0)), -1)
    points = at.reshape(-1, 3)
    before = np.median(values(bare.prior, points))
    after = np.median(values(bare.current, bare.to_current(points)))
    assert after > before + 8


def test_the_default_set_has_every_course(asked: FollowUp) -> None:
    scan = Scan((10.0, 5.0, 5.0))
    both = follow_up(1, prior=scan, current=scan)
    states = [one.state for one in both.followed]
    assert (states.count("new"), states.count("gone"), states.count("matched")) == (2, 2, 9)
    assert [one.change for one in both.followed].count("larger") == 2
    assert {n.diameter_mm for n in both.prior.nodules} <= {
        n.diameter_mm for n in chest(1, spacing_mm=(10.0, 5.0, 5.0)).nodules
    }


@pytest.mark.parametrize(("kernel", "order"), [(SOFT, -1), (LUNG, 1)])
@pytest.mark.long
def test_a_kernel_makes_edges_softer_or_sharper(kernel: Kernel, order: int) -> None:
    def edge(chosen: Kernel) -> float:
        scan = Scan((30.0, 0.7, 0.7), rows=96, noise_hu=0.0, kernel=chosen)
        image = follow_up(3, prior=scan, current=scan, courses=()).prior.hu[5].astype(float)
        return float(np.abs(np.diff(image, axis=1)).max())

    assert (edge(kernel) - edge(STANDARD)) * order > 0


def shared(one: Trees, other: Trees) -> float:
    """Of the branches of 1.2-3 mm of one person, the share that another has within 4 mm."""
    middles = []
    for trees in (one, other):
        rows = trees.blood[(trees.blood[:, 7] > 1.2) & (trees.blood[:, 7] < 3)]
        middles.append((rows[:, 0:3] + rows[:, 3:6]) / 2)
    gaps = np.linalg.norm(middles[0][:, None] - middles[1][None], axis=2)
    return float((gaps.min(axis=1) < 4).mean())


@pytest.mark.long
def test_the_vessels_of_strangers_branch_otherwise_than_those_of_anybody() -> None:
    strangers = [plan(seed, varied=True)[1] for seed in (2, 3)]
    usual = [plan(seed)[1] for seed in (1, 2)]
    alike = shared(*usual)
    assert alike > 0.25
    for one, other in combinations((*strangers, usual[0]), 2):
        assert shared(one, other) < alike - 0.05


@pytest.mark.long
def test_a_stranger_has_another_body_and_other_nodules() -> None:
    scan = Scan((5.0, 2.5, 2.5), noise_hu=0.0)
    one, other = (stranger(seed, scan=scan) for seed in (2, 3))
    assert len(one.nodules) == len(other.nodules) == 13
    assert not {n.center_lps_mm for n in one.nodules} & {n.center_lps_mm for n in other.nodules}
    for body in (one, other):
        for nodule in body.nodules[-3:]:
            assert values(body, np.array([nodule.center_lps_mm]))[0] > -700
    k = one.hu.shape[0] // 2
    air = [p.hu[k - 8 : k + 8] < -500 for p in (one, other)]
    assert (air[0] ^ air[1]).mean() > 0.02
