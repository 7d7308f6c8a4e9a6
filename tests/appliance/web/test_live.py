"""GET /events: an open page is told when it is old, and nobody is slower for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from appliance.settings import Settings
from appliance.store.spool import Spool
from appliance.web import live
from appliance.web.live import MOST, Stream, Watch
from rigs import ward, web
from rigs.peers import HANG_S
from rigs.ward import Exam, Ward


@contextmanager
def listening(browser: httpx.Client, **query: str) -> Iterator[Iterator[str]]:
    """The names of events as they come, with their ids as `NAME ID`."""
    with browser.stream("GET", "/events", params=query, headers=headers(query)) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


def headers(query: dict[str, str]) -> dict[str, str]:
    last = query.pop("last", None)
    return {"last-event-id": last} if last else {}


def events(answer: httpx.Response) -> Iterator[str]:
    name = ""
    for line in answer.iter_lines():
        kind, _, value = line.partition(": ")
        if kind == "event":
            name = value
        elif kind == "id":
            yield f"{name} {value}"


def test_a_page_is_told_of_what_is_new_and_of_what_it_missed(
    bedside: web.Page, state: Path, day: dict[str, Exam]
) -> None:
    assert day
    with bedside.logged_in() as browser:
        with listening(browser, of="list") as heard:
            kind, seen = next(heard).split()
            assert kind == "alive"
            with Ward(state) as at_work:
                at_work.arrive(minutes_ago=0)
            kind, now = next(one for one in heard if one.startswith("news")).split()
            assert now != seen
        with listening(browser, of="list", last=seen) as heard:  # it comes back
            assert next(heard) == f"news {now}"
        with listening(browser, of="list", seen=now) as heard:
            assert next(heard) == f"alive {now}"


def test_the_page_of_a_study_is_told_of_that_study_alone(
    bedside: web.Page, state: Path, day: dict[str, Exam]
) -> None:
    exam = day["arriving"]
    with bedside.logged_in() as browser:
        with listening(browser, of="study", study=exam.study) as heard:
            _, seen = next(heard).split()
            with Ward(state) as at_work:
                at_work.arrive(minutes_ago=0)  # another one
                at_work.say("complete", exam.key, 117)
            assert next(heard).split()[0] == "news"
        with listening(browser, of="study", study=day["found"].study) as heard:
            _, before = next(heard).split()
        with listening(browser, of="study", study=day["found"].study, last=before) as heard:
            assert next(heard) == f"alive {before}"
        assert seen


def test_a_page_is_told_of_each_image_that_comes(bedside: web.Page, state: Path) -> None:
    with Ward(state) as at_work:
        exam = Exam(at_work.arrive(minutes_ago=0, images=1), ())
    spool = Spool(state)
    query = {"of": "study", "study": exam.study}
    with bedside.logged_in() as browser, listening(browser, **query) as heard:
        next(heard)
        for number in range(1, 4):
            temp = spool.incoming_path()
            temp.write_bytes(b"data")
            spool.store(temp, exam.key.study, exam.key.series, f"1.2.99.{number}", lambda *_: False)
            if number == 1:  # its folder is new; a commit shows it, as `receive` makes one then
                with Ward(state) as at_work:
                    at_work.say("complete", exam.key, 1)
            assert next(one for one in heard if one.startswith("news"))
            text = browser.get(f"/study/{exam.study}").text
            assert f"ARRIVING, {number} image{'s' if number > 1 else ''}<" in text


@pytest.mark.parametrize("query", [{}, {"of": "all"}, {"of": "study", "study": "../x"}])
def test_of_what_is_not_there_is_no_stream(bedside: web.Page, query: dict[str, str]) -> None:
    with bedside.logged_in() as browser:
        assert browser.get("/events", params=query).status_code == 404
    with bedside.browser() as nobody:
        assert nobody.get("/events", params={"of": "list"}).status_code == 401


def test_two_hundred_streams_are_served_and_a_page_beside_them(
    bedside: web.Page, day: dict[str, Exam]
) -> None:
    assert day
    with (
        ExitStack() as stack,
        bedside.logged_in(limits=httpx.Limits(max_connections=None)) as browser,
    ):
        for _ in range(200):
            stack.enter_context(listening(browser, of="list"))
        assert browser.get("/").status_code == 200
        for _ in range(MOST - 200):
            stack.enter_context(listening(browser, of="list"))
        refused = browser.get("/events", params={"of": "list"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]


def test_marks_are_made_once_for_all_streams_and_only_when_something_happens(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with Ward(state) as at_work:
        ward.a_day(at_work)

        async def scenario() -> None:
            watch, loop = Watch(Settings(state=state)), asyncio.get_running_loop()
            now = watch.marks({live.LIST})[live.LIST]
            streams = [Stream(live.LIST, loop, now) for _ in range(200)]
            for stream in streams:
                watch.join(stream)
            await until(lambda: watch.wakes == 1)  # the first look
            await asyncio.sleep(2 * live.GAP_S)
            assert watch.wakes == 1  # nothing happened
            for _ in range(50):
                at_work.arrive(minutes_ago=0)
            await asyncio.wait_for(asyncio.gather(*(s.told.wait() for s in streams)), HANG_S)
            await asyncio.sleep(2 * live.GAP_S)
            assert watch.wakes <= 4  # many commits, few looks
            assert {stream.seen for stream in streams} == {watch.marks({live.LIST})[live.LIST]}
            for stream in streams:
                watch.leave(stream)
            assert watch.open == 0

        asyncio.run(scenario())


async def until(holds: object) -> None:
    end = time.monotonic() + HANG_S
    assert callable(holds)
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
