"""A proposal stands for the scanner as it is now, and becomes a tuning by what was usual before."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import pytest

from appliance.errors import ScansideError
from appliance.quality import library, offered
from appliance.quality.prior import SHIPPED
from appliance.watching.alarm import Alarm, Cause, Statistic
from appliance.watching.probe import Probed, ProbedSeries, Trial
from appliance.watching.proposal import Proposal
from appliance.watching.quality import Outputs, RadiographQuality, SeriesQuality
from appliance.watching.row import Row, Watched
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning
from rigs.watched import OTHER, SCANNER, a_quality

AT = datetime(2026, 11, 30, tzinfo=timezone.utc)
BUNDLE, NEWER = "a" * 64, "b" * 64


def row(texture_per_mm: float, studies: int = 30, key: Scanner = SCANNER) -> Row:
    """One that has counted studies of one texture."""
    made = library.empty(key, AT)
    for number in range(studies):
        measured = a_quality(20 + 0.1 * (number % 7), key, texture_per_mm)
        made = library.counted(made, measured, AT + timedelta(hours=number), SHIPPED).row
    assert not made.alarms
    return made


def alarm(statistic: Statistic = Statistic.TEXTURE, days: int = 1) -> Alarm:
    since = AT + timedelta(days=days)
    return Alarm(
        statistic=statistic,
        test="cusum",
        size=5,
        since=since,
        cause=Cause.SHARPER_KERNEL,
        studies=20,
    )


def known(
    tuning: str | None = None, change: datetime | None = None, *, bundle: str = BUNDLE
) -> Probed:
    """Of a scanner whose trial proposes 0.6 mm."""
    proposal = Proposal(
        scanner=SCANNER, bundle=BUNDLE, at=AT, soften_mm=0.6, series=20, implants=200,
        sensitivity=0.5, tuned=0.6, rise_low=0.01, rise_high=0.2, beside=1, beside_tuned=1,
    )  # fmt: skip
    trial = Trial(bundle=BUNDLE, tuning=tuning, change=change, at=AT, series=20, proposal=proposal)
    series = ProbedSeries(
        series=uuid.UUID(int=1), bundle=bundle, tuning=tuning, change=change, at=AT,
        sizes_mm=(5.0,), found=(True,), beside=0, extra=0,
    )  # fmt: skip
    return Probed(scanner=SCANNER, series=(series,), trials=(trial,))


def made(
    of: Probed,
    today: Row,
    in_force: Sequence[Tuning] = (),
    former: Sequence[Row] = (),
    others: Sequence[Row] = (),
) -> Tuning:
    return offered.made(of, today, in_force, former=former, others=others)


def accepted(mm: float = 0.6, scanner: Scanner = SCANNER) -> Tuning:
    return Tuning(scanner=scanner, soften_mm=mm, from_per_mm=0.3)


def test_it_counts_from_half_way_between_what_was_usual_and_what_is_seen() -> None:
    found = made(known(), row(0.35), former=[row(0.25)])
    assert (found.scanner, found.soften_mm, found.from_per_mm) == (SCANNER, 0.6, 0.3)


def test_an_acknowledged_change_is_measured_against_what_the_row_itself_has_learnt() -> None:
    changed = row(0.25)
    for number in range(20):
        measured = a_quality(20, SCANNER, 0.35)
        changed = library.counted(
            changed, measured, AT + timedelta(days=3, hours=number), SHIPPED
        ).row
    assert changed.alarms
    since = known(change=changed.alarms[0].since)
    for one in (changed, library.acknowledged(changed, AT)):
        assert made(since, one, former=[row(0.2)]).from_per_mm == pytest.approx(0.3)
    new, old = library.accepted(changed, changed.alarms[0], AT)
    assert made(since, new, former=[old, row(0.2)]).from_per_mm == pytest.approx(0.3), "the newest"


def test_a_scanner_that_was_always_sharp_is_measured_against_the_others() -> None:
    detector = Scanner(modality="DX", maker="x")
    xray = SeriesQuality(
        scanner=detector, measured=(RadiographQuality(mean=1.0),), outputs=Outputs(analysed=True)
    )
    odd = library.counted(library.empty(detector, AT), xray, AT, SHIPPED).row
    others = [row(share, key=OTHER) for share in (0.24, 0.25, 0.3)]
    assert made(known(), row(0.35), others=[odd, *others]).from_per_mm == 0.3


def test_where_the_texture_of_before_is_not_known_nothing_is_made() -> None:
    young, today = row(0.25, 4, OTHER), row(0.35)
    unmeasured = today.model_copy(update={"recent": ()})
    spoilt = row(0.25).model_copy(
        update={"past": (alarm().model_copy(update={"test": "learning"}),)}
    )
    assert offered.middle_per_mm(spoilt) is None
    assert offered.middle_per_mm(young) is None
    blank = today.model_copy(update={"watched": {}})
    for one, former, others in ((unmeasured, [row(0.25)], []), (blank, [spoilt], [young])):
        with pytest.raises(ScansideError) as e:
            made(known(), one, former=former, others=others)
        assert e.value.code == "texture_unknown"
        assert e.value.remedy


def test_where_it_is_no_sharper_than_before_nothing_is_made() -> None:
    for former, others in (([], []), ([row(0.4)], []), ([], [row(0.345, key=OTHER)])):
        with pytest.raises(ScansideError) as e:
            made(known(), row(0.35), former=former, others=others)
        assert e.value.code == "texture_not_sharper"


def test_a_row_that_still_learns_has_the_median_of_what_it_has_seen() -> None:
    assert offered.middle_per_mm(row(0.25, 6)) == pytest.approx(0.25)
    values = Watched(n=5, first=tuple(map(math.log, (0.2, 0.2, 0.25, 0.9, 0.9))))
    learning = library.empty(SCANNER, AT).model_copy(
        update={"watched": {Statistic.TEXTURE: values}}
    )
    assert offered.middle_per_mm(learning) == pytest.approx(0.25)


def test_a_proposal_is_accepted_once_and_stands_again_when_it_is_withdrawn() -> None:
    today = row(0.35)
    assert offered.standing(known(), today, ()) is not None
    assert offered.standing(known(), today, (accepted(),)) is None
    assert offered.standing(known(), today, (accepted(scanner=OTHER),)) is not None
    with pytest.raises(ScansideError) as e:
        made(known(), today, [accepted()], former=[row(0.25)])
    assert e.value.code == "no_proposal"


def test_a_proposal_of_another_bundle_or_of_before_a_change_does_not_stand() -> None:
    today = row(0.35)
    assert offered.standing(known(bundle=NEWER), today, ()) is None
    changed = today.model_copy(update={"alarms": (alarm(),)})
    assert offered.standing(known(), changed, ()) is None
    assert offered.standing(known(change=alarm().since), changed, ()) is not None
    again = today.model_copy(update={"alarms": (alarm(days=2),)})
    assert offered.standing(known(change=alarm().since), again, ()) is None
    assert offered.standing(Probed(scanner=SCANNER), today, ()) is None


def test_what_is_found_on_a_tuned_scanner_comes_on_top_of_its_tuning() -> None:
    before = accepted(0.8)
    found = made(known(before.digest), row(0.35), [before], former=[row(0.25)])
    assert found.soften_mm == pytest.approx(1.0)
    most = accepted(4.0)
    assert made(known(most.digest), row(0.35), [most], former=[row(0.25)]).soften_mm == 4.0


def test_only_what_is_in_force_for_the_scanner_is_withdrawn() -> None:
    mine, others = accepted(), accepted(scanner=OTHER)
    assert offered.to_withdraw(SCANNER, (others, mine)) == (mine,)
    with pytest.raises(ScansideError) as e:
        offered.to_withdraw(SCANNER, (others,))
    assert e.value.code == "no_tuning"
