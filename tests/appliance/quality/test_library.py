"""A row of the library: it learns, is fixed, and says what changed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from appliance.quality import library, trial, windows
from appliance.quality.prior import SHIPPED
from appliance.watching.alarm import Alarm, Statistic
from appliance.watching.probe import Probed
from appliance.watching.quality import Outputs, RadiographQuality, SeriesQuality, VolumeQuality
from appliance.watching.row import PAST, RECENT, Row
from appliance.watching.scanner import Scanner

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
KEY = Scanner(modality="CT", maker="maker", model="model", kernel="B45f")
ANALYSED = Outputs(analysed=True)


class Sender:
    """A scanner in order, but for what a test asks."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.row = library.empty(KEY, AT)
        self.told: list[Alarm] = []

    def volume(self, **changed: float | str | None) -> VolumeQuality:
        rng, spread = self.rng, SHIPPED.spreads
        usual = {
            "noise_hu": 20 * np.exp(rng.normal(0, spread[Statistic.NOISE])),
            "texture_per_mm": 0.4 * np.exp(rng.normal(0, spread[Statistic.TEXTURE])),
            "skin_hu_per_mm": 60 * np.exp(rng.normal(0, spread[Statistic.SKIN])),
            "lung_edge_hu_per_mm": 150 * np.exp(rng.normal(0, spread[Statistic.LUNG_EDGE])),
            "tissue_hu": rng.normal(50, spread[Statistic.TISSUE]),
            "air_hu": rng.normal(-980, spread[Statistic.AIR]),
            "lung_share": 0.3 * np.exp(rng.normal(0, spread[Statistic.LUNG_SHARE])),
            "diameter_mm": 300.0,
            "contrast": "no",
        }
        return VolumeQuality.model_validate(usual | changed)

    def send(self, found: VolumeQuality | None, outputs: Outputs = ANALYSED) -> tuple[Alarm, ...]:
        measured = () if found is None else (found,)
        return self.sent(SeriesQuality(scanner=KEY, measured=measured, outputs=outputs))

    def sent(self, series: SeriesQuality) -> tuple[Alarm, ...]:
        at = AT + timedelta(hours=self.row.n)
        self.row, alarms = (
            (found := library.counted(self.row, series, at, SHIPPED)).row,
            found.alarms,
        )
        self.told += alarms
        return alarms

    def learn(self) -> Row:
        while self.row.state != "fixed":
            assert not self.send(self.volume()), "a seed whose learning time is quiet"
        return self.row


@pytest.fixture
def sender() -> Sender:
    found = Sender()
    found.learn()
    return found


def test_a_row_learns_from_its_first_studies_and_is_fixed_then(sender: Sender) -> None:
    before = sender.row
    assert (before.n, before.learnt, before.state) == (30, library.LEARNING, "fixed")
    for _ in range(20):
        sender.send(sender.volume())
    for which, one in sender.row.watched.items():
        was = before.watched[which]
        assert (one.n, one.mean, one.m2) == (was.n, was.mean, was.m2)
    assert sender.row.n == 50


def test_the_same_series_make_the_same_row() -> None:
    one, other = Sender(), Sender()
    assert one.learn() == other.learn()
    again = Row.stored(one.row.model_dump_json(by_alias=True))
    assert again == one.row
    found = one.volume(tissue_hu=200.0)
    series = SeriesQuality(scanner=KEY, measured=(found,), outputs=ANALYSED)
    read, kept = (library.counted(row, series, AT, SHIPPED) for row in (again, other.row))
    assert read == kept


def test_one_series_that_is_far_away_is_told_at_once_and_once(sender: Sender) -> None:
    (alarm,) = sender.send(sender.volume(tissue_hu=50.0 + 8 * 5.7))
    assert (alarm.statistic, alarm.test) == (Statistic.TISSUE, "series")
    assert alarm.size == pytest.approx(8, abs=1.5)
    assert alarm.since == sender.row.last
    assert sender.row.state == "frozen"
    assert not [a for a in sender.send(sender.volume(tissue_hu=95.0)) if a.test == "series"]
    assert sender.row.alarms[0].studies == 2


