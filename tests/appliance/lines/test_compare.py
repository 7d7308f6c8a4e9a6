"""Two exams become a comparison, or the reason why they do not."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from appliance.comparison import Comparison
from appliance.lines.compare import Ids, Laying, compare, days_between, refused, seal
from appliance.prior.entry import Person
from appliance.reasons import Code
from appliance.report import BundleRef
from rigs.two_exams import NAMING, Ball, Exam, bundles, entry, laying

RIGHT, LEFT, LOW = (45.0, 0.0, 0.0), (-45.0, 10.0, 10.0), (42.0, -16.0, -28.0)
THEN = Exam([Ball(RIGHT, 9.0), Ball(LOW, score=0.8)])
NOW = Exam([Ball(RIGHT, 12.0), Ball(LEFT, score=0.8)], shift=(3.0, -4.0, 6.0), taken="20250101")
COMMITTED = datetime(2025, 1, 2, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def exams():
    return entry(THEN, "then"), entry(NOW, "now")


def compared(exams, then=THEN, now=NOW, **more):
    return compare(*exams, bundles(), laying(then, now, **more))


def with_facts(exam, **facts):
    return replace(exam, facts=exam.facts.model_copy(update=facts))


def never(exams) -> Laying:
    """A way of laying exams over each other that must not be asked."""

    def asked(*_: object):
        raise AssertionError("the images were asked")

    return Laying(register=asked, locate=asked, judged=asked)


def test_the_same_two_exams_give_the_same_comparison_however_often(exams):
    one, other = compared(exams), compared(exams)
    assert one.findings == other.findings
    for a, b in zip(one.cubes, other.cubes, strict=True):
        assert all(np.array_equal(x.hu, y.hu) for x, y in zip(a, b, strict=True))
    ids = Ids(NAMING, exams[1].report, which=("newest",))
    assert seal(one, ids, COMMITTED) == seal(other, ids, COMMITTED)


def test_one_scan_under_two_names_is_not_compared_and_not_looked_at(exams):
    then, now = exams
    same = with_facts(then, pixel_digest=now.facts.pixel_digest)
    found = compare(same, now, bundles(), never(exams))
    assert [r.code for r in found.reasons] == [Code.SAME_SCAN]
    assert found.findings == ()


@pytest.mark.parametrize(
    ("prior", "current", "days"),
    [
        ("20240101", "20250101", 366),
        ("20240101", "20240101", 0),
        ("20240102", "20240101", -1),
        ("20240101235900", "20240102000100", 0),
        ("20240101235900", "20240103000100", 1),
        ("20240101235900", "20240102", 1),
        ("20240102", "20240101235900", -1),
        (None, "20240101", None),
        ("20240101", None, None),
        ("20241399", "20240101", None),
    ],
)
def test_days_lie_between_dates_and_times_where_both_have_them(prior, current, days):
    assert days_between(prior, current) == days


@pytest.mark.parametrize("taken", ["20250101", "20250102", "20991231"])
def test_an_exam_of_the_same_day_or_of_later_is_no_earlier_one(exams, taken):
    then, now = exams
    found = compare(with_facts(then, taken=taken), now, bundles(), never(exams))
    assert [r.code for r in found.reasons] == [Code.SAME_DAY]
    sealed = seal(found, Ids(NAMING, now.report), None)
    assert sealed.prior.interval_days is None


def test_without_a_date_findings_are_compared_and_no_rate_is_said(exams):
    then, now = exams
    found = compared((with_facts(then, taken=None), now))
    change = found.findings[0].change
    assert change.verdict == "larger"
    assert (change.rate_per_year, change.doubling_days) == (None, None)
    assert seal(found, Ids(NAMING, now.report), None).prior.interval_days is None


@pytest.mark.parametrize(
    ("then", "now", "differ"),
    [
        ({"sex": "f"}, {"sex": "m"}, True),
        ({"birth_date": "a"}, {"birth_date": "b"}, True),
        ({"birth_date": "a", "sex": "f"}, {"birth_date": "a", "sex": "m"}, True),
        ({"sex": "f"}, {}, False),
        ({}, {"birth_date": "b"}, False),
        ({"birth_date": "a", "sex": "f"}, {"birth_date": "a", "sex": "f"}, False),
    ],
)
def test_what_is_known_of_a_person_and_differs_speaks_against_one(exams, then, now, differ):
    both = [
        with_facts(exam, person=Person(key="p" * 64, **known))
        for exam, known in zip(exams, (then, now), strict=True)
    ]
    if differ:
        found = compare(*both, bundles(), never(exams))
        assert [r.code for r in found.reasons] == [Code.IDENTITY_MISMATCH]
        assert found.person.verdict == "identity_mismatch"
    else:
        assert compared(both).reasons == ()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"share": 0.1}, Code.IMAGES_DISAGREE),
        ({"share": 0.3}, Code.IDENTITY_UNSURE),
        ({"share": 0.9, "keypoints": 49}, Code.IDENTITY_UNSURE),
        ({"share": 0.1, "mirrored_share": 0.8}, Code.LATERALITY),
    ],
)
def test_only_images_that_agree_are_compared(exams, more, code):
    found = compared(exams, **more)
    assert [r.code for r in found.reasons] == [code]
    sealed = seal(found, Ids(NAMING, exams[1].report), None)
    assert sealed.status == "not_compared"
    assert sealed.findings == ()
    assert sealed.person.verdict == code.value
    assert sealed.person.share == more["share"]
    assert "points in the lungs" in sealed.reasons[0].text


def test_who_laid_exams_over_each_other_that_disagree_is_said_too(exams):
    """Else a replay would not know which network, and another one would give the same id."""
    then, now = exams
    ref = BundleRef(name="lung-compare", version="1.0.0", digest="d" * 64)
    laid = laying(THEN, NOW, share=0.1, method="network")
    ids = Ids(NAMING, now.report)
    by_network = seal(compare(then, now, replace(bundles(), registers=ref), laid), ids, None)
    by_demons = seal(compared(exams, share=0.1), ids, None)
    assert (by_network.bundle, by_demons.bundle) == (ref, None)
    assert by_network.comparison_id != by_demons.comparison_id


def test_a_comparison_names_both_exams_by_pseudonym_and_says_no_date_and_no_uid(exams):
    then, now = exams
    sealed = seal(compared(exams), Ids(NAMING, now.report, which=("newest", "oldest")), COMMITTED)
    assert (sealed.study, sealed.prior.study) == (
        now.report.study.pseudonym,
        then.report.study.pseudonym,
    )
    assert sealed.prior.interval_days == 366
    assert sealed.measured_by == bundles().nodules.ref
    assert sealed.bundle is None
    text = sealed.model_copy(update={"committed": None}).model_dump_json()
    for hidden in ("20240101", "20250101", then.facts.person.key, '"1.2"', '"1.3"'):
        assert hidden not in text
    assert Comparison.model_validate_json(sealed.model_dump_json(by_alias=True)) == sealed


def test_other_entries_or_bundles_give_another_id(exams):
    _, now = exams
    ids = Ids(NAMING, now.report)
    found = compared(exams)
    others = [
        found,
        replace(found, entries=("e" * 64, now.digest)),
        replace(found, measured_by=None),
        replace(found, prior=None),
    ]
    assert len({seal(one, ids, None).comparison_id for one in others}) == 4


def test_a_finding_is_followed_under_the_uid_of_its_first_sighting(exams):
    then, now = exams
    found = compared(exams)
    matched, new, gone = seal(found, Ids(NAMING, now.report), None).findings
    assert matched.tracking_uid == then.report.findings[0].tracking_uid
    assert new.tracking_uid == now.report.findings[1].tracking_uid
    assert gone.tracking_uid == then.report.findings[1].tracking_uid
    older = Ids(NAMING, now.report, tracked={1: "2.25.7", 2: None})
    matched, _, gone = seal(found, older, None).findings
    assert matched.tracking_uid == "2.25.7"
    assert gone.tracking_uid is None  # a reader called the pair wrong


def test_no_uid_is_given_to_two_findings(exams):
    _, now = exams
    both = Ids(NAMING, now.report, tracked={1: "2.25.7", 2: "2.25.7"})
    matched, _, gone = seal(compared(exams), both, None).findings
    assert (matched.tracking_uid, gone.tracking_uid) == ("2.25.7", None)


def test_of_a_finding_that_split_the_nearer_part_keeps_the_uid():
    x, y, z = RIGHT
    then = Exam([Ball(RIGHT, 15.0)])
    now = Exam([Ball((x - 5, y, z), 6.0), Ball((x + 4, y, z), 6.0, score=0.8)], taken="20250101")
    both = entry(then, "then"), entry(now, "now")
    far, near = seal(compared(both, then, now), Ids(NAMING, both[1].report), None).findings
    assert near.tracking_uid == both[0].report.findings[0].tracking_uid
    assert far.tracking_uid is None


def test_ambiguous_findings_pass_no_uid_on():
    x, y, z = RIGHT
    then = Exam([Ball(RIGHT, 5.0), Ball((x + 8, y, z), 5.0, score=0.8)])
    now = Exam([Ball(RIGHT, 5.0)], taken="20250101")
    both = entry(then, "then"), entry(now, "now")
    found = compared(both, then, now, error=(3.8, 0.0, 0.0))
    said = seal(found, Ids(NAMING, both[1].report), None).findings
    assert [one.tracking_uid for one in said] == [None, None]


def test_an_exam_without_an_earlier_one_says_so(exams):
    _, now = exams
    found = refused(Code.NO_PRIOR, "no earlier exam of this person is kept", current=now)
    sealed = seal(found, Ids(NAMING, now.report), COMMITTED)
    assert (sealed.status, sealed.prior) == ("not_compared", None)
    assert sealed.reasons[0].remedy


def test_the_order_of_two_exams_never_gives_growth_both_ways(exams):
    then, now = exams
    forth = compared(exams).findings[0].change
    back = (
        compared((with_facts(now, taken="20240101"), with_facts(then, taken="20250101")), NOW, THEN)
        .findings[0]
        .change
    )
    assert (forth.verdict, back.verdict) == ("larger", "smaller")


def test_findings_of_sixty_nodules_are_each_matched_with_their_own():
    places = [
        (s * 45.0 + x, y, z)
        for s in (-1, 1)
        for x, y, z in itertools.product((-10.0, 10.0), (-20.0, 0.0, 20.0), (-24.0, -8, 8, 24))
    ]
    balls = [Ball(place, 6.0, score=0.9 - 0.001 * i) for i, place in enumerate(places)]
    then = Exam(balls[:32], cubes=0)
    now = Exam(balls[:32], shift=(1.0, 2.0, 3.0), taken="20250101", cubes=0)
    both = entry(then, "then"), entry(now, "now")
    found = compared(both, then, now, error=(1.5, -1.0, 1.0)).findings
    assert [(f.finding, f.prior_finding) for f in found] == [(i, i) for i in range(1, 33)]
    assert {f.state for f in found} == {"matched"}
