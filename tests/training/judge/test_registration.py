"""What the judge of registration prints, on small chests whose truth is exact."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.prior import identity
from appliance.prior.register import Registration, register
from rigs import breathing
from rigs.two_lungs import two_lungs
from training.judge import registration
from training.judge.breath import Exam
from training.judge.registration import CASES, Pair
from training.read.volume import Volume


def pair(vessels: int = 1) -> Pair:
    then = breathing.chest(vessels=vessels)
    now = breathing.chest(breathing.breath, vessels=vessels, seed=6)
    points = breathing.places(now)
    return Pair(f"chest {vessels}", CASES[0], then, now, points, breathing.breath(points))


@pytest.fixture(scope="module")
def found() -> tuple[Pair, Registration]:
    one = pair()
    return one, register(one.prior, one.current, None)


def test_the_table_gives_the_error_of_each_pair(found: tuple[Pair, Registration]) -> None:
    off = registration.errors(*found)
    text = registration.accuracy([found])
    assert f"| chest 1 | 25 mm deeper | {off.mean():.2f} | {np.percentile(off, 95):.2f} |" in text
    assert "Same person: 1 of 1" in text


@pytest.mark.long
def test_strangers_are_judged_both_ways() -> None:
    text = registration.strangers([pair(), pair(2)], jobs=1)
    assert "2 ordered pairs: 2 images_disagree" in text


def test_each_kind_of_sick_pair_is_what_its_name_says() -> None:
    made = {name: change(pair()) for name, change in registration.sick().items()}
    whole = pair()
    upper = made["prior without the upper third"].prior
    assert len(upper.values) < len(whole.prior.values)
    assert upper.grid.to_lps[2, 3] == whole.prior.grid.to_lps[2, 3]
    lower = made["current without the lower half of the lungs"].current
    assert lower.grid.to_lps[2, 3] > whole.current.grid.to_lps[2, 3] + 50
    apart = made["no common cover"]
    top = apart.prior.grid.to_lps[2, 3] + 2 * (len(apart.prior.values) - 1)
    assert top > apart.prior.grid.to_lps[2, 3]
    filled = made["prior with one lung filled"].prior
    assert 0.4 < filled.lungs.sum() / whole.prior.lungs.sum() < 0.6
    part = made["prior with 40 % of one lung under fluid"].prior
    assert filled.lungs.sum() < part.lungs.sum() < whole.prior.lungs.sum()
    assert not made["prior without lungs"].prior.lungs.any()
    mirrored = made["prior mirrored"].prior.values
    assert np.array_equal(mirrored, identity.mirrored(whole.prior).values)


def test_what_is_kept_of_an_exam_is_its_lungs_and_a_margin_at_2_mm() -> None:
    chest = two_lungs((3.0, 2.0, 2.0))
    volume = Volume("two lungs", chest.hu, (3.0, 2.0, 2.0), (-119.0, -104.0, -148.5))
    lungs = chest.right | chest.left
    kept = registration.image_of(Exam(volume, lungs, np.ones(lungs.shape, np.bool_)))
    assert kept.grid.spacing_mm == (2.0, 2.0, 2.0)
    litres = kept.lungs.sum() * 8 / 1e6
    assert litres == pytest.approx(lungs.sum() * 12 / 1e6, rel=0.01)
    where = breathing.places(kept, 50)
    there = volume.zyx(where)
    assert lungs[tuple(np.rint(there).astype(int).T)].mean() > 0.95


@pytest.mark.long
def test_times_name_each_step() -> None:
    text = registration.times(pair())
    for step in ("align", "demons", "keypoints", "register, by demons", "locate one finding"):
        assert f"| {step} | " in text