def test_a_ramp_of_1_hu_in_10_series_is_found(sender: Sender) -> None:
    """From the first study on: the learning time follows it, what comes after does not."""
    creeping = Sender(seed=3)
    for n in range(230):
        creeping.send(creeping.volume(tissue_hu=creeping.rng.normal(50 + n / 10, 5.7)))
        if creeping.told:
            break
    (alarm,) = creeping.told
    assert (alarm.statistic, alarm.test) == (Statistic.TISSUE, "cusum")
    assert alarm.size > 1
    assert alarm.studies > 1
    assert alarm.since < AT + timedelta(hours=creeping.row.n - 1)


def test_a_person_who_acknowledges_is_told_again_of_what_goes_on(sender: Sender) -> None:
    while not sender.row.alarms:
        sender.send(sender.volume(air_hu=-940.0))
    row = library.acknowledged(sender.row, AT)
    assert (row.alarms, row.state, row.acknowledged) == ((), "fixed", AT)
    assert all(alarm.acknowledged for alarm in row.past)
    assert row.past
    sender.row, sender.told = row, []
    for _ in range(5):
        sender.send(sender.volume(air_hu=-940.0))
    assert Statistic.AIR in {alarm.statistic for alarm in sender.told}


def test_a_person_who_accepts_gets_a_row_that_has_learnt_since_the_change(sender: Sender) -> None:
    while not sender.row.alarms:
        sender.send(sender.volume(air_hu=-940.0))
    for _ in range(10):
        sender.send(sender.volume(air_hu=-940.0))
    alarm = next(one for one in sender.row.alarms if one.statistic is Statistic.AIR)
    new, old = library.accepted(sender.row, alarm, AT)
    assert old.until == AT
    assert (old.n, old.alarms) == (sender.row.n, ())
    assert (new.state, new.since, new.learnt) == ("learning", alarm.since, alarm.studies)
    assert set(new.watched[Statistic.AIR].first) == {-940.0}
    sender.row, sender.told = new, []
    while sender.row.state == "learning":
        sender.send(sender.volume(air_hu=sender.rng.normal(-940, 11)))
    assert sender.row.state == "fixed"
    assert not sender.told
    assert sender.row.learnt == library.LEARNING


def test_an_accepted_row_that_has_seen_enough_is_fixed_at_its_next_study(sender: Sender) -> None:
    for _ in range(45):
        sender.send(sender.volume(air_hu=sender.rng.normal(-940, 11)))
    alarm = next(one for one in sender.row.alarms if one.statistic is Statistic.AIR)
    sender.row, _ = library.accepted(sender.row, alarm, AT)
    assert sender.row.learnt == library.LEARNING
    sender.send(sender.volume(air_hu=-940.0))
    assert (sender.row.state, sender.row.learnt) == ("fixed", library.LEARNING)


def test_a_mixed_learning_time_is_taken_as_it_is_or_given_up() -> None:
    sender = Sender(seed=10)
    for n in range(30):
        sender.send(sender.volume(tissue_hu=sender.rng.normal(50 if n % 2 else 85, 5.7)))
        sender.row = sender.row if sender.row.settled else library.acknowledged(sender.row, AT)
    while sender.row.settled is None:
        sender.send(sender.volume())
        sender.row = sender.row if sender.row.settled else library.acknowledged(sender.row, AT)
    (alarm,) = sender.row.alarms
    assert (alarm.statistic, alarm.test) == (Statistic.TISSUE, "learning")
    assert alarm.size > 2, "in spreads of the prior"
    assert library.acknowledged(sender.row, AT).state == "fixed"
    for _ in range(4):
        sender.send(sender.volume())
    new, _ = library.accepted(sender.row, sender.row.alarms[0], AT)
    assert (new.learnt, new.state) == (4, "learning")


def test_who_acknowledges_one_alarm_does_not_forget_what_creeps_elsewhere(sender: Sender) -> None:
    while sender.row.watched[Statistic.AIR].up.sum < 3:
        assert not sender.send(sender.volume(air_hu=-958.0))
    sender.send(sender.volume(tissue_hu=120.0))
    before = sender.row.watched[Statistic.AIR].up
    after = library.acknowledged(sender.row, AT).watched[Statistic.AIR].up
    assert before.sum > 0
    assert after == before


