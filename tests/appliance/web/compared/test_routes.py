"""A study beside an earlier exam, served by the real stage: what is said, shown and judged."""

from __future__ import annotations

import html
import re
import uuid

import httpx
import pytest

from appliance.comparison import Comparison, Followed
from appliance.reasons import Code
from appliance.report import Reason, Report
from appliance.store import kept
from appliance.store.journal.pairs import Pair
from rigs import beside, web
from rigs.composing import Site

FORBIDDEN = re.compile(
    r"\b(benign|malignan\w*|stable|progress\w*|respon\w*|suspicious|follow-up)\b|良性|恶性|稳定|进展|随访|建议"
)


@pytest.fixture
def compared(site: Site, waiting: Report) -> Comparison:
    return beside.commit(site.settings.state, site.journal, beside.comparison(waiting))


def part(reader: httpx.Client, of: Report | Comparison, language: str = "en") -> str:
    """The words of the part of the page, without markup."""
    study = of.study if isinstance(of, Comparison) else of.study.pseudonym
    cookies = {"scanside-look": f"{language}.dark"}
    text = reader.get(f"/study/{study}", headers={"cookie": cookie(reader, cookies)}).text
    found = re.search(r'<section class="panel compared".*?</section>', text, re.DOTALL)
    if found is None:
        return ""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[0])).split())


def cookie(reader: httpx.Client, more: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in {**dict(reader.cookies), **more}.items())


def judge(reader: httpx.Client, of: Comparison, verdict: str, **more: object) -> httpx.Response:
    values = {
        "csrf": web.csrf(reader, f"/study/{of.study}"),
        "comparison": of.comparison_id,
        "pair": 0,
        "uid": uuid.uuid4(),
        "verdict": verdict,
        **more,
    }
    return reader.post("/pair", data={name: str(value) for name, value in values.items()})


def test_each_finding_says_state_then_now_and_change_with_its_limit(
    reader: httpx.Client, compared: Comparison
) -> None:
    said = part(reader, compared)
    assert "The earlier exam is 364 days older." in said
    for words in (
        "Matched", "512 mm³", "1024 mm³", "Larger", "volume +100 %; limit 25 %; this decides",
        "mean axis +2.5 mm; limit 1.5 mm", "rate ln(V2/V1) +0.69 a year (95 %: +0.47 to +0.92)",
        "doubling time 365 days (95 %: 275 to 540)", "more than 1.5 mm",
        "Not comparable", "does not show this place", "slices of the other exam are too thick",
        "Gone", "earlier finding 1", "83 % of 380 places",
    ):  # fmt: skip
        assert words in said, words
    assert "2.25." not in said, "no UID"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_word_judges_what_a_change_means(
    reader: httpx.Client, compared: Comparison, language: str
) -> None:
    said = part(reader, compared, language)
    assert len(said) > 300
    assert not FORBIDDEN.search(said)


def test_while_it_is_compared_the_page_says_so_and_before_there_is_nothing(
    site: Site, reader: httpx.Client, waiting: Report
) -> None:
    assert "still being made" in part(reader, waiting)
    beside.commit(site.settings.state, site.journal, beside.comparison(waiting))
    assert "still being made" not in part(reader, waiting)


def test_what_is_below_the_threshold_today_or_was_then_is_told_apart(
    site: Site, reader: httpx.Client, waiting: Report
) -> None:
    findings = (
        Followed(finding=1, prior_finding=None, state="matched", seen_below_threshold=True),
        Followed(prior_finding=4, state="matched", seen_below_threshold=True),
    )
    beside.commit(site.settings.state, site.journal, beside.comparison(waiting, findings))
    said = part(reader, waiting)
    assert said.count("Then it scored below") == said.count("Today it scores below") == 1


def test_an_exam_that_was_not_compared_says_why_and_is_not_unchanged(
    site: Site, reader: httpx.Client, waiting: Report
) -> None:
    reason = Reason(code=Code.NO_PRIOR, text="no earlier exam of this person is kept")
    said = beside.comparison(
        waiting, (), status="not_compared", reasons=(reason,), prior=None, person=None,
        registered=None,
    )  # fmt: skip
    beside.commit(site.settings.state, site.journal, said)
    text = part(reader, waiting)
    assert "Not compared. This does not mean that nothing changed." in text
    assert "No earlier exam" in text
    assert "Matched" not in text


def test_then_and_now_of_a_pair_are_pictures_of_three_planes(
    reader: httpx.Client, compared: Comparison
) -> None:
    then, now = (
        reader.get(f"/comparison/{compared.comparison_id}/0/{when}") for when in ("then", "now")
    )
    assert (then.status_code, then.headers["content-type"]) == (200, "image/png")
    assert then.headers["cache-control"] == "no-store"
    assert then.content.startswith(b"\x89PNG")
    assert then.content != now.content


@pytest.mark.parametrize("address", ["0/later", "3/now", "-1/now", "../now", "x/now", "0000/now"])
def test_a_picture_that_is_none_is_not_found(
    reader: httpx.Client, compared: Comparison, address: str
) -> None:
    assert reader.get(f"/comparison/{compared.comparison_id}/{address}").status_code == 404


def test_pictures_that_were_deleted_are_said_and_not_found(
    site: Site, reader: httpx.Client, compared: Comparison
) -> None:
    kept.cubes_path(site.settings.state, compared.report_id, compared.comparison_id).unlink()
    assert reader.get(f"/comparison/{compared.comparison_id}/0/now").status_code == 404
    assert "not on the device any more" in part(reader, compared)


def test_a_pair_called_wrong_is_one_row_and_the_page_says_what_follows(
    site: Site, reader: httpx.Client, compared: Comparison
) -> None:
    uid = uuid.uuid4()
    for _ in range(2):
        answer = judge(reader, compared, "wrong", uid=uid)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/study/{compared.study}#pairs-{compared.report_id}"
    pair = Pair(beside.PRIOR, 1, 2)
    (row,) = site.journal.pairs.of_report(compared.report_id)
    assert (row.pair, row.verdict, row.role) == (pair, "wrong", "radiologist")
    assert site.journal.pairs.wrong(compared.report_id) == {pair}
    assert "its tracking number is not passed on" in part(reader, compared)
    judge(reader, compared, "undo")
    assert site.journal.pairs.wrong(compared.report_id) == frozenset()
    assert "is not passed on" not in part(reader, compared)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"pair": 1}, 400),  # not comparable: there is no pair
        ({"pair": 9}, 400),
        ({"pair": "x"}, 404),
        ({"verdict": "benign"}, 400),
        ({"uid": "none"}, 400),
        ({"comparison": uuid.UUID(int=1)}, 404),
        ({"csrf": "0" * 64}, 403),
    ],
)
def test_a_form_that_is_none_is_refused(
    site: Site, reader: httpx.Client, compared: Comparison, more: dict[str, object], status: int
) -> None:
    verdict = str(more.pop("verdict", "right"))
    assert judge(reader, compared, verdict, **more).status_code == status
    assert site.journal.pairs.of_report(compared.report_id) == []


def test_the_form_of_a_page_names_the_same_act_until_something_was_said(
    reader: httpx.Client, compared: Comparison
) -> None:
    def uids() -> list[str]:
        text = reader.get(f"/study/{compared.study}").text
        found = re.search(r'<section class="panel compared".*?</section>', text, re.DOTALL)
        assert found
        return re.findall(r'name="uid" value="([^"]+)"', found[0])

    first = uids()
    assert uids() == first
    judge(reader, compared, "right")
    assert uids() != first
