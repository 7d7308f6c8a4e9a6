"""Asking the peers of this device whether they are there: for `doctor`, never on a slice's way.

Each question is asked once, with patience, and leaves nothing behind: no session and no retained
message at the broker, no association, no bound port.

The broker is asked as `publish` asks it: the same terms, credentials and branches of topics. The
client id is the same with `-doctor` behind it: a broker would end the connection of `publish` for a
second client of its id. What is sent is a CheckMessage, on topics that no consumer needs, one of
them as large as a report may well be.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from appliance.errors import BrokerAway
from appliance.publish.link import Direct, Link, Pace
from appliance.publish.stage import client_id_of
from appliance.publish.terms import Terms, best, following
from appliance.results import device, message
from appliance.settings import Mqtt, Settings

REFUSED = "broker_refused"
UNHEARD = "broker_unheard"
OURS = "doctor"
REPORT_BYTES = 32768
BRANCHES = {
    OURS: 0,
    "study/doctor/event": REPORT_BYTES,
    "finding/doctor": 0,
    "reply/doctor": 0,
}
"""Where `publish` sends, with how much beside the message; OURS is retained as `status` is."""
VERIFICATION = "1.2.840.10008.1.1"  # PS3.4 A


def answers(host: str, port: int, patience_s: float) -> bool:
    """Whether anything accepts a TCP connection there."""
    try:
        with socket.create_connection((host, port), patience_s):
            return True
    except OSError:
        return False


def bindable(address: str, port: int) -> OSError | None:
    """Why this user could not listen there; None where it could."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as e:
            return e
    return None


def echo(host: str, port: int, ae_title: str, patience_s: float) -> str | None:
    """C-ECHO (PS3.4 A.4) to ourselves under our own name; None where no DICOM peer is there."""
    from pynetdicom import AE  # noqa: PLC0415 - 60 MB that only this question needs

    ae = AE(ae_title=ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = patience_s
    ae.add_requested_context(VERIFICATION)
    association = ae.associate(host, port, ae_title=ae_title)
    if association.is_established:
        status = association.send_c_echo()
        association.release()
        if "Status" not in status:
            return "accepts associations and does not answer C-ECHO"
        return f"answers C-ECHO with 0x{status.Status:04X}"
    if association.is_rejected:
        return "answers, and refuses our own AE title, which nobody has allowed"
    return None


@dataclass(frozen=True, slots=True)
class Broker:
    """What a broker showed."""

    text: str
    unconfirmed: bool
    """Whether it takes QoS 0 only, so that nothing is confirmed."""


def broker(settings: Settings, patience_s: float) -> Broker:
    """Connect as `publish` does, send a message on each branch, and hear it again.

    BrokerAway, with code REFUSED where the broker said no, UNHEARD where a message did not come
    back or it hung up on one, CLOCK where its certificate is not valid by our clock.
    """
    mqtt, site = settings.mqtt, settings.site
    root = message.root(site.name, site.device)
    # an empty retained message deletes what is retained there (3.3.1.3): where we are cut off, the
    # will cleans up
    will = Direct(f"{root}/{OURS}", "", 1, retain=True)
    asked, seen = best(mqtt.protocol), set[Terms]()
    while True:
        seen.add(asked)
        pace = Pace(connect_s=patience_s)
        link = Link(mqtt, asked, f"{client_id_of(site)}-{OURS}", will, pace, session_s=0)
        link.open()
        _wait(link, lambda link=link: link.connack is not None, patience_s)  # type: ignore[misc]
        if link.connack == 0:
            return _heard_back(link, root, mqtt, patience_s)
        silent = link.lost is None
        link.hang_up("no CONNACK in time")
        asked = following(mqtt.protocol, asked, link.outcome())
        if asked in seen or (silent and len(seen) > 1):
            raise BrokerAway(f"{mqtt.host}:{mqtt.port} refuses us: {link.lost}", code=REFUSED)


def _heard_back(link: Link, root: str, mqtt: Mqtt, patience_s: float) -> Broker:
    """One message on each branch; nothing stays of it."""
    where = f"{mqtt.host}:{mqtt.port}"
    try:
        if not _granted(link, (f"{root}/cmd/+",), patience_s):
            raise BrokerAway(f"{where} does not let us hear {root}/cmd/+", code=UNHEARD)
        listening = _granted(link, tuple(f"{root}/{branch}" for branch in BRANCHES), patience_s)
        unheard = []
        for branch, size in BRANCHES.items():
            now = datetime.now(timezone.utc)
            check = device.of_check(branch, retain=branch == OURS, at=now, filler="." * size)
            link.send(Direct.of((check, 0), root))
            if not _answered(link, check.message.event_id, listening, patience_s):
                unheard.append(branch)
            refused = [reason for _, reason in link.acked if reason >= 0x80]
            why = f"PUBACK 0x{refused[0]:02x}" if refused else link.lost
            if why is not None:
                text = f"{where} does not take a message on {branch}: {why}"
                raise BrokerAway(text, code=UNHEARD)
    finally:
        if link.lost is None:
            link.send(Direct(f"{root}/{OURS}", "", 1, retain=True))
            _wait(link, lambda: not link.unacked, patience_s)
            link.goodbye()
    if unheard and link.protocol == "3.1.1":  # it has no other word for a refusal (3.3.5)
        text = f"{where} accepts us, and what we send on {', '.join(unheard)} does not come back"
        raise BrokerAway(text, code=UNHEARD)
    text = f"{where} accepts us, MQTT {link.protocol}"
    text += "; it keeps no retained messages" if not link.retain else ""
    text += "; it takes QoS 0 only, so that nothing is confirmed" if not link.qos else ""
    text += f"; we may not hear {', '.join(unheard)} ourselves" if unheard else ""
    return Broker(text, unconfirmed=not link.qos)


def _granted(link: Link, topics: tuple[str, ...], patience_s: float) -> bool:
    """Whether the broker lets us subscribe to all of them."""
    link.subscribed = None
    link.subscribe(*topics)
    _wait(link, lambda: link.subscribed is not None, patience_s)
    return link.subscribed is not None and link.subscribed < 0x80


def _answered(link: Link, known: uuid.UUID, listening: bool, patience_s: float) -> bool:
    """Whether the message came back. Who may not listen waits for its acknowledgement alone."""
    if not listening:
        _wait(link, lambda: not link.unacked, patience_s)
        return False
    _wait(link, lambda: _heard(link, known), patience_s)
    return _heard(link, known)


def _heard(link: Link, known: uuid.UUID) -> bool:
    return any(str(known).encode() in letter.payload for letter in link.heard)


def _wait(link: Link, what: Callable[[], bool], patience_s: float) -> None:
    """Until it is so, the connection is lost, or patience ends."""
    end = time.monotonic() + patience_s
    while not what() and link.lost is None and time.monotonic() < end:
        link.wait(None, 0.1)
