"""What of a row may leave the device."""

from __future__ import annotations

from datetime import timedelta

from appliance.quality.told import LEAST, of_row, spreads, values
from appliance.watching.alarm import Alarm, Cause, Statistic
from appliance.watching.quality import Outputs, RadiographQuality, VolumeQuality
from appliance.watching.row import Row, Seen
from appliance.watching.told import Spread, ToldAlarm
from rigs.watched import BEGAN, SCANNER

NONE = Outputs(analysed=False)


def seen(noise_hu: float | None) -> Seen:
    return Seen(at=BEGAN, measured=(VolumeQuality(noise_hu=noise_hu),), outputs=NONE)


def test_the_percentiles_are_values_that_were_measured() -> None:
    found = spreads([seen(float(n)) for n in range(1, 51)])
    assert found == {Statistic.NOISE: Spread(p10=5.0, p50=25.0, p90=45.0)}


def test_a_statistic_that_too_few_studies_have_is_not_told() -> None:
    enough, few = [seen(20.0)] * LEAST, [seen(None)] * 10
    assert Statistic.NOISE in spreads([*enough, *few])
    assert spreads([*enough[1:], *few]) == {}


def test_a_study_of_radiographs_gives_the_median_of_its_images() -> None:
    images = tuple(RadiographQuality(mean=mean) for mean in (0.2, 0.9, 0.4))
    assert values(Seen(at=BEGAN, measured=images, outputs=NONE)) == {Statistic.MEAN: 0.4}


def test_outputs_are_of_what_was_analysed() -> None:
    outputs = Outputs(analysed=True, findings=2, scored=4, above=1, median_score=0.3, unsure=1)
    found = values(Seen(at=BEGAN, measured=(), outputs=outputs))
    assert found == {
        Statistic.FINDINGS: 2.0, Statistic.ABOVE: 0.25, Statistic.SCORES: 0.3,
        Statistic.ABSTAINED: 1.0,
    }  # fmt: skip
    assert values(Seen(at=BEGAN, measured=(), outputs=NONE)) == {}
    nothing = Seen(at=BEGAN, measured=(), outputs=Outputs(analysed=True))
    assert values(nothing) == {Statistic.FINDINGS: 0.0, Statistic.ABSTAINED: 0.0}


def test_an_alarm_is_told_as_two_codes() -> None:
    alarm = Alarm(
        statistic=Statistic.NOISE, test="cusum", size=2.1, since=BEGAN + timedelta(days=1),
        cause=Cause.DOSE,
    )  # fmt: skip
    row = Row(key=SCANNER, since=BEGAN, n=40, alarms=(alarm,))
    told = of_row("a" * 16, row)
    assert told.alarms == (ToldAlarm(statistic=Statistic.NOISE, cause=Cause.DOSE),)
    assert set(told.model_dump()) == {"row", "n", "spread", "alarms"}
