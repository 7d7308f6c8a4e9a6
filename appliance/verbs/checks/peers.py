"""Checks of the peers of this device: who may send, the DICOM port, the broker."""

from __future__ import annotations

import contextlib
import errno
import time

from appliance.dicom import policy
from appliance.errors import BrokerAway, ScansideError, SettingsInvalid
from appliance.results import message
from appliance.store.lock import is_held
from appliance.verbs.checks.check import PATIENCE_S, Check, Device

LATELY_S = 600.0
"""Two devices of one client id push each other off the broker far more often than this."""


def allowed(device: Device) -> Check:
    """Somebody may send."""
    dicom = device.settings.dicom
    if not dicom.allow:
        return Check(
            name="allowed senders",
            ok=False,
            text="no AE title may send: everything is refused",
            remedy=f"Add to {device.file}, with the scanner's AE title and address:\n"
            '[[dicom.allow]]\nae_title = "CT1"\nhost = "192.0.2.10"',
        )
    text = ", ".join(f"{peer.ae_title} at {peer.host}" for peer in dicom.allow)
    return Check(name="allowed senders", ok=True, text=text)


def commitment(device: Device) -> Check:
    """Every sender whose requests of storage commitment are relayed can be answered."""
    settings = device.settings
    if settings.dicom.commitment == "off":
        text = "senders are promised nothing (commitment = off)"
        return Check(name="storage commitment", ok=True, text=text)
    archive = settings.promising[0].name
    mute = [peer.ae_title for peer in settings.dicom.allow if peer.commitment is None]
    if mute:
        return Check(
            name="storage commitment",
            ok=False,
            text=f"requests of {', '.join(mute)} are refused: nobody knows where they are answered",
            remedy=f"In {device.file}, add to their [[dicom.allow]]: "
            'commitment = "AE@HOST:PORT", where the sender takes the answer.',
        )
    text = f"requests of senders are relayed to {archive}"
    return Check(name="storage commitment", ok=True, text=text)


def dicom(device: Device) -> Check:
    """The DICOM port is free, or it is ours that answers on it."""
    from appliance.verbs.checks import reach  # noqa: PLC0415

    ours = device.settings.dicom
    elsewhere = device.setting("dicom", "port = another one")
    if ours.port == 0:
        return Check(name="dicom port", ok=True, text="any free port (port = 0)")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ours.bind, ours.bind)  # noqa: S104
    text = f"{ours.bind}:{ours.port}"
    remedy = f"Stop the other program, or {elsewhere}."
    if not reach.answers(host, ours.port, PATIENCE_S):
        problem = reach.bindable(ours.bind, ours.port)
        if problem is None:
            text += " is free (receive is not running)"
            return Check(name="dicom port", ok=True, text=text)
        if problem.errno == errno.EADDRNOTAVAIL:
            remedy = device.setting("dicom", f"bind: {ours.bind} is no address of this machine")
        elif problem.errno in (errno.EACCES, errno.EPERM):
            remedy = f"Ports below 1024 need a right that this user lacks: {elsewhere}."
        return Check(name="dicom port", ok=False, text=f"{text}: {problem.strerror}", remedy=remedy)
    if (bound := _bound(device)) is not None and not policy.holds(ours.bind, bound):
        return Check(
            name="dicom port",
            ok=False,
            text=f"[dicom] bind = {ours.bind} does not hold: the socket of systemd is on {bound}",
            remedy=f"In scanside-receive.socket: ListenStream={ours.bind}:{ours.port}, then "
            "systemctl daemon-reload and restart it.",
        )
    if ours.tls is not None:
        text += " answers; not asked further, as it wants TLS"
        return Check(name="dicom port", ok=True, text=text)
    answer = reach.echo(host, ours.port, ours.ae_title, PATIENCE_S)
    if answer is None:
        text += ": what answers there is not DICOM"
        return Check(name="dicom port", ok=False, text=text, remedy=remedy)
    text += f" {answer}"
    if not is_held(device.settings.state, "receive"):  # asked last: systemd starts it for the echo
        text += "; receive is not running: that is another program"
        return Check(name="dicom port", ok=False, text=text, remedy=remedy)
    return Check(name="dicom port", ok=True, text=text)


def _bound(device: Device) -> str | None:
    """The address that a running receive has bound; None where none runs."""
    try:
        found = (device.settings.state / "run" / policy.ADDRESS_NAME).read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return found.strip()


def broker(device: Device) -> Check:
    """The broker takes what `publish` sends, and nobody else has our client id."""
    from appliance.publish import link  # noqa: PLC0415
    from appliance.verbs.checks import reach  # noqa: PLC0415

    mqtt = device.settings.mqtt
    try:
        found = reach.broker(device.settings, PATIENCE_S)
    except BrokerAway as e:
        tls = " and [mqtt.tls] ca, cert, key" if mqtt.tls else ""
        remedy = f"Start the broker, or correct {device.setting('mqtt', 'host and port')}{tls}."
        if e.code == reach.REFUSED:
            change = device.setting("mqtt", "username and password_file, or protocol")
            remedy = f"Correct {change}."
        elif e.code == reach.UNHEARD:
            remedy = (
                "At the broker, let our user write and read "
                f"{message.root(device.settings.site.name, device.settings.site.device)}/# "
                f"and send messages of {reach.REPORT_BYTES * 2} bytes (mosquitto: acl_file, "
                "message_size_limit, max_packet_size)."
            )
        elif e.code == link.CLOCK:
            remedy = (
                "Set the clock of this machine first (`date`, or a time server in "
                "/etc/systemd/timesyncd.conf). Only if it is right, renew the broker's certificate."
            )
        return Check(name="broker", ok=False, text=e.text, remedy=remedy)
    except SettingsInvalid as e:
        return Check(name="broker", ok=False, text=e.text, remedy=f"{device.file}: {e.remedy}")
    if (text := _id_taken(device)) is not None:
        remedy = f"Give each device a name of its own: {device.setting('site', 'device')}."
        return Check(name="broker", ok=False, text=f"{found.text}; {text}", remedy=remedy)
    remedy = ""
    if found.unconfirmed:
        remedy = "At the broker, allow QoS 1 (mosquitto: max_qos), or results may be lost there."
    return Check(name="broker", ok=not found.unconfirmed, text=found.text, remedy=remedy)


def _id_taken(device: Device) -> str | None:
    """What `publish` wrote down of another client of its id lately."""
    from appliance.store.events import BrokerAway as Away  # noqa: PLC0415
    from appliance.store.journal import Journal  # noqa: PLC0415

    with contextlib.suppress(ScansideError):
        if (opened := Journal.read(device.settings.state)) is not None:
            with opened:
                for one in opened.events.of(Away, 20):
                    lately = time.time() - one.at < LATELY_S
                    if lately and one.event.code == "client_id_taken":
                        return one.event.text
    return None
