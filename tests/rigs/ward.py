"""A journal as a day at the scanner leaves it: a study of each status, for tests of the pages.

    with ward.at_work(state) as today:         # ward.Today: the studies by what became of them
        today["limits"].study                  # its pseudonym

Everything is written through the journal, as the stages write it. Names, where asked for, are those
of nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from appliance.naming import Naming
from appliance.reasons import Code
from appliance.report import (
    BackendRef,
    BundleRef,
    Coverage,
    Finding,
    Reason,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
    Times,
)
from appliance.results import destinations, message, mqtt
from appliance.room.check import Flag, RoomCheck, RoomValues
from appliance.room.codes import FlagCode
from appliance.store import identities, kept
from appliance.store.events import BrokerConnected, ImagesSetAside, Loaded
from appliance.store.identities import Person
from appliance.store.journal import Journal
from appliance.store.rows import SeriesState

NAMING = Naming(bytes(range(32)))
BUNDLE = BundleRef(name="lung-nodule", version="1.4.0", digest="a" * 64)
BACKEND = BackendRef(name="openvino", precision="int8")
HOSTILE = '<script>alert("Doe")</script>'
"""A name that must stay a text."""


@dataclass(frozen=True)
class Exam:
    """One study that was written."""

    key: SeriesKey
    reports: tuple[Report, ...]

    @property
    def study(self) -> str:
        """Pseudonym."""
        return NAMING.study(self.key.study)

    @property
    def series(self) -> str:
        """Published name."""
        return str(NAMING.series(self.key))


def a_finding(number: int, **changed: Any) -> Finding:
    """A measured nodule; changed: its fields."""
    values: dict[str, Any] = {
        "id": number,
        "tracking_uid": f"2.25.{number}",
        "kind": "nodule",
        "score": 0.93 - number / 10,
        "threshold": 0.41,
        "center_lps_mm": (41.2 + number, -12.6, -210.4),
        "box_lps_mm": (37.1, -16.0, -214.2, 45.3, -9.2, -206.6),
        "diameter_mm": 7.4,
        "measured": True,
        "long_axis_mm": 8.2,
        "short_axis_mm": 6.6,
        "mean_axis_mm": 7.4,
        "equivalent_diameter_mm": 7.1,
        "volume_mm3": 187.4,
        "density": "solid",
        "side": "left",
        "key_image": 87 + number,
        "certainty": "sure",
    }
    return Finding(**values | changed)


FINDINGS = (
    a_finding(1),
    a_finding(
        2, density="ground_glass", side="right", certainty="unsure", unsure_why=("inside disease",)
    ),
    a_finding(
        3,
        measured=False,
        long_axis_mm=None,
        short_axis_mm=None,
        mean_axis_mm=None,
        volume_mm3=None,
        equivalent_diameter_mm=None,
        density=None,
    ),
)


class Ward:
    """Writes studies. now: seconds since 1970, when the last of them came."""

    def __init__(self, state: Path, now: float | None = None) -> None:
        self.state = state
        self.now = time.time() if now is None else now
        state.mkdir(parents=True, exist_ok=True)
        self.at = self.now
        self.journal = Journal.open(state, lambda: self.at)
        self._number = len(self.journal.series.all())

    def __enter__(self) -> Ward:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def arrive(
        self, *, minutes_ago: float = 10, images: int = 304, ae: str = "CT_EMERGENCY"
    ) -> SeriesKey:
        """A series that arrived, of a new study, of which `received` was said."""
        self._number += 1
        return self.arrive_as(
            SeriesKey(f"1.2.{self._number}", f"1.2.{self._number}.1"), minutes_ago, images, ae
        )

    def arrive_as(
        self, key: SeriesKey, minutes_ago: float, images: int, ae: str = "CT_EMERGENCY"
    ) -> SeriesKey:
        """The same for this series."""
        self.at = self.now - 60 * minutes_ago
        association = self.journal.series.association_opened(
            calling_ae=ae, called_ae="SCANSIDE", host="10.0.0.5"
        )
        self.journal.series.arrived(
            association, key, calling_ae=ae, instances=images, at=self.at, first_at=self.at - 21
        )
        self.say("received", key, images)
        return key

    def say(self, event: Any, key: SeriesKey, images: int) -> None:
        """`received` or `complete`."""
        sent = message.of_series(event, key, naming=NAMING, slices=images, at=self._utc())
        owed = [mqtt.enveloped(sent, key)]
        self.journal.announce(key, owed, pseudonym=NAMING.study(key.study))

    def report(
        self,
        key: SeriesKey,
        state: SeriesState = "analysed",
        *,
        images: int = 304,
        took_s: float = 3.4,
        before: Report | None = None,
        **changed: Any,
    ) -> Report:
        """A report that is committed `took_s` after the last image, which came at `self.at`;
        changed: its fields."""
        last = self._utc()
        self.at += took_s
        values: dict[str, Any] = {
            "report_id": NAMING.report(key, BUNDLE.digest, changed.get("input_digest", "b" * 64)),
            "input_digest": "b" * 64,
            "revision": 1,
            "status": Status.ANALYSED,
            "stage": Stage.FINAL,
            "appliance": "0.3.0",
            "study": StudyRef(pseudonym=NAMING.study(key.study)),
            "series": SeriesRef(
                modality="CT",
                slices=images,
                spacing_mm=(1.0, 0.703, 0.703),
                thickness_mm=1.25,
                kernel="Br59f",
            ),
            "coverage": Coverage(
                lungs="covered",
                z_mm=(-401.5, -98.5),
                lungs_z_mm=(-385.0, -118.0),
                sides="both",
                fov_mm=(-180.0, -180.0, 180.0, 180.0),
            ),
            "bundle": BUNDLE,
            "backend": BACKEND,
            "times": Times(
                first_slice=last - timedelta(seconds=21),
                last_slice=last,
                released=last + timedelta(seconds=0.1),
                complete=self._utc(),
                prepared=last + timedelta(seconds=0.2),
                inferred=last + timedelta(seconds=1.3),
                committed=self._utc(),
            ),
        }
        made = Report(**values | changed)
        preliminary = made.stage is Stage.PRELIMINARY
        owed = destinations.of_report(
            made, key, naming=NAMING, at=self._utc(), completes=before, to=[mqtt.Mqtt()]
        )
        self.journal.commit_report(
            made,
            key,
            owed=owed,
            series_state="open" if preliminary else state,
            instances=None if preliminary else images,
        )
        return made

    def refuse(
        self,
        key: SeriesKey,
        code: Code,
        text: str,
        state: SeriesState = "refused",
        images: int = 304,
    ) -> Report:
        """A report that says why nothing was analysed."""
        status = Status.FAILED if state == "failed" else Status.NOT_ANALYSED
        reason = Reason(code=code, text=text)
        return self.report(key, state, status=status, reasons=(reason,), took_s=2.2, images=images)

    def taken(self) -> None:
        """The broker takes everything that waits, a moment later."""
        self.at += 0.2
        waiting = self.journal.owed.waiting(mqtt.MQTT, 1000)
        self.journal.owed.ack(mqtt.MQTT, [row.key for row in waiting])

    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self.at, timezone.utc)


def a_day(ward: Ward, *, names: bool = False) -> dict[str, Exam]:
    """A study of each status, the newest first: arriving, preliminary, found, nothing, limits,
    in_part, refused, failed, aside, revised."""
    ward.journal.events.add(Loaded(bundles=(BUNDLE,), backend="openvino int8"))
    ward.journal.events.add(BrokerConnected(protocol="5"))
    made = {
        "revised": _revised(ward),
        "aside": _of(ward, 120, _set_aside),
        "failed": _of(ward, 100, _failed),
        "refused": _of(ward, 80, _refused),
        "in_part": _in_part(ward),
        "limits": _of(ward, 40, _limits),
        "nothing": _of(ward, 30, lambda key: [ward.report(key)]),
        "found": _of(ward, 20, lambda key: _found(ward, key)),
    }
    ward.taken()
    made["preliminary"] = _of(
        ward, 1, lambda key: [ward.report(key, stage=Stage.PRELIMINARY, findings=FINDINGS[:1])]
    )
    made["arriving"] = _of(ward, 0.2, lambda _: [], images=117)
    if names:
        _name(ward.state, made.values())
    ward.at = ward.now
    return dict(reversed(made.items()))


def _of(ward: Ward, minutes_ago: float, then: Any, images: int = 304) -> Exam:
    key = ward.arrive(minutes_ago=minutes_ago, images=images)
    return Exam(key, tuple(then(key) if then.__code__.co_argcount == 1 else then(ward, key)))


def _found(ward: Ward, key: SeriesKey) -> list[Report]:
    early = ward.report(key, stage=Stage.PRELIMINARY, findings=FINDINGS[:2], took_s=1.4)
    ward.at += 0.6
    ward.say("complete", key, 304)
    ward.at -= 2.0
    return [early, _check(ward, ward.report(key, findings=FINDINGS, before=early))]


def _check(ward: Ward, report: Report, *flags: Flag) -> Report:
    """Its in-room check is kept beside it."""
    check = RoomCheck(
        verdict="look" if flags else "usable", flags=flags, values=RoomValues(contrast="no")
    )
    kept.keep_record(ward.state, report.report_id, kept.ROOM, check)
    return report


def _limits(ward: Ward, key: SeriesKey) -> list[Report]:
    limits = (
        Reason(code=Code.THICKNESS_LIMITED, text="slices of 5.0 mm"),
        Reason(code=Code.LUNGS_NOT_COVERED, text="the lungs are cut", where="z -98.5 mm"),
    )
    covers = Coverage(lungs="cut_head", z_mm=(-401.5, -98.5), sides="both")
    report = ward.report(key, limitations=limits, coverage=covers, findings=FINDINGS[:1])
    flag = Flag(code=FlagCode.LUNGS_CUT_HEAD, text="cut over 21 cm2", figure=21.0, unit="cm2")
    return [_check(ward, report, flag)]


def _refused(ward: Ward, key: SeriesKey) -> list[Report]:
    return [ward.refuse(key, Code.GANTRY_TILT, "the gantry was tilted by 12.0 degrees")]


def _failed(ward: Ward, key: SeriesKey) -> list[Report]:
    return [ward.refuse(key, Code.BACKEND_FAILED, "the backend ended with an error", "failed")]


def _set_aside(ward: Ward, key: SeriesKey) -> list[Report]:
    return [ward.refuse(key, Code.LOCALIZER, "a localizer of 2 images", "set_aside")]


def _in_part(ward: Ward) -> Exam:
    exam = _of(ward, 60, lambda key: _found(ward, key))
    other = ward.arrive_as(SeriesKey(exam.key.study, f"{exam.key.study}.2"), 59, 40)
    refusal = ward.refuse(
        other, Code.GAP_TOO_WIDE, "12 images are missing at z -210.0 mm", images=40
    )
    scout = ward.arrive_as(SeriesKey(exam.key.study, f"{exam.key.study}.3"), 61, 2)
    aside = ward.refuse(scout, Code.LOCALIZER, "a localizer of 2 images", "set_aside", 2)
    return Exam(exam.key, (*exam.reports, refusal, aside))


def _revised(ward: Ward) -> Exam:
    exam = _of(ward, 200, lambda key: _found(ward, key))
    ward.at += 100
    first = exam.reports[-1]
    later = ward.report(
        exam.key,
        images=310,
        input_digest="d" * 64,
        revision=2,
        supersedes=first.report_id,
        findings=FINDINGS[:2],
    )
    text = "2 images of another orientation came later"
    ward.journal.events.add(ImagesSetAside(subject=exam.key.series, text=text))
    return Exam(exam.key, (*exam.reports, later))


def _name(state: Path, exams: Iterable[Exam]) -> None:
    known = [
        Person(name=HOSTILE, patient_id="4711", birth_date="1960-02-29"),
        Person(name="王, 小东 (Wang, XiaoDong)", patient_id="4712", birth_date="1975-11-03"),
        Person(name="\u05db\u05d4\u05df, \u05d3\u05e0\u05d4", patient_id="4713"),
    ]
    for number, exam in enumerate(exams):
        for report in exam.reports:
            identities.keep(state, report.report_id, known[number % len(known)])
