"""The check of the archives that get results: each answers, lets us in and takes what it is to get.

Nothing is stored there: an association, C-ECHO (PS3.4 A), and which classes it accepted; or, of
DICOMweb, a request to store (PS3.18 10.5) without an object in it. OPTIONS would say less: services
answer it with 404 where they take objects, or without asking who we are.
"""

from __future__ import annotations

import uuid

from appliance.settings import Deliver, Stow
from appliance.verbs.checks.check import PATIENCE_S, Check, Device

LEAST_DAYS = 14.0


def archives(device: Device) -> Check:
    """Every archive of the settings takes what its profile says."""
    if not device.settings.deliver:
        return Check(name="archives", ok=True, text="none: no [[deliver]] in the settings")
    texts, remedies = [], []
    for one in device.settings.deliver:
        text, remedy = _asked_by_web(device, one) if isinstance(one, Stow) else _asked(device, one)
        texts.append(f"{one.name}: {text}")
        remedies += [remedy] if remedy else []
    return Check(
        name="archives", ok=not remedies, text="\n".join(texts), remedy="\n".join(remedies)
    )


def _asked(device: Device, one: Deliver) -> tuple[str, str]:
    """What one archive answered, and what to do; the latter is empty where all is well."""
    from appliance.deliver import offer  # noqa: PLC0415
    from appliance.dicom.commitment import PUSH_MODEL  # noqa: PLC0415
    from appliance.dicom.part10 import EXPLICIT  # noqa: PLC0415
    from appliance.dicom.requestor import REJECTS, Limits, Peer, Requestor  # noqa: PLC0415
    from appliance.dicom.tls import FAILED  # noqa: PLC0415
    from appliance.errors import PeerAway  # noqa: PLC0415

    section = f'{device.file}: [[deliver]] name = "{one.name}"'
    peer = Peer(one.host, one.port, one.called_ae, one.ae_title, one.tls, one.certificate)
    limits = Limits(PATIENCE_S, PATIENCE_S, PATIENCE_S, PATIENCE_S)
    asked = offer.classes(one.profile, rejection_note=one.rejection_note)
    try:
        more = [PUSH_MODEL] if one.commitment else []
        link = Requestor.open(peer, (*asked, *more), limits)
    except PeerAway as e:
        lines = {REJECTS: "ae_title and called_ae", FAILED: _tls(one)}.get(e.code, "host and port")
        return e.text, f"{e.remedy} The lines are {section}: {lines}."
    try:
        status, days = link.echo(), link.certificate_days()
    except PeerAway as e:
        return f"lets us in, and {e.text}", f"Read the log of the archive. The lines are {section}."
    finally:
        link.release()
    text = f"{peer} answers C-ECHO with 0x{status:04X}"
    if days is not None:
        text += f"; its certificate ends in {days:.0f} days"
        if days < LEAST_DAYS:
            return text, f"Renew the certificate of the archive {one.name}."
    taken = {uid for uid in asked if link.takes(uid, EXPLICIT) is not None}
    if missing := offer.untaken(asked, taken):
        names = ", ".join(missing)
        return (
            f"{text}; it does not accept the SOP classes {names}",
            f"Let the archive accept them, or correct `profile` or `rejection_note`: {section}.",
        )
    if one.commitment and link.takes(PUSH_MODEL, EXPLICIT) is None:
        remedy = "Let the archive accept that class, and answer to our listener; or take out the"
        text += "; it does not accept storage commitment"
        return text, f"{remedy} line {section}: commitment."
    if "sr" in one.profile and offer.COMPREHENSIVE_3D_SR not in taken:
        text += "; it takes reports in the older class only"
    return text, ""


def _asked_by_web(device: Device, one: Stow) -> tuple[str, str]:
    """What a DICOMweb service answered, and what to do; the latter is empty where all is well."""
    from appliance.deliver import credentials, web  # noqa: PLC0415
    from appliance.dicom import stow  # noqa: PLC0415
    from appliance.dicom.exchange import Exchange, Place  # noqa: PLC0415
    from appliance.dicom.requestor import REJECTS, Limits  # noqa: PLC0415
    from appliance.dicom.tls import FAILED  # noqa: PLC0415
    from appliance.errors import PeerAway, SettingsInvalid  # noqa: PLC0415

    section = f'{device.file}: [[deliver]] name = "{one.name}"'
    boundary = uuid.uuid4().hex
    try:
        headers = {**credentials.header(one), **stow.headers(boundary)}
    except SettingsInvalid as e:
        return e.text, f"{e.remedy} The lines are {section}."
    limits = Limits(PATIENCE_S, PATIENCE_S, PATIENCE_S, PATIENCE_S)
    try:
        link = Exchange.open(Place.of(one), limits)
        try:
            days = link.certificate_days()
            said = link.ask("POST", stow.TARGET, headers, stow.empty(boundary))
        finally:
            link.close()
    except PeerAway as e:
        lines = {REJECTS: "proxy", FAILED: _tls(one)}.get(e.code, "url")
        return e.text, f"{e.remedy} The lines are {section}: {lines}."
    text = f"{one.url} answers a request without an object with HTTP {said.status}"
    if days is not None:
        text += f"; its certificate ends in {days:.0f} days"
        if days < LEAST_DAYS:
            return text, f"Renew the certificate of the archive {one.name}."
    if (remedy := stow.DEAD.get(said.status)) is not None:
        return text, f"{remedy} The lines are {section}."
    what = stow.trouble(said.status)
    if what is None or said.status == 500:  # it may stumble where no object is
        return text, ""
    error = web.trouble(what, said, one.url)
    return f"{text}: {error.text}", f"{error.remedy} The lines are {section}."


def _tls(one: Deliver | Stow) -> str:
    """The lines that decide whom we believe."""
    return "tls" if one.certificate is None else "tls and certificate"