def test_studies_of_which_nothing_was_measured_end_no_learning_time() -> None:
    sender = Sender()
    for _ in range(library.LEARNING + 5):
        sender.send(None, Outputs(analysed=True))
    assert (sender.row.state, sender.row.learnt) == ("learning", 0)
    for _ in range(windows.FIRST):
        sender.sent(_radiograph(sender.rng, 0.5))
    assert len(sender.row.windows[Statistic.MEAN].reference) == windows.FIRST


def test_a_row_says_since_when_the_change_was_that_a_person_decided_of_last(sender: Sender) -> None:
    assert sender.row.changes == ()
    sender.send(sender.volume(tissue_hu=120.0))
    first = [one.since for one in sender.row.alarms]
    sender.row = library.acknowledged(sender.row, AT)
    assert list(sender.row.changes) == first
    assert library.acknowledged(sender.row, AT).changes == sender.row.changes, "nothing was open"
    sender.send(sender.volume(tissue_hu=120.0, air_hu=-900.0))
    second = [one.since for one in sender.row.alarms]
    assert first != second
    new, old = library.accepted(sender.row, sender.row.alarms[0], AT)
    assert list(new.changes) == list(old.changes) == second
    nothing_yet = Probed(scanner=new.key)
    assert trial.change(new, nothing_yet) == second[-1], "where no series was probed meanwhile"


def test_an_alarm_that_is_not_open_cannot_be_accepted(sender: Sender) -> None:
    (alarm,) = sender.send(sender.volume(tissue_hu=120.0))
    row = library.acknowledged(sender.row, AT)
    with pytest.raises(ValueError, match="not open"):
        library.accepted(row, alarm, AT)


def test_nothing_is_learnt_while_an_alarm_is_open_nor_of_what_raised_it() -> None:
    sender = Sender()
    for _ in range(12):
        assert not sender.send(sender.volume())
    assert sender.send(sender.volume(tissue_hu=200.0))
    assert (sender.row.state, sender.row.learnt) == ("frozen", 12)
    for _ in range(30):
        sender.send(sender.volume())
    assert sender.row.learnt == 12
    sender.row = library.acknowledged(sender.row, AT)
    assert sender.row.state == "learning"
    sender.send(sender.volume())
    assert sender.row.learnt == 13


@pytest.mark.parametrize("first", [True, False])
def test_20_odd_series_in_the_learning_time_never_go_unsaid(first: bool) -> None:
    """In a block or mixed: told while it learns or at its end."""
    for seed in range(6):
        sender, odd = Sender(seed + 10), np.arange(30) < 20
        if not first:
            sender.rng.shuffle(odd)
        for is_odd in odd:
            moved = {"tissue_hu": sender.rng.normal(90, 5.7)} if is_odd else {}
            sender.send(sender.volume(**moved))
        assert Statistic.TISSUE in {alarm.statistic for alarm in sender.told}, seed
        assert sender.row.state == "frozen"


def test_a_few_odd_series_in_the_learning_time_do_not_hide_a_later_fault() -> None:
    sender = Sender(seed=2)
    for n in range(40):
        sender.send(sender.volume(**({"tissue_hu": 95.0} if n in {0, 1} else {})))
        sender.row = library.acknowledged(sender.row, AT)
    one = sender.row.watched[Statistic.TISSUE]
    assert one.mean == pytest.approx(50, abs=3)
    assert sender.row.state == "fixed"
    assert sender.send(sender.volume(tissue_hu=50 + 45.0))


def test_a_scanner_that_alternates_protocols_has_two_rows_and_no_alarm() -> None:
    soft, sharp = Sender(seed=4), Sender(seed=5)
    for _ in range(60):
        soft.send(soft.volume())
        sharp.send(sharp.volume(noise_hu=60 * np.exp(sharp.rng.normal(0, 0.165))))
    assert not soft.told
    assert not sharp.told


