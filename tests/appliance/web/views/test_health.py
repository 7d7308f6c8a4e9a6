"""How the device does, as lines of a page."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from appliance.host.facts import Facts
from appliance.reasons import Code
from appliance.report import BundleRef
from appliance.store.conditions import Condition, State
from appliance.store.events import ArchiveAway, ArchiveReached, BrokerAway, Engine, Happened
from appliance.store.heartbeat import REMEDIES, Trouble, TroubleCode
from appliance.store.rows import Queue, Sender
from appliance.watching.qa import QaCode, QaRecord
from appliance.watching.scanner import Scanner
from appliance.web.views import health
from appliance.web.views.health import Certificate, Line, Looked
from appliance.web.views.phrase import Phrase

NOW = 1_714_554_000.0
DAY = 86400.0


def looked(**changed: Any) -> Looked:
    """A device that is well."""
    values: dict[str, Any] = {
        "now": NOW,
        "facts": Facts(1000.0, 0.5, 4000.0, 50_000.0, "board", 4, "Linux", "3.12"),
        "temperature_c": 55.0,
        "release": "1.2.3",
        "reserve_mb": 2048,
        "target_free_mb": 8192,
        "stages": {"work": Condition(State.RUNNING, "waits for work")},
        "destinations": ("mqtt", "pacs"),
        "queues": (),
        "last_told": NOW - 5,
        "broker_away": None,
        "archives": {},
        "bundles": (BundleRef(name="lung-nodule", version="1.0.0", digest="a" * 64),),
        "refused": "",
        "backend": "openvino int8",
        "engines": (),
        "certificates": (),
        "senders": (),
    }
    return Looked(**values | changed)


def lines(seen: Looked) -> dict[str, Line]:
    """By the key of their names; of several of one name the last."""
    return {line.name.key: line for section in health.sections(seen) for line in section.lines}


def ill(seen: Looked) -> list[str]:
    return [
        line.text.key
        for section in health.sections(seen)
        for line in section.lines
        if line.sign in ("stop", "look")
    ]


def test_a_device_that_is_well_has_no_line_that_asks_for_a_person() -> None:
    assert ill(looked()) == []
    assert {section.sign for section in health.sections(looked())} == {"ok", "quiet"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stages": {"work": Condition(State.DOWN, "does not run")}}, "health.state.down"),
        ({"stages": {"work": Condition(State.STUCK, "no progress")}}, "health.state.stuck"),
        ({"queues": (Queue("mqtt", 3, 0, NOW - 301),)}, "health.waiting"),
        ({"queues": (Queue("pacs", 3, 1, NOW),)}, "health.dead"),
        ({"bundles": ()}, "health.no_bundle"),
        ({"refused": "its digest is another"}, "health.bundle_refused"),
        ({"temperature_c": 91.0}, "health.temperature_is"),
        ({"facts": Facts(1.0, 0.5, 1.0, 2000.0, None, 4, "", "")}, "health.disk_full"),
        ({"facts": Facts(1.0, 0.5, 1.0, 8000.0, None, 4, "", "")}, "health.disk_short"),
        ({"senders": (Sender("CT1", 9, NOW - 2 * DAY, 3600.0),)}, "health.silent"),
        ({"certificates": (Certificate("[mqtt.tls] cert", None),)}, "health.unreadable"),
    ],
)
def test_each_thing_that_is_not_well_is_one_line(changed: dict[str, Any], said: str) -> None:
    assert ill(looked(**changed)) == [said]


def test_a_stage_says_its_trouble_and_the_remedy() -> None:
    code = TroubleCode.CLOCK_WRONG
    trouble = Trouble(code=code, text="an hour behind", remedy=REMEDIES[code])
    seen = looked(stages={"work": Condition(State.RUNNING, "", (trouble,))})
    line = lines(seen)["health.stage.work"]
    assert (line.sign, line.detail, line.remedy) == ("look", "an hour behind", REMEDIES[code])


def test_what_waits_for_a_moment_is_no_alarm() -> None:
    queue = lines(looked(queues=(Queue("mqtt", 3, 0, NOW - 2),), destinations=("mqtt",)))
    assert queue["health.queue"].sign == "wait"
    assert queue["health.queue"].text.values == {"waiting": 3, "age": 2.0}


def test_a_destination_that_is_owed_nothing_has_its_line_too() -> None:
    (queues,) = (s for s in health.sections(looked()) if s.title.key == "health.queues")
    assert [
        line.name.values["destination"]
        for line in queues.lines
        if "destination" in line.name.values
    ] == ["mqtt", "pacs"]


def test_a_broker_and_an_archive_that_are_away_are_said_with_their_reason() -> None:
    broker = Happened(NOW - 60, BrokerAway(text="connection refused"))
    archive = Happened(NOW - 60, ArchiveAway(subject="pacs", text="no answer", code="timeout"))
    assert ill(looked(broker_away=broker)) == ["health.broker_away"]
    assert ill(looked(archives={"pacs": archive})) == ["health.archive_away"]
    back = Happened(NOW, ArchiveReached(subject="pacs"))
    assert ill(looked(archives={"pacs": back})) == []


def test_a_figure_that_the_machine_does_not_give_is_unknown_and_no_alarm() -> None:
    seen = looked(
        facts=Facts(None, None, None, None, None, 4, "", ""), temperature_c=None, last_told=None
    )
    assert ill(seen) == []
    found = lines(seen)
    assert found["health.disk"].text.key == "health.unknown"
    assert found["health.last_message"].text.key == "health.no_message"


@pytest.mark.parametrize(
    ("state", "sign"), [("ready", "ok"), ("building", "wait"), ("fallback", "look")]
)
def test_the_engine_of_a_gpu_is_said(state: Any, sign: str) -> None:
    engine = Engine(bundle="lung-nodule", version="1", state=state, text="why", remedy="what")
    line = lines(looked(engines=(engine,)))["health.gpu"]
    assert (line.sign, line.detail, line.remedy) == (sign, "why", "what")


@pytest.mark.parametrize(("days", "sign"), [(-1.0, "stop"), (29.0, "look"), (31.0, "ok")])
def test_a_certificate_is_renewed_before_it_ends(days: float, sign: str) -> None:
    ends = datetime.fromtimestamp(NOW, timezone.utc) + timedelta(days=days)
    line = lines(looked(certificates=(Certificate("[web.tls]", ends),)))["health.certificate"]
    assert line.sign == sign
    assert line.text.values["days"] == pytest.approx(abs(days))


@pytest.mark.parametrize(
    ("sender", "silent"),
    [
        (Sender("CT1", 4, NOW - 30 * DAY, 3600.0), False),  # too few to know what is usual
        (Sender("CT1", 5, NOW - 1.1 * DAY, 3600.0), True),
        (Sender("CT1", 5, NOW - 0.9 * DAY, 3600.0), False),  # a night
        (Sender("CT1", 5, NOW - 3 * DAY, 2 * DAY), False),  # it has had long weekends
        (Sender("CT1", 5, NOW - 4.1 * DAY, 2 * DAY), True),
        (Sender("CT1", 5, NOW + 60, 2 * DAY), False),  # a clock that was set
    ],
)
def test_a_scanner_is_silent_too_long_by_its_own_habit(sender: Sender, silent: bool) -> None:
    assert health.is_silent(sender, NOW) is silent


def test_updates_have_a_section_once_there_is_a_state_of_them() -> None:
    titles = [section.title.key for section in health.sections(looked())]
    assert "health.updates" not in titles
    assert "health.stages" in titles
    line = Line("wait", Phrase("health.release"), Phrase("health.release_is", {"release": "2.0"}))
    titled = {s.title.key: s.lines for s in health.sections(looked(updates=(line,)))}
    assert titled["health.updates"] == (line,)


def test_an_overdue_phantom_is_reminded_of_and_without_the_setting_never() -> None:
    assert "health.phantom_next" not in lines(looked())
    never = lines(looked(phantom_days=7.0))["health.phantom_next"]
    assert (never.sign, never.text.key) == ("look", "health.phantom_never")


def test_what_is_wrong_with_a_phantom_is_said_in_words() -> None:
    record = QaRecord(
        report_id=uuid.UUID(int=1),
        study="a" * 32,
        at=datetime.fromtimestamp(NOW, timezone.utc),
        scanner=Scanner(),
        bundle=BundleRef(name="water-qa", version="1.0.0", digest="b" * 64),
        input_digest="c" * 64,
        verdict="failed",
        codes=(QaCode.WATER_HU, QaCode.TILT),
        reasons=(Code.NO_PHANTOM,),
    )
    line = lines(looked(phantoms=(record,)))["health.phantom_unknown"]
    keys = ["room.phantom.water_hu", "room.phantom.tilt", "reasons.what.no_phantom"]
    assert [one.key for one in line.why] == keys
    assert line.detail == ""
