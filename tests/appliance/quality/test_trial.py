"""A tuning is proposed where it finds more in the same implants, and by chance hardly ever."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone

import numpy as np

from appliance.quality import trial
from appliance.watching.alarm import Alarm, Cause, Statistic
from appliance.watching.probe import Probed, ProbedSeries, Trial, Tuned
from appliance.watching.row import Row
from appliance.watching.scanner import Scanner

BUNDLE = "a" * 64
NOON = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)
SCANNER = Scanner(modality="CT", maker="A", model="B")
NONE: Mapping[float, float] = dict.fromkeys(trial.CANDIDATES_MM, 0.0)


def made(
    rng: np.random.Generator,
    gain: Mapping[float, float] = NONE,
    *,
    beside: Mapping[float, int] | None = None,
    series: int = trial.SERIES,
    of: int | None = 0,
    flips: float = 0.1,
) -> list[ProbedSeries]:
    """Series of one scanner, which differ. A candidate finds what was not found by `gain`, and
    turns each implant over by chance (`flips`), as a network near its threshold does."""
    rows = []
    for share in rng.beta(6, 3, series):
        found = rng.random(trial.IMPLANTS) < share
        tuned = []
        for mm in trial.CANDIDATES_MM:
            turned = found ^ (rng.random(trial.IMPLANTS) < flips)
            better = turned | (rng.random(trial.IMPLANTS) < gain[mm])
            more = 0 if beside is None else beside[mm]
            tuned.append(Tuned(soften_mm=mm, found=tuple(map(bool, better)), beside=2 + more))
        rows.append(
            ProbedSeries(
                series=uuid.uuid4(),
                bundle=BUNDLE,
                at=NOON,
                sizes_mm=(6.0,) * trial.IMPLANTS,
                found=tuple(map(bool, found)),
                beside=2,
                extra=0,
                tuned=() if of is None else tuple(tuned),
                trial=of,
            )
        )
    return rows


def test_what_finds_more_is_proposed_with_its_figures() -> None:
    rng = np.random.default_rng(1)
    found = trial.proposed(SCANNER, made(rng, {**NONE, 0.6: 0.5}), NOON)
    assert found is not None
    assert (found.soften_mm, found.series, found.implants) == (0.6, 20, 200)
    assert found.rise_low > 0
    assert found.rise_low <= found.tuned - found.sensitivity <= found.rise_high


def test_of_several_that_find_more_the_one_that_finds_most_is_proposed() -> None:
    rng = np.random.default_rng(2)
    found = trial.proposed(SCANNER, made(rng, {0.4: 0.3, 0.6: 0.5, 0.8: 0.9, 1.0: 0.5}), NOON)
    assert found is not None
    assert found.soften_mm == 0.8


def test_what_finds_more_but_also_more_that_is_no_implant_is_not_proposed() -> None:
    rng = np.random.default_rng(3)
    rows = made(rng, {**NONE, 0.8: 0.9}, beside={0.4: 0, 0.6: 0, 0.8: 1, 1.0: 0})
    assert trial.proposed(SCANNER, rows, NOON) is None


def test_what_finds_less_is_not_proposed() -> None:
    rng = np.random.default_rng(4)
    rows = []
    for one in made(rng):
        worse = tuple(t.model_copy(update={"found": (False,) * 10}) for t in one.tuned)
        rows.append(one.model_copy(update={"tuned": worse}))
    assert trial.proposed(SCANNER, rows, NOON) is None


def test_a_hundred_trials_without_effect_give_at_most_five_proposals() -> None:
    rng = np.random.default_rng(5)
    assert sum(trial.proposed(SCANNER, made(rng), NOON) is not None for _ in range(100)) <= 5


def test_without_the_procedure_of_holm_there_would_be_more_by_chance() -> None:
    """What the procedure is for, in 300 trials of four candidates that change nothing."""
    rng, alone, together = np.random.default_rng(6), 0, 0
    for _ in range(300):
        differences = [rng.normal(0, 0.1, trial.SERIES) for _ in trial.CANDIDATES_MM]
        together += any(one.is_rise for one in trial.rises(differences))
        alone += any(trial.rises([one])[0].is_rise for one in differences)
    assert together <= 15
    assert alone > together


def test_the_next_candidate_is_judged_less_strictly_only_where_the_one_before_rose() -> None:
    spread = np.linspace(-1, 1, 20)
    weak = 0.05 + 0.1 * spread / spread.std()  # 2.2 standard errors above 0
    assert trial.rises([weak], alpha=0.05)[0].is_rise
    assert not trial.rises([weak, weak * 0 - 0.1, weak * 0 - 0.1, weak * 0 - 0.1])[0].is_rise
    sure = [np.full(20, 0.3)] * 3
    assert trial.rises([weak, *sure])[0].is_rise


def test_the_interval_of_the_subsets_holds_the_mean() -> None:
    """Hartigan: exact for symmetric values, whatever their tails."""
    rng, held = np.random.default_rng(9), 0
    for _ in range(200):
        values = rng.standard_t(3, 12) + 1.0
        low, high = np.quantile(trial.subset_means(values), [0.05, 0.95])
        held += low <= 1.0 <= high
    assert 0.84 <= held / 200 <= 0.96


def test_the_means_are_those_of_subsets_and_always_the_same() -> None:
    means = trial.subset_means(np.array([1.0, 2.0, 6.0]))
    assert set(means.tolist()) == {1.0, 1.5, 2.0, 3.0, 3.5, 4.0, 6.0}
    assert len(means) == trial.SUBSETS
    assert (means == trial.subset_means(np.array([1.0, 2.0, 6.0]))).all()


AS_IT_IS = trial.Setting(BUNDLE)
DAYS = [NOON + timedelta(days=n) for n in range(4)]


def probed(series: Sequence[ProbedSeries], trials: int = 0) -> Probed:
    ended = Trial(bundle=BUNDLE, at=NOON, series=trial.SERIES)
    return Probed(scanner=SCANNER, series=tuple(series), trials=(ended,) * trials)


def test_a_trial_is_judged_once_when_all_its_series_are_there() -> None:
    rng = np.random.default_rng(10)
    rows = made(rng, {**NONE, 0.6: 0.9})
    assert trial.ended(probed(rows[:-1]), AS_IT_IS, NOON) is None
    ended = trial.ended(probed(rows), AS_IT_IS, NOON)
    assert ended is not None
    assert ended.proposal is not None
    assert trial.ended(probed(rows, trials=1), AS_IT_IS, NOON) is None, "it was judged"


def test_series_of_no_trial_and_of_another_bundle_are_no_part_of_it() -> None:
    rng = np.random.default_rng(11)
    rows = made(rng, series=19)
    others = [one.model_copy(update={"bundle": "b" * 64}) for one in made(rng, series=5)]
    assert trial.ended(probed([*rows, *others, *made(rng, of=None)]), AS_IT_IS, NOON) is None


def test_a_scanner_has_one_trial_at_first_and_another_after_a_while() -> None:
    rng = np.random.default_rng(12)
    assert trial.number(probed([]), AS_IT_IS) == 0
    first = made(rng)
    assert trial.number(probed(first[:7]), AS_IT_IS) == 0
    assert trial.number(probed(first, trials=1), AS_IT_IS) is None
    rest = made(rng, series=trial.AGAIN, of=None)
    assert trial.number(probed([*first, *rest[1:]], trials=1), AS_IT_IS) is None
    assert trial.number(probed([*first, *rest], trials=1), AS_IT_IS) == 1
    second = made(rng, series=3, of=1)
    assert trial.number(probed([*first, *rest, *second], trials=1), AS_IT_IS) == 1
    assert trial.number(probed(first, trials=1), trial.Setting("b" * 64)) == 0, (
        "another bundle has its own"
    )


def row(open_: Sequence[datetime] = (), closed: Sequence[datetime] = ()) -> Row:
    """A row of the library with open alarms, or after those that a person closed last."""
    alarms = tuple(
        Alarm(statistic=Statistic.SKIN, test="cusum", size=4, since=day, cause=Cause.SHARPER_KERNEL)
        for day in open_
    )
    return Row(key=SCANNER, since=NOON, alarms=alarms, changes=tuple(closed))


def test_after_an_alarm_the_trial_begins_anew_with_the_series_since() -> None:
    rng = np.random.default_rng(13)
    known = probed(made(rng), trials=1)
    assert trial.number(known, trial.Setting(BUNDLE, change=trial.change(row(), known))) is None
    changed = trial.Setting(BUNDLE, change=trial.change(row([DAYS[1]]), known))
    assert trial.number(known, changed) == 0
    since = [one.model_copy(update={"change": DAYS[1]}) for one in made(rng)]
    begun = known.model_copy(update={"series": (*known.series, *since[:-1])})
    assert trial.ended(begun, changed, NOON) is None, "those before the alarm do not count"
    whole = known.model_copy(update={"series": (*known.series, *since)})
    ended = trial.ended(whole, changed, NOON)
    assert ended is not None
    assert ended.change == DAYS[1]
    after = whole.model_copy(update={"trials": (*known.trials, ended)})
    assert trial.number(after, changed) is None
    assert trial.ended(after, changed, NOON) is None


def test_a_change_is_the_same_until_the_next_alarm() -> None:
    (one,) = made(np.random.default_rng(14), series=1)
    first, *_ = made(np.random.default_rng(15), series=1, of=None)
    known = probed([one.model_copy(update={"change": DAYS[1]}), first])
    same = (
        row([DAYS[1], DAYS[2]]),  # another statistic says so too
        row(closed=[DAYS[1], DAYS[2]]),  # a person has acknowledged both, or accepted one
        row(),  # the row began anew
        None,  # the row had to go
    )
    assert [trial.change(each, known) for each in same] == [DAYS[1]] * len(same)
    assert trial.change(row([DAYS[3]], closed=[DAYS[1]]), known) == DAYS[3]
    assert trial.change(row(closed=[DAYS[2], DAYS[3]]), known) == DAYS[3], "of an alarm in between"
    assert trial.change(row(), probed([])) is None