def test_what_can_no_longer_be_measured_is_told(sender: Sender) -> None:
    for _ in range(4):
        assert not sender.send(sender.volume(texture_per_mm=None))
    (alarm,) = sender.send(sender.volume(texture_per_mm=None))
    assert (alarm.statistic, alarm.test, alarm.size) == (Statistic.TEXTURE, "missing", 0)
    assert not sender.send(sender.volume(texture_per_mm=None))


def test_what_was_never_measured_is_not_missed() -> None:
    sender = Sender()
    for _ in range(60):
        sender.send(sender.volume(lung_edge_hu_per_mm=None, diameter_mm=None))
    assert not sender.told
    assert sender.row.state == "fixed"


def test_a_series_of_which_nothing_was_measured_is_counted_and_judges_nothing(
    sender: Sender,
) -> None:
    before = sender.row.watched[Statistic.TISSUE]
    for _ in range(10):
        sender.send(None, Outputs(analysed=True))
    assert sender.row.n == 40
    assert sender.row.watched[Statistic.TISSUE] == before
    assert not sender.told


def test_a_scanner_whose_series_are_refused_is_told(sender: Sender) -> None:
    while not sender.told and sender.row.n < 60:
        sender.send(sender.volume(), Outputs(analysed=False))
    (alarm,) = sender.told
    assert (alarm.statistic, alarm.test) == (Statistic.ABSTAINED, "cusum")


def test_a_clock_that_goes_back_changes_dates_alone() -> None:
    one, other = Sender(), Sender()
    late = AT + timedelta(days=9000)
    for n in range(60):
        series = SeriesQuality(
            scanner=KEY,
            measured=(one.volume(**({"air_hu": -930.0} if n > 40 else {})),),
            outputs=ANALYSED,
        )
        one.row = library.counted(one.row, series, AT + timedelta(hours=n), SHIPPED).row
        other.row = library.counted(other.row, series, late - timedelta(hours=n), SHIPPED).row
    assert one.row.alarms
    for a, b in zip(one.row.alarms, other.row.alarms, strict=True):
        assert a.model_copy(update={"since": b.since}) == b
    assert other.row.alarms[0].since > (other.row.last or AT)
    (new, _), (same, _) = (
        library.accepted(sender.row, sender.row.alarms[0], AT) for sender in (one, other)
    )
    assert new.learnt == same.learnt


def test_what_is_kept_is_bounded(sender: Sender) -> None:
    for _ in range(4 * RECENT):
        sender.send(sender.volume(air_hu=float(sender.rng.choice([-900, -1040]))))
        sender.row = library.acknowledged(sender.row, AT)
    assert len(sender.row.recent) == RECENT
    assert len(sender.row.past) == PAST
    assert len(sender.row.model_dump_json(by_alias=True, exclude_defaults=True)) < 60_000


def _radiograph(rng: np.random.Generator, mean: float) -> SeriesQuality:
    image = RadiographQuality(
        mean=float(rng.normal(mean, 0.05)),
        contrast=float(rng.normal(0.2, 0.02)),
        laplacian=float(rng.normal(0.03, 0.004)),
        halves=float(rng.normal(0, 0.02)),
    )
    outputs = Outputs(analysed=True, scored=1, median_score=float(rng.random()))
    return SeriesQuality(scanner=KEY, measured=(image,), outputs=outputs)


def test_radiographs_are_judged_by_windows_against_the_first() -> None:
    sender = Sender(seed=6)
    for _ in range(windows.FIRST):
        assert sender.row.state == "learning"
        sender.sent(_radiograph(sender.rng, 0.5))
    assert sender.row.state == "fixed"
    for _ in range(2 * windows.WINDOW):
        sender.sent(_radiograph(sender.rng, 0.5))
    assert not sender.told
    for _ in range(windows.WINDOW):
        sender.sent(_radiograph(sender.rng, 0.58))
    (alarm,) = sender.told
    assert (alarm.statistic, alarm.test, alarm.studies) == (
        Statistic.MEAN,
        "window",
        windows.WINDOW,
    )
    assert alarm.since == AT + timedelta(hours=windows.FIRST + 2 * windows.WINDOW)
    new, _ = library.accepted(sender.row, alarm, AT)
    assert len(new.windows[Statistic.MEAN].reference) == windows.WINDOW
