"""MQTT over TLS with a real mosquitto: whom the stage believes, whom it shows its certificate."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import SettingsInvalid
from appliance.publish.link import Pace
from appliance.publish.tls import tls_context
from appliance.settings import TLS, Mqtt
from appliance.store.events import BrokerAway, BrokerConnected
from appliance.store.patience import Patience
from rigs.authority import Authority
from rigs.peers import Broker, Served, an_event, until
from rigs.programs import program

PACE = Pace(ack_s=5.0, patience=Patience(0.05, 0.1, 10), tick_s=0.5, connect_s=20.0)
HANG_S = 60.0


@pytest.fixture
def site(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "site")


@contextlib.contextmanager
def secured(
    authority: Authority, name: str = "broker", address: str | None = "127.0.0.1"
) -> Iterator[Broker]:
    """mosquitto that shows a certificate and wants one."""
    certificate, key = authority.issue(name, address)
    extra = f"cafile {authority.ca}\ncertfile {certificate}\nkeyfile {key}\n"
    broker = Broker(authority.folder, f"allow_anonymous true\n{extra}require_certificate true")
    try:
        yield broker.start()
    finally:
        broker.stop()


def refused(stage: Served) -> str:
    """What the stage wrote down of a broker that it could not use; nothing was delivered."""
    stage.journal.owed.add([an_event(1)])
    text = until(lambda: stage.journal.events.of(BrokerAway), HANG_S)[0].event.text
    assert stage.journal.owed.counts().waiting == 1
    assert not stage.journal.events.of(BrokerConnected)
    return str(text)


def test_with_both_certificates_everything_is_delivered(site, settings_for, serve) -> None:
    with secured(site) as broker:
        cert, key = site.issue("box1")
        listen = [program("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1"]
        listen += ["--cafile", str(site.ca), "--cert", str(cert), "--key", str(key)]
        listen += ["-c", "-i", "ward", "-t", "scanside/+/+/+/study/#"]
        subprocess.run([*listen, "-E"], check=True, timeout=HANG_S)  # the broker keeps for it
        listen += ["-F", "%p", "-C", "3", "-W", "60"]
        with subprocess.Popen(listen, stdout=subprocess.PIPE) as consumer:
            stage = serve(settings_for(broker.port, tls=TLS(ca=site.ca, cert=cert, key=key)), PACE)
            until(lambda: stage.journal.events.of(BrokerConnected), HANG_S)
            stage.journal.owed.add([an_event(n) for n in range(3)])
            owed = [row.key for row in stage.journal.owed.waiting("mqtt", 3)]
            until(lambda: stage.journal.owed.counts().delivered == 3, HANG_S)
            out, _ = consumer.communicate(timeout=HANG_S)
    assert [json.loads(line)["event_id"] for line in out.splitlines()] == owed


def test_a_broker_whose_certificate_another_authority_signed_is_refused_by_name(
    site, tmp_path, settings_for, serve
) -> None:
    other = Authority(tmp_path, "other")
    with secured(site) as broker:
        cert, key = site.issue("box1")
        stage = serve(settings_for(broker.port, tls=TLS(ca=other.ca, cert=cert, key=key)), PACE)
        text = refused(stage)
        assert "certificate" in text
        assert "[mqtt.tls] ca" in text


def test_a_certificate_for_another_host_is_refused(site, settings_for, serve) -> None:
    with secured(site, "elsewhere", address="192.0.2.9") as broker:
        cert, key = site.issue("box1")
        text = refused(
            serve(settings_for(broker.port, tls=TLS(ca=site.ca, cert=cert, key=key)), PACE)
        )
        assert "127.0.0.1" in text
        assert "not valid for" in text


def test_without_a_certificate_of_ours_the_broker_s_no_is_written_down(
    site, settings_for, serve
) -> None:
    with secured(site) as broker:
        stage = serve(settings_for(broker.port, tls=TLS(ca=site.ca)), PACE)
        refused(stage)

        def named() -> bool:  # sometimes the broker's reset overtakes its alert (RFC 8446 6)
            events = stage.journal.events.of(BrokerAway)
            return any("certificate" in e.event.text.lower() for e in events)

        until(named, HANG_S)
        assert stage.journal.owed.counts().waiting == 1


def test_a_broker_that_speaks_no_tls_is_refused(broker, site, settings_for, serve) -> None:
    assert "TLS" in refused(serve(settings_for(broker.port, tls=TLS(ca=site.ca)), PACE))


def test_a_broker_that_wants_tls_is_not_spoken_to_in_the_clear(site, settings_for, serve) -> None:
    with secured(site) as broker:
        assert str(broker.port) in refused(serve(settings_for(broker.port), PACE))


def test_a_handshake_that_never_ends_is_given_up(site, settings_for, serve) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        heard: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    heard.append(silent.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        impatient = replace(PACE, connect_s=0.5)
        stage = serve(settings_for(silent.getsockname()[1], tls=TLS(ca=site.ca)), impatient)
        until(lambda: len(heard) >= 2, HANG_S)
        assert "timed out" in refused(stage)
        for one in heard:
            one.close()


def test_files_that_are_not_there_or_not_pem_name_the_setting(site) -> None:
    for tls in (
        TLS(ca=site.folder / "none"),
        TLS(ca=site.ca, cert=site.folder / "none", key=site.folder / "none"),
    ):
        with pytest.raises(SettingsInvalid, match=r"\[mqtt.tls\]"):
            tls_context(Mqtt(tls=tls))
    (site.folder / "garbage").write_bytes(b"garbage")
    with pytest.raises(SettingsInvalid, match=r"\[mqtt.tls\]"):
        tls_context(Mqtt(tls=TLS(ca=site.folder / "garbage")))
