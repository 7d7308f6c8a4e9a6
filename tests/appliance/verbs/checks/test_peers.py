"""The doctor and the broker: what `publish` will meet there, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.settings import TLS, Settings
from appliance.store.events import BrokerAway
from appliance.store.journal import Journal
from appliance.verbs.checks import peers, reach
from appliance.verbs.checks.check import Check, Device
from rigs.authority import Authority
from rigs.peers import ROOT, Broker, Subscriber

OPEN = "allow_anonymous true\nmax_queued_messages 1000"
"""With max_queued_messages 0 mosquitto 2.0.11 acknowledges what it drops, and then hangs up."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """mosquitto with these lines in its settings."""
    with ExitStack() as stack:

        def started(extra: str = OPEN) -> Broker:
            broker = Broker(tmp_path, extra).start()
            stack.callback(broker.stop)
            return broker

        yield started


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., Check]:
    def check(port: int, **mqtt: object) -> Check:
        site = {"name": "ward", "device": "box1"}
        keys = {"state": tmp_path / "state", "site": site, "mqtt": {"port": port, **mqtt}}
        return peers.broker(Device(Settings.model_validate(keys), "scanside.toml"))

    return check


@pytest.mark.parametrize("protocol", ["5", "3.1.1", "auto"])
def test_a_message_on_each_branch_is_heard_back_and_nothing_stays(protocol, start, checked) -> None:
    broker = start()
    consumer = Subscriber(broker.port)
    check = checked(broker.port, protocol=protocol)
    assert check.ok, check
    spoken = {m.topic.removeprefix(f"{ROOT}/") for m in consumer.got}
    assert spoken == set(reach.BRANCHES)
    consumer.close()
    late = Subscriber(broker.port)  # it hears what is retained
    assert not [m for m in late.got if m.retain]
    late.close()
    broker.stop()  # mosquitto writes its sessions and what it retains
    kept = (Path(broker.conf).parent / "mosquitto.db").read_bytes()
    assert b"consumer-" in kept
    assert b"-doctor" not in kept
    assert b"box1/doctor" not in kept


@pytest.mark.parametrize(
    ("extra", "protocol", "text"),
    [
        ("message_size_limit 2000", "5", "does not take a message on study/doctor/event"),
        ("message_size_limit 2000", "3.1.1", "study/doctor/event does not come back"),
        ("max_packet_size 2000", "3.1.1", "does not take a message on study/doctor/event"),
    ],
)
def test_a_broker_that_takes_no_message_as_large_as_a_report_is_found(
    extra, protocol, text, start, checked
) -> None:
    check = checked(start(f"{OPEN}\n{extra}").port, protocol=protocol)
    assert not check.ok
    assert text in check.text
    assert "message_size_limit" in check.remedy


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        ("5", "does not take a message on finding/doctor: PUBACK 0x87"),
        ("3.1.1", "what we send on finding/doctor does not come back"),
    ],
)
def test_an_acl_that_drops_findings_is_found(protocol, text, tmp_path, start, checked) -> None:
    """Under 3.1.1 the broker acknowledges and drops: only a message heard back shows it."""
    acl = tmp_path / "acl"
    allowed = ("doctor", "study/#", "reply/#", "cmd/#", "status", "info", "health")
    acl.write_text("".join(f"topic readwrite {ROOT}/{topic}\n" for topic in allowed))
    check = checked(start(f"{OPEN}\nacl_file {acl}").port, protocol=protocol)
    assert not check.ok
    assert text in check.text
    assert f"{ROOT}/#" in check.remedy


def test_who_may_write_and_not_read_is_believed_in_v5_and_told_so(tmp_path, start, checked) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic write {ROOT}/#\ntopic read {ROOT}/cmd/#\n")
    check = checked(start(f"{OPEN}\nacl_file {acl}").port)
    assert check.ok, check
    assert "we may not hear" in check.text


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_without_retained_messages_is_no_failure_and_said(
    protocol, start, checked
) -> None:
    check = checked(start(f"{OPEN}\nretain_available false").port, protocol=protocol)
    assert check.ok, check
    assert "no retained messages" in check.text


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_of_qos_0_only_is_a_failure_that_names_what_it_costs(
    protocol, start, checked
) -> None:
    check = checked(start(f"{OPEN}\nmax_qos 0").port, protocol=protocol)
    assert not check.ok
    assert "nothing is confirmed" in check.text
    assert "QoS 1" in check.remedy


def test_a_client_id_that_another_device_has_is_found_in_the_journal(
    tmp_path, start, checked
) -> None:
    broker = start()
    (tmp_path / "state").mkdir()
    with Journal.open(tmp_path / "state") as journal:
        journal.events.add(BrokerAway(text="the network is down"))
        assert checked(broker.port).ok
        journal.events.add(BrokerAway(text="another client", code="client_id_taken"))
    check = checked(broker.port)
    assert not check.ok
    assert "[site] device" in check.remedy


@pytest.mark.parametrize(
    ("begins", "ends", "text"),
    [
        (timedelta(days=1), timedelta(days=2), "certificate is not yet valid"),
        (timedelta(days=-2), timedelta(days=-1), "certificate has expired"),
    ],
)
def test_the_clock_is_named_before_the_certificate(
    begins, ends, text, tmp_path, start, checked
) -> None:
    authority = Authority(tmp_path, "site")
    certificate, key = authority.issue("broker", "127.0.0.1", begins=begins, ends=ends)
    broker = start(f"{OPEN}\ncafile {authority.ca}\ncertfile {certificate}\nkeyfile {key}\n")
    check = checked(broker.port, tls=TLS(ca=authority.ca))
    assert not check.ok
    assert text in check.text
    assert check.text.index("clock") < check.text.index("certificate")
    assert check.remedy.startswith("Set the clock")
    assert "host and port" not in check.remedy


def relaying(*senders: dict[str, str]) -> Check:
    pacs = {"name": "main", "host": "10.0.0.9", "called_ae": "PACS", "commitment": True}
    keys = {"dicom": {"commitment": "relay", "allow": senders}, "deliver": [pacs]}
    return peers.commitment(Device(Settings.model_validate(keys), "scanside.toml"))


def test_a_sender_that_cannot_be_answered_is_named_with_the_line_to_add() -> None:
    told = {"ae_title": "CT1", "host": "10.0.0.5", "commitment": "CT1@10.0.0.5:104"}
    check = relaying(told, {"ae_title": "CT2", "host": "10.0.0.6"})
    assert not check.ok
    assert "CT2" in check.text
    assert "CT1" not in check.text
    assert 'commitment = "AE@HOST:PORT"' in check.remedy
    assert relaying(told).text == "requests of senders are relayed to main"
    assert peers.commitment(Device(Settings(), "scanside.toml")).ok
