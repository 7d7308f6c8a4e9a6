"""A comparison over MQTT: once a pair, and again only where something else is true."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone

from appliance.comparison import Comparison, Followed, PriorRef, Which
from appliance.reasons import Code
from appliance.report import Reason, SeriesKey
from appliance.results import compared, destinations, mqtt
from appliance.results.pacs import Pacs
from rigs.reports import NAMING

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
KEY = SeriesKey("1.2", "1.2.3")
OLD = uuid.UUID(int=9)


def made(
    *which: Which, supersedes: uuid.UUID | None = None, code: Code = Code.NO_PRIOR
) -> Comparison:
    prior = PriorRef(study=NAMING.study("1.1"), report_id=OLD, which=which, interval_days=400)
    return Comparison(
        comparison_id=uuid.UUID(int=1),
        supersedes=supersedes,
        report_id=uuid.UUID(int=2),
        study=NAMING.study(KEY.study),
        status="compared" if which else "not_compared",
        reasons=() if which else (Reason(code=code, text="why"),),
        prior=prior if which else None,
    )


def followed(uid: str) -> Comparison:
    """An exam between came late: the same pair, followed under another UID."""
    one = Followed(finding=1, prior_finding=1, state="matched", tracking_uid=uid)
    return made("newest").model_copy(update={"findings": (one,)})


def said(comparison: Comparison, *withdrawn: uuid.UUID) -> compared.ComparisonMessage:
    return compared.message(comparison, KEY, withdrawn=withdrawn, naming=NAMING, at=NOON)


def test_it_carries_the_whole_comparison_and_names_what_counts_no_more() -> None:
    message = said(made("newest", "oldest"), OLD)
    assert (message.event, message.comparison, message.withdrawn) == (
        "compared", made("newest", "oldest"), (OLD,),
    )  # fmt: skip
    assert message.series == NAMING.series(KEY)
    assert said(made()).event == "not_compared"


def test_the_same_is_said_under_one_event_id_and_anything_else_under_another() -> None:
    every = [
        made(), made(code=Code.COMPARE_FAILED), made("newest"), made("newest", "oldest"),
        made("newest", supersedes=OLD), followed("2.25.7"), followed("2.25.8"),
    ]  # fmt: skip
    ids = [said(one).event_id for one in every]
    assert len(set(ids)) == len(ids)
    assert said(every[2], OLD).event_id == ids[2], "whatever it withdraws"
    later = every[2].model_copy(update={"committed": NOON, "appliance": "9.9"})
    assert said(later).event_id == ids[2], "whenever, and by whatever release"


def test_the_broker_is_owed_it_on_the_topic_of_the_study_and_an_archive_is_not() -> None:
    to = (mqtt.Mqtt(), Pacs("pacs", ("sr",), "final"))
    (owed,) = destinations.of_comparison(made(), KEY, naming=NAMING, at=NOON, to=to)
    assert (owed.destination, owed.series) == ("mqtt", KEY)
    assert callable(owed.body)
    body = owed.body(7)
    envelope = mqtt.Envelope.stored(body)
    assert envelope.topic == f"study/{NAMING.study(KEY.study)}/event"
    payload = json.loads(envelope.payload)
    assert (payload["type"], payload["seq"]) == ("comparison", 7)
    found = mqtt.said(body)
    assert found is not None
    assert (found.type, found.report_id) == ("comparison", str(uuid.UUID(int=2)))
