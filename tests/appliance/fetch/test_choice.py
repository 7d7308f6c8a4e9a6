"""The two newest and the oldest, of each the longest series that is not too long."""

from __future__ import annotations

import pytest

from appliance.fetch import choice
from appliance.fetch.choice import IMAGES_MOST, LOOKED_INTO, Series, Study

YEARS = [Study(f"1.{year}", f"{year}0101") for year in range(2015, 2025)]


def chosen(studies: list[Study], today: str = "0", without: tuple[str, ...] = ()) -> list[str]:
    def best(study: Study) -> Series | None:
        return None if study.uid in without else Series(study.uid, f"{study.uid}.1", 9)

    return [one.study for one in choice.chosen(choice.earlier(studies, today), best)]


def test_the_two_newest_and_the_oldest_are_wanted() -> None:
    assert chosen(YEARS) == ["1.2024", "1.2023", "1.2015"]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_where_there_are_fewer_each_is_wanted_once(count: int) -> None:
    assert sorted(chosen(YEARS[:count])) == sorted(one.uid for one in YEARS[:count])


def test_todays_exam_and_what_is_not_before_it_is_left_out() -> None:
    same_day = Study("1.5", "20200101")
    assert chosen([*YEARS, same_day], "1.2020") == ["1.2019", "1.2018", "1.2015"]


def test_where_the_archive_does_not_have_todays_exam_no_date_is_too_late() -> None:
    assert chosen(YEARS, "9.9")[0] == "1.2024"


def test_a_study_without_a_fitting_series_is_passed_over_for_the_next() -> None:
    assert chosen(YEARS, without=("1.2024", "1.2015")) == ["1.2023", "1.2022", "1.2016"]


def test_a_study_without_a_date_comes_last_and_only_where_there_is_room() -> None:
    assert chosen([Study("1.0"), *YEARS]) == ["1.2024", "1.2023", "1.2015"]
    assert chosen([Study("1.0"), *YEARS[:1]]) == ["1.2015", "1.0"]


def test_no_more_than_so_many_studies_are_looked_into() -> None:
    looked: list[str] = []

    def none(study: Study) -> None:
        looked.append(study.uid)

    many = [Study(f"1.{n}", f"{19000000 + n}") for n in range(100)]
    assert choice.chosen(choice.earlier(many, "0"), none) == []
    assert len(looked) == LOOKED_INTO
    assert len(set(looked)) == LOOKED_INTO


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        ([3, 40, 7], 40),
        ([IMAGES_MOST, 4], IMAGES_MOST),
        ([3000, 4], 4),
        ([IMAGES_MOST + 1], None),
        ([0], None),
        ([], None),
    ],
)
def test_of_a_study_the_longest_series_that_is_not_too_long(
    images: list[int], wanted: int | None
) -> None:
    found = choice.best(Series("1", f"1.{n}", count) for n, count in enumerate(images))
    assert (found and found.images) == wanted
