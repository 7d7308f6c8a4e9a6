"""Asking the peers of this device whether they are there: for `doctor`, never on a slice's way.

Each question is asked once, with patience, and leaves nothing behind: no session at the broker, no
association, no bound port.
"""

from __future__ import annotations

import socket
import time

from appliance.errors import BrokerAway
from appliance.publish.link import Link, Pace, Protocol, next_protocol
from appliance.settings import Mqtt

REFUSED = "broker_refused"
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


def broker(mqtt: Mqtt, client_id: str, patience_s: float) -> str:
    """TCP, TLS, CONNECT with the credentials. BrokerAway, with code REFUSED where it said no."""
    protocol: Protocol = "3.1.1" if mqtt.protocol == "3.1.1" else "5"
    while True:
        link = Link(mqtt, protocol, client_id, None, Pace(connect_s=patience_s), session_s=0)
        link.open()
        end = time.monotonic() + patience_s
        while link.connack is None and link.lost is None and time.monotonic() < end:
            link.wait(None, 0.1)
        if link.connack == 0:
            link.goodbye()
            return f"{mqtt.host}:{mqtt.port} accepts us, MQTT {protocol}"
        link.hang_up("no CONNACK in time")
        again = next_protocol(mqtt.protocol, protocol, link.outcome())
        if again != "3.1.1" or again == protocol:
            break
        protocol = again
    raise BrokerAway(f"{mqtt.host}:{mqtt.port} refuses us: {link.lost}", code=REFUSED)
