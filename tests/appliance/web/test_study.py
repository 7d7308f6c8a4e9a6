"""GET /study/..., served by the stage."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.reasons import Code
from appliance.report import BundleRef, Coverage, Finding, Reason, SeriesRef
from appliance.store import qa, tunings
from appliance.store.journal import Journal
from appliance.watching.qa import QaCode, QaRecord, WaterFigures
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning
from rigs import ward, web
from rigs.ward import HOSTILE, Exam, Ward


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_study_of_a_day_has_its_page_in_both_languages(
    bedside: web.Page, day: dict[str, Exam], language: str
) -> None:
    with bedside.logged_in(headers={"accept-language": language}) as browser:
        for name, exam in day.items():
            answer = browser.get(f"/study/{exam.study}")
            assert answer.status_code == 200, name
            assert HOSTILE not in answer.text
            assert exam.key.series not in answer.text  # no UID leaves


def test_the_findings_are_said_in_every_field(bedside: web.Page, day: dict[str, Exam]) -> None:
    with bedside.logged_in() as browser:
        text = browser.get(f"/study/{day['found'].study}").text
    for said in (
        "8.2 x 6.6 mm",
        "mean 7.4 mm",
        "187 mm³",
        "about 7.4 mm, an estimate",
        "ground glass",
        "UNSURE",
        "it lies inside diseased lung",
        "left",
        "image 216 of 304",
        "0.83 (threshold 0.41)",
        "It is no probability of a disease",
        "Both ends of the lungs are shown.",
        "Field of view 360 x 360 mm.",
        "Final result taken by the broker (PUBACK)",
        "3.4 s after the last image, 2.0 s of it waiting for more",
    ):
        assert said in text, said


def test_a_refusal_is_never_a_negative_and_says_what_to_do(
    bedside: web.Page, day: dict[str, Exam]
) -> None:
    with bedside.logged_in() as browser:
        text = browser.get(f"/study/{day['refused'].study}").text
    assert "This is no negative result." in text
    assert "the gantry was tilted by 12.0 degrees" in text
    assert "Send a reconstruction without gantry tilt." in text
    assert "No finding reached its threshold" not in text


def test_the_in_room_check_is_one_banner_with_what_each_flag_asks_for(
    bedside: web.Page, day: dict[str, Exam]
) -> None:
    with bedside.logged_in() as browser:
        found = browser.get(f"/study/{day['found'].study}").text
        limits = browser.get(f"/study/{day['limits'].study}").text
        arriving = browser.get(f"/study/{day['arriving'].study}").text
    assert "USABLE AS FAR AS CHECKED" in found
    assert "Contrast medium: no" in found
    said = "LOOK BEFORE THE PATIENT LEAVES: the lungs are cut at the upper end, over 21 cm²"
    assert said in limits
    assert "Look at the uppermost images" in limits
    assert limits.count("the lungs are cut at the upper end") == 1, "the list has other words"
    assert "USABLE" not in limits
    assert "ARRIVING, 117 images" in arriving
    assert "USABLE" not in arriving
    assert 'class="banner ok"' not in arriving


def test_what_was_set_aside_and_what_came_before_are_shown(
    bedside: web.Page, day: dict[str, Exam]
) -> None:
    with bedside.logged_in() as browser:
        part = browser.get(f"/study/{day['in_part'].study}").text
        revised = browser.get(f"/study/{day['revised'].study}").text
    assert "Set aside, and why" in part
    assert "a localizer of 2 images" in part
    assert "Result 1.1, preliminary" in revised
    assert "Result 2.1, final" in revised
    assert revised.count("does not count any more") == 2
    assert "2 images of another orientation came later" in revised


@pytest.mark.parametrize(
    "path",
    [
        "/study/" + "0" * 32,
        "/study/1.2.8",
        "/study/..%2f..%2fweb%2fusers.json",
        "/study/%2e%2e",
        "/study/%00",
        "/study/" + "A" * 32,
        "/study/" + "a" * 5000,
    ],
)
def test_what_is_no_study_here_is_not_found_and_nothing_is_said_of_it(
    bedside: web.Page, path: str
) -> None:
    with bedside.logged_in() as browser:
        answer = browser.get(path)
        assert answer.status_code == 404
        assert "This page is not there" in answer.text
        assert path.rpartition("/")[2] not in answer.text.partition("<main")[2]


def test_a_study_that_is_deleted_while_its_page_is_open_is_gone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Ward(state) as at_work:
        exam = ward.a_day(at_work)["found"]
    with web.running(state) as serving, serving.logged_in() as browser:
        assert browser.get(f"/study/{exam.study}").status_code == 200
        with Journal.open(state) as journal:
            series = journal.series.get(exam.key)
            assert series is not None
            assert journal.forget(series)
        assert browser.get(f"/study/{exam.study}").status_code == 404
        events = browser.get("/events", params={"of": "study", "study": exam.study})
        assert events.status_code == 404


def test_a_role_without_names_sees_the_pseudonym_alone(
    bedside: web.Page, day: dict[str, Exam]
) -> None:
    with bedside.logged_in("service") as browser:
        text = browser.get(f"/study/{day['nothing'].study}").text
    assert "4711" not in text
    assert day["nothing"].study in text


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "Whether they hold here is shown under the operating point"),
        ("zh", "在此之前尚不可知"),
    ],
)
def test_sure_and_unsure_on_a_radiograph_say_that_nobody_has_counted_here(
    tmp_path: Path, language: str, said: str
) -> None:
    state = tmp_path / "state"
    seen = SeriesRef(modality="DX", slices=1)
    finding = Finding(
        id=1,
        tracking_uid="2.25.1",
        kind="pneumonia",
        score=0.8,
        threshold=0.7,
        key_image=0,
        heat_map="heat-map-1",
        certainty="unsure",
        unsure_why=("images without it score as high too often",),
    )
    open_ = Reason(code=Code.UNSURE_NEGATIVE, text="image 1: no finding, but unsure")
    with Ward(state) as at_work:
        keys = [at_work.arrive(minutes_ago=n, images=1) for n in (3, 2, 1)]
        about = ({"findings": (finding,)}, {"limitations": (open_,)}, {})
        reports = [
            at_work.report(key, images=1, series=seen, coverage=Coverage(), **more)
            for key, more in zip(keys, about, strict=True)
        ]
    header = {"accept-language": language}
    with web.running(state) as serving, serving.logged_in(headers=header) as browser:
        pages = [browser.get(f"/study/{one.study.pseudonym}").text for one in reports]
    assert [said in page for page in pages] == [True, True, False]
    doubt = {
        "en": "images without it score as high too often",
        "zh": "没有该发现的图像也常有同样高的评分",
    }
    assert doubt[language] in pages[0]


TUNING = Tuning(scanner=Scanner(modality="CT"), soften_mm=0.65, from_per_mm=0.5)
TUNED = {
    "en": ("detection saw the images softened by 0.65 mm", "what it does is not known"),
    "zh": ("将图像平滑 0.65 mm", "本设备上已查不到其内容"),
}


@pytest.mark.parametrize("language", TUNED)
def test_a_report_that_was_made_with_a_tuning_says_so_and_no_other_does(
    tmp_path: Path, language: str
) -> None:
    state = tmp_path / "state"
    tunings.accept(state, TUNING, datetime.now(timezone.utc))
    with Ward(state) as at_work:
        keys = [at_work.arrive(minutes_ago=n) for n in (3, 2, 1)]
        reports = [
            at_work.report(key, tuning=digest)
            for key, digest in zip(keys, (TUNING.digest, "f" * 64, None), strict=True)
        ]
    known, unknown = TUNED[language]
    header = {"accept-language": language}
    with web.running(state) as serving, serving.logged_in(headers=header) as browser:
        pages = [browser.get(f"/study/{one.study.pseudonym}").text for one in reports]
        (state / tunings.NAME).write_text("damaged")
        damaged = browser.get(f"/study/{reports[0].study.pseudonym}").text
    assert [known in page for page in pages] == [True, False, False]
    assert [unknown in page for page in pages] == [False, True, False]
    assert [TUNING.digest[:12] in page for page in (*pages, damaged)] == [True, False, False, True]
    assert unknown in damaged


# A water phantom: its verdict on the study, its trend under health.

FIGURES = WaterFigures(
    slices=20,
    measured=12,
    water_hu=9.1,
    edges_hu=(0.0, 0.0, 0.0, 0.0),
    noise_hu=6.2,
    diameter_mm=200.0,
    out_of_round_mm=0.0,
    off_centre_mm=1.0,
    bubble_mm=0.0,
    response_50_per_mm=0.38,
)
SAID = {
    "en": ("WATER PHANTOM: LOOK", "water is off", "Run the scanner", "water 9.1 HU, noise 6.2 HU"),
    "zh": ("水模：请查看", "水的 CT 值偏离", "空气校准", "水 9.1 HU，噪声 6.2 HU"),
}


@pytest.mark.parametrize("language", SAID)
def test_a_phantom_that_failed_is_said_with_what_to_do_and_stands_in_the_trend(
    bedside: web.Page, day: dict[str, Exam], state: Path, language: str
) -> None:
    exam = day["aside"]
    record = QaRecord(
        report_id=exam.reports[-1].report_id,
        study=exam.study,
        at=datetime.now(timezone.utc),
        scanner=Scanner(model="Box <b>"),
        bundle=BundleRef(name="water-qa", version="1.0.0", digest="b" * 64),
        input_digest="c" * 64,
        verdict="failed",
        codes=(QaCode.WATER_HU,),
        figures=FIGURES,
    )
    banner, what, remedy, figures = SAID[language]
    with bedside.logged_in(headers={"accept-language": language}) as browser:
        before = browser.get(f"/study/{exam.study}").text
        assert banner not in before or language == "zh"
        qa.keep(state, record)
        text = browser.get(f"/study/{exam.study}").text
        health = browser.get("/health").text
    for said in (banner, what, remedy):
        assert said in text, said
    assert figures in health
    assert what in health
    assert "water_hu" not in health, "no code"
    assert "Box &lt;b&gt;" in health
