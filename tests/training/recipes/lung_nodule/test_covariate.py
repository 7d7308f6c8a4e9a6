"""The covariate of the scan on made-up candidates: it stays where noise moves scores, else not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.phantom.chest import chest
from training.errors import RunError
from training.read.volume import Volume
from training.recipes.lung_nodule import covariate
from training.recipes.lung_nodule.covariate import Scan

NOISES = (10.0, 20.0, 40.0, 80.0)


def scans(moved: Callable[[float], float]) -> list[Scan]:
    """Four folds of two hosts, four copies each; noise moves every logit of a scan alike."""
    rng, found = np.random.default_rng(1), []
    for fold in range(4):
        for host in range(2):
            for hu in NOISES:
                hits = np.arange(60) % 6 == 0
                logit = rng.normal(size=60) + 2.5 * hits + moved(hu)
                verdicts = np.where(hits, np.arange(60) // 6, -1)
                name = f"host {fold}-{host}"
                found.append(Scan(f"fold-{fold}", name, f"{hu} HU", hu, logit, verdicts, 10))
    return found


def test_where_noise_moves_the_scores_the_covariate_stays() -> None:
    found = covariate.compared(scans(lambda hu: 2 * np.log(hu / 25)), samples=200)
    assert found["stays"]
    assert found["gain"][0] > 0.05
    assert 0 < found["gain"][1] <= found["gain"][0] <= found["gain"][2]
    text = covariate.as_text(found)
    assert text.splitlines()[0].split() == ["false", "a", "scan", "plain", "sum", "with", "noise"]
    assert len(text.splitlines()) == 1 + 7 + 3
    assert text.endswith("the covariate stays in")


def test_where_noise_says_nothing_the_plain_sum_stays() -> None:
    found = covariate.compared(scans(lambda _: 0.0), samples=200)
    assert not found["stays"]
    assert abs(found["gain"][0]) < 0.03
    assert covariate.as_text(found).endswith("the plain sum stays")


def test_a_fold_is_scored_by_a_fit_that_never_saw_it() -> None:
    every = scans(lambda hu: np.log(hu / 25))
    before = covariate.left_out(every, covariate=True)
    changed = [
        Scan(s.fold, s.host, s.copy, s.noise_hu, s.logit, -1 - 0 * s.verdicts, s.nodules)
        if s.fold == "fold-0"
        else s
        for s in every
    ]
    after = covariate.left_out(changed, covariate=True)
    own = [i for i, s in enumerate(every) if s.fold == "fold-0"]
    assert all(np.array_equal(before[i].scores, after[i].scores) for i in own)
    others = [i for i in range(len(every)) if i not in own]
    assert not any(np.array_equal(before[i].scores, after[i].scores) for i in others)
    with pytest.raises(RunError, match="two folds or more"):
        covariate.left_out([every[i] for i in own], covariate=True)


@pytest.mark.long
def test_the_copies_differ_in_their_noise_as_the_appliance_measures_it() -> None:
    phantom = chest(1, spacing_mm=(2.0, 1.0, 1.0))
    hu = phantom.hu.astype(np.float32)
    volume = Volume("phantom", hu, phantom.spacing_mm, phantom.origin_lps_mm)
    rng = np.random.default_rng(1)
    made = {name: alter(rng, volume) for name, alter in covariate.COPIES.items()}
    noise = {name: covariate.noise_of(one) for name, one in made.items()}
    usual = noise["as it is"]
    assert noise["noise of 40 HU"] > noise["noise of 20 HU"] > 1.1 * usual
    assert noise["sharp"] > 1.1 * usual
    assert noise["smooth"] < noise["as it is"] * 0.8
    thick = made["slices of 5 mm"]
    assert thick.spacing[0] == 5.0
    first = volume.origin[2] - volume.spacing[0] / 2
    assert thick.origin[2] - thick.spacing[0] / 2 == pytest.approx(first)
    with pytest.raises(RunError, match="too little soft tissue"):
        covariate.noise_of(Volume("air", np.full_like(hu, -1000), (2.0, 1.0, 1.0), (0, 0, 0)))
