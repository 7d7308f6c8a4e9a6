"""Exams beside earlier ones, through the whole line: who is compared with whom, and what is never
said. The network is the factory's; people are the phantom's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

import pytest
from pydicom.dataset import Dataset

from appliance.comparison import Comparison
from appliance.phantom.chest import Phantom, Scan
from appliance.phantom.follow_up import Course, FollowUp, follow_up, stranger
from appliance.phantom.follow_up import Followed as Truth
from appliance.phantom.kernel import SOFT
from appliance.report import Report, Status
from rigs import site as sites
from rigs.people import (
    APART_DAYS,
    ARCHIVE,
    FIRST,
    SECOND,
    Exams,
    ball,
    codes,
    new,
    of_the_factory,
    places,
)

PRIOR, CURRENT = Scan((2.0, 1.0, 1.0)), Scan((2.0, 1.0, 1.0), noise_hu=20.0, kernel=SOFT)
ANOTHER = {"images_disagree", "identity_unsure"}


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exams]:
    """A site of its own, with the bundle of the factory, that keeps what later exams need."""
    folder = tmp_path_factory.mktemp("priors")
    bundle = of_the_factory(tmp_path_factory.mktemp("factory"))
    with sites.running(folder, bundle, more=ARCHIVE, keep=True) as site:
        yield Exams(site)
        site.process.terminate()
        assert site.process.wait(60) == 0, "a stage did not stop cleanly"


@pytest.fixture(scope="module")
def person() -> FollowUp:
    return follow_up(1, prior=PRIOR, current=CURRENT)


@pytest.fixture(scope="module")
def other() -> Phantom:
    return stranger(2, scan=PRIOR)


def test_one_person_twice_is_compared_and_the_first_exam_has_no_earlier_one(
    exams: Exams, person: FollowUp
) -> None:
    patient = new()
    first = exams.send(person.prior, patient, FIRST)
    then = exams.report(first)
    assert codes(exams.compared(first)) == {"no_prior"}
    second = exams.send(person.current, patient)
    said = exams.compared(second)
    assert said.status == "compared"
    assert said.prior is not None
    assert said.prior.report_id == then.report_id
    assert said.prior.interval_days == APART_DAYS
    assert said.report_id == exams.report(second).report_id


def test_two_people_under_one_id_are_not_compared(
    exams: Exams, person: FollowUp, other: Phantom
) -> None:
    patient = new()
    exams.report(exams.send(person.prior, patient, FIRST))
    mixed = exams.send(other, patient)
    said = exams.compared(mixed)
    assert said.status == "not_compared"
    assert codes(said) <= ANOTHER
    assert not said.findings
    assert said.person is not None
    assert said.person.verdict in ANOTHER
    assert exams.report(mixed).status is Status.ANALYSED


@pytest.mark.parametrize(("one", "two"), [("X-{}", "Y-{}"), ("a{}", "A{}"), ("7{}", "07{}")])
def test_one_person_under_two_ids_is_not_compared(
    exams: Exams, person: FollowUp, one: str, two: str
) -> None:
    number = new().patient_id
    exams.report(exams.send(person.prior, new(patient_id=one.format(number)), FIRST))
    said = exams.compared(exams.send(person.current, new(patient_id=two.format(number))))
    assert codes(said) == {"no_prior"}


def test_one_id_of_two_issuers_or_of_none_is_of_two_people(exams: Exams, person: FollowUp) -> None:
    number = new().patient_id
    exams.report(exams.send(person.prior, new(patient_id=number, issuer="HERE"), FIRST))
    for issuer in ("ELSEWHERE", ""):
        said = exams.compared(exams.send(person.current, new(patient_id=number, issuer=issuer)))
        assert codes(said) == {"no_prior"}
    padded = exams.send(person.current, new(patient_id=f" {number} ", issuer="HERE"))
    assert exams.compared(padded).status == "compared"


def test_the_same_pixels_under_new_uids_are_no_earlier_exam(exams: Exams, person: FollowUp) -> None:
    patient = new()
    exams.report(exams.send(person.prior, patient, FIRST))
    said = exams.compared(exams.send(person.prior, patient, SECOND))
    assert codes(said) == {"same_scan"}


def test_an_exam_of_the_same_day_is_no_earlier_exam(exams: Exams, person: FollowUp) -> None:
    patient = new()
    exams.report(exams.send(person.prior, patient, FIRST))
    said = exams.compared(exams.send(person.current, patient, FIRST.replace(hour=16)))
    assert codes(said) == {"same_day"}


def test_an_old_exam_that_comes_late_is_analysed_and_the_later_one_is_compared_with_it(
    exams: Exams, person: FollowUp
) -> None:
    """Its scanner sends it, so its date alone does not silence it."""
    patient = new()
    today = exams.send(person.current, patient, SECOND)
    assert codes(exams.compared(today)) == {"no_prior"}
    old = exams.send(person.prior, patient, FIRST)
    report = exams.report(old)
    assert report.status is Status.ANALYSED
    assert len(exams.site.findings(report)) == len(report.findings) > 0
    assert codes(exams.compared(old)) == {"no_prior"}
    again = exams.comparisons(today, 2)[-1]
    assert again.status == "compared"
    assert again.prior is not None
    assert again.prior.report_id == report.report_id
    assert again.prior.interval_days == APART_DAYS


def _dated(text: str | None) -> Dataset:
    d = Dataset()
    for name in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(d, name, text or "")
    for name in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(d, name, "" if text is None else "100000")
    return d


@pytest.mark.parametrize("date", ["19000101", None])
def test_an_exam_without_a_date_that_can_be_true_is_compared_and_no_rate_is_said(
    exams: Exams, person: FollowUp, date: str | None
) -> None:
    patient = new()
    dates = _dated(date)
    exams.report(exams.send(person.prior, patient, FIRST, change=lambda d: d.update(dates)))
    said = exams.compared(exams.send(person.current, patient))
    assert said.status == "compared"
    assert said.prior is not None
    assert said.prior.interval_days is None
    changes = [f.change for f in said.findings if f.change is not None]
    assert changes
    for change in changes:
        assert change.rate_per_year is None
        assert change.doubling_days is None
        assert change.doubling_not_under_days is None


def test_a_study_that_an_archive_pushed_is_silent_and_serves_as_an_earlier_exam(
    exams: Exams, person: FollowUp
) -> None:
    patient = new()
    pushed = exams.send(person.prior, patient, FIRST, calling="PACS")
    exams.site.settled()
    said = exams.compared(exams.send(person.current, patient))
    assert said.status == "compared"
    study = exams.site.naming.study(pushed.study)
    heard = [m for topic, m in exams.site.messages() if f"/study/{study}/" in topic]
    assert not [m for m in heard if m["event"] in ("analysed", "preliminary", "not_analysed")]
    assert said.prior is not None
    assert not [
        m
        for topic, m in exams.site.messages()
        if "/finding/" in topic and m["report_id"] == str(said.prior.report_id)
    ]


def test_an_exam_that_an_archive_routes_before_the_scanner_sends_it_is_an_exam_like_any_other(
    exams: Exams, person: FollowUp
) -> None:
    today = datetime.now()
    patient = new()
    routed = exams.send(person.current, patient, today, calling="PACS")
    exams.site.settled()
    assert not exams.site.events(routed, "analysed")
    exams.send(person.current, patient, today, again=routed)
    report = exams.report(routed)
    assert report.status is Status.ANALYSED
    assert len(exams.site.findings(report)) == len(report.findings) > 0


@pytest.fixture(scope="module")
def many() -> FollowUp:
    """Sixty nodules of 6 mm, all as they were."""
    courses = [Course(ball(at, 6.0), 6.0, 6.0) for at in places(60, 16.0)]
    return follow_up(1, prior=PRIOR, current=CURRENT, courses=courses)


def test_of_sixty_nodules_none_is_taken_for_another_or_called_new_or_gone(
    exams: Exams, many: FollowUp
) -> None:
    then, now, said = _both(exams, many)
    assert said.status == "compared"
    assert len(said.findings) >= 20
    for one in said.findings:
        assert one.state not in ("new", "gone")
        if one.state == "matched" and one.prior_finding is not None:
            assert _nodule_of(then, one.prior_finding, many.followed, now=False) == _nodule_of(
                now, one.finding or 0, many.followed, now=True
            )


@pytest.fixture(scope="module", params=[0, 1])
def pair(request: pytest.FixtureRequest) -> FollowUp:
    """Two of 6 mm, 8 mm apart, of which one is gone, and six that are as they were."""
    first, *rest = places(7, 40.0)
    second = (first[0], first[1] + 8.0, first[2])
    courses = [
        Course(ball(at, 6.0), 6.0, None if index == request.param else 6.0)
        for index, at in enumerate((first, second))
    ]
    courses += [Course(ball(at, 8.0), 8.0, 8.0) for at in rest]
    return follow_up(1, prior=PRIOR, current=CURRENT, courses=courses)


def test_of_two_alike_of_which_one_is_gone_the_other_is_not_taken_for_it(
    exams: Exams, pair: FollowUp
) -> None:
    then, now, said = _both(exams, pair)
    left = next(t for t in pair.followed[:2] if t.now is not None)
    finding = _at(now, left.place_now_lps_mm)
    assert finding is not None, "the network misses it today"
    (one,) = (f for f in said.findings if f.finding == finding)
    assert one.state != "new"
    if one.state == "matched" and one.prior_finding is not None:
        assert one.prior_finding == _at(then, left.place_then_lps_mm)
    if "ambiguous" in one.why:
        assert one.change is None


def _both(exams: Exams, truth: FollowUp) -> tuple[Report, Report, Comparison]:
    """A person's two exams, a year apart: both reports, and what is said of them."""
    patient = new()
    then = exams.report(exams.send(truth.prior, patient, FIRST))
    today = exams.send(truth.current, patient)
    return then, exams.report(today), exams.compared(today)


def _at(report: Report, place: tuple[float, float, float]) -> int | None:
    """The finding within 4 mm of a place."""
    near = [(math.dist(f.place_lps_mm, place), f.id) for f in report.findings]
    return min((n for n in near if n[0] <= 4), default=(0.0, None))[1]


def _nodule_of(report: Report, finding: int, truths: tuple[Truth, ...], *, now: bool) -> int:
    """The index of the nodule that lies nearest to a finding."""
    at = next(f.place_lps_mm for f in report.findings if f.id == finding)
    places_of = [t.place_now_lps_mm if now else t.place_then_lps_mm for t in truths]
    return min(range(len(places_of)), key=lambda k: math.dist(places_of[k], at))
