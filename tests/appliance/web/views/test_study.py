"""One study: its series, their revisions, and what happened from the first slice to the archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from appliance.reasons import Code
from appliance.report import Report, SeriesKey, Stage
from appliance.results import message, mqtt
from appliance.results.pacs import Ordered
from appliance.store.delivery import State
from appliance.store.journal.shown import Told
from appliance.store.rows import OwedRow, Received
from appliance.web.views import study, timeline
from appliance.web.views.study import KnownSeries
from rigs.reports import NAMING

KEY = SeriesKey("1.2", "1.2.3")
Timed = Callable[..., Report]
Make = Callable[..., Received]


def owed(body: bytes, created: float, taken: float | None = None, **changed: Any) -> OwedRow:
    """As the journal has it, whose states are texts."""
    state: Any = (State.WAITING if taken is None else State.DELIVERED).value
    row = OwedRow(1, "mqtt", "k", 1, body, None, created, state, taken, 0, None)
    return replace(row, **changed)


def told(outgoing: message.Outgoing, created: float, taken: float | None) -> Told:
    body = mqtt.enveloped(outgoing).body
    assert callable(body)
    row = owed(body(1), created, taken)
    said = mqtt.said(row.body)
    assert said is not None
    return Told(row, said)


def all_told(report: Report, noon: datetime) -> list[Told]:
    """`complete` 2 s after the last slice, the report 1 s later, the PUBACK half a second later."""
    at = noon.timestamp()
    complete = message.of_series("complete", KEY, naming=NAMING, slices=9, at=noon)
    found = [told(complete, at + 2, at + 2.1)]
    for outgoing in message.of_report(report, KEY, naming=NAMING, at=noon):
        found.append(told(outgoing, at + 3, at + 3.5))
    return found


def by_archive(report: Report, at: float, state: State) -> OwedRow:
    body = Ordered(
        report_id=report.report_id, stage="final", edition=1, kind="sr", file="x.dcm"
    ).model_dump_json()
    return owed(body.encode(), at, at + 1, destination="pacs", state=state.value)


def known(received: Received, reports: list[Report], **more: Any) -> KnownSeries:
    counting = reports[-1:]
    return KnownSeries(received, "name", reports, counting, more.pop("told", ()), **more)


def test_the_steps_go_from_the_first_slice_to_the_archive_that_promised(
    received: Make, timed: Timed, noon: datetime
) -> None:
    report = timed(3.0)
    sent = [by_archive(report, noon.timestamp() + 5, State.COMMITTED)]
    steps = timeline.steps(received(), report, all_told(report, noon), sent)
    assert [
        (step.what.key.removeprefix("study.step."), round(step.after_s, 1)) for step in steps
    ] == [
        ("first_slice", -60.0),
        ("last_slice", 0.0),
        ("complete", 2.0),
        ("committed_final", 3.0),
        ("puback_final", 3.5),
        ("promised", 6.0),
    ]


def test_what_the_broker_has_not_taken_is_no_step_and_a_delivery_that_waits(
    received: Make, timed: Timed, noon: datetime
) -> None:
    report = timed(3.0)
    waits = [
        Told(replace(one.row, delivered_at=None, state=State.WAITING, last_error="away"), one.said)
        for one in all_told(report, noon)
    ]
    steps = timeline.steps(received(), report, waits, ())
    assert "study.step.puback_final" not in [step.what.key for step in steps]
    assert [
        (one.destination, one.state, one.why) for one in timeline.deliveries(report, waits, ())
    ] == [
        ("mqtt", State.WAITING, "away"),
        ("mqtt", State.WAITING, "away"),
    ]


def test_a_series_without_a_report_has_the_steps_that_are_known(received: Make) -> None:
    steps = timeline.steps(received("open"), None, (), ())
    assert [step.at for step in steps] == [100.0, 200.0]


def test_the_forms_of_a_report_stand_side_by_side_and_one_of_them_counts(
    received: Make, make_report: Callable[..., Report]
) -> None:
    reports = [make_report(stage=Stage.PRELIMINARY), make_report()]
    reports.append(make_report(images="d" * 64, revision=2, supersedes=reports[1].report_id))
    shown = study.shown("ab" * 16, [known(received(), reports)], None)
    (series,) = shown.series
    assert [column.stands for column in series.columns] == [False, False, True]
    assert [one.report.revision for one in series.reports] == [2]
    assert series.hidden == 0


def test_a_single_form_needs_no_comparison_and_of_very_many_the_newest_are_shown(
    received: Make, make_report: Callable[..., Report]
) -> None:
    (alone,) = study.shown("ab" * 16, [known(received(), [make_report()])], None).series
    assert alone.columns == ()
    many = [make_report(images=f"{n:064x}", revision=n) for n in range(1, 12)]
    (series,) = study.shown("ab" * 16, [known(received(), many)], None).series
    assert [column.report.revision for column in series.columns] == list(range(4, 12))
    assert series.hidden == 3


def test_what_was_set_aside_stands_apart_with_its_reason(
    received: Make, make_report: Callable[..., Report], refused: Callable[..., Report]
) -> None:
    aside = refused(Code.LOCALIZER)
    shown = study.shown(
        "ab" * 16,
        [
            known(received("set_aside", series="1.2.1"), [aside]),
            known(received(), [make_report()]),
        ],
        None,
    )
    assert [one.reports[0].report.reasons[0].code for one in shown.aside] == [Code.LOCALIZER]
    assert len(shown.series) == 1
    assert shown.light.sign == "ok"
    assert shown.to_do == ()


def test_the_latency_of_a_report_has_the_waiting_apart(
    received: Make, timed: Timed, noon: datetime
) -> None:
    report = timed(3.0)
    shown = study.shown("ab" * 16, [known(received(), [report], told=all_told(report, noon))], None)
    took = shown.series[0].reports[0].latency
    assert took is not None
    assert (took.total_s, took.quiet_s) == (3.0, 2.0)
