"""What the device says of itself: its topics, and ids that tell two of a kind apart."""

from __future__ import annotations

from appliance.results import device, message
from appliance.results.mqtt import MQTT, Envelope
from appliance.results.scanners import ScannerMessage
from rigs.peers import AT


def status(state: message.DeviceState, number: int, name: str = "ward/box") -> message.Outgoing:
    return device.of_status(state, (), device=name, number=number, at=AT)


def test_a_status_is_retained_and_each_change_is_an_event_of_its_own() -> None:
    one = status("online", 1)
    assert (one.topic, one.qos, one.retain) == ("status", 1, True)
    others = [status("online", 2), status("offline", 1), status("online", 1, "ward/other")]
    ids = {one.message.event_id, *(o.message.event_id for o in others)}
    assert len(ids) == 4
    assert status("online", 1) == one


def test_health_expires_and_a_figure_that_is_not_known_is_null() -> None:
    said = device.of_health(
        device="ward/box",
        number=3,
        at=AT,
        uptime_s=None,
        load=None,
        memory_available_mb=None,
        disk_free_mb=None,
        spool_series=None,
        outbox_waiting=0,
        outbox_dead=0,
        oldest_waiting_s=None,
        stages={"work": "running"},
        audit_head=(4, "a" * 64),
    )
    assert (said.topic, said.qos, said.retain) == ("health", 0, False)
    assert isinstance(said.message, message.HealthMessage)
    assert said.message.load is None
    assert said.message.audit_head == message.AuditHead(row=4, hash="a" * 64)


def test_a_reply_goes_where_it_was_asked_for() -> None:
    said = device.of_reply(
        "reply/7", verb="ping", id="7", ok=True, text="", device="ward/box", number=1, at=AT
    )
    assert (said.topic, said.retain) == ("reply/7", False)
    assert isinstance(said.message, message.ReplyMessage)
    assert (said.message.id, said.message.ok) == ("7", True)


def test_each_question_of_the_doctor_is_a_new_one() -> None:
    one, two = (device.of_check("health", retain=False, at=AT, filler="..") for _ in range(2))
    assert one.message.event_id != two.message.event_id


def test_a_new_protocol_is_owed_once_however_often_it_is_said() -> None:
    row, scanner = "a" * 16, "b" * 16
    one, again, other = (
        device.of_new_protocol(of, scanner, device="ward/box", at=AT) for of in (row, row, scanner)
    )
    assert one.key == again.key != other.key
    assert (one.destination, one.series) == (MQTT, None)
    assert callable(one.body)
    sent = Envelope.stored(one.body(7))
    assert (sent.topic, sent.qos, sent.retain) == ("scanner/event", 1, False)
    said = ScannerMessage.model_validate_json(sent.payload)
    assert (said.seq, said.event, said.row, said.scanner) == (7, "new_protocol", row, scanner)
