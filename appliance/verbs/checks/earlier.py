"""The check of the archives that are asked for earlier exams (`[[priors.query]]`).

Nothing is asked of anybody's exams: an association, C-ECHO (PS3.4 A), and whether it accepts Study
Root C-FIND and C-MOVE; then, in our own settings, whether what it stores to us is let in and taken
as earlier exams. Whether it knows our listener as `move_to` only a C-MOVE would tell: so how the
last request of `fetch` ended is said too.
"""

from __future__ import annotations

import contextlib

from appliance.errors import ScansideError
from appliance.settings import Query
from appliance.verbs.checks.check import PATIENCE_S, Check, Device

NAME = "earlier exams"
LOOKED_AT = 50
"""Events: the last of each archive is among them."""


def earlier(device: Device) -> Check:
    """Every archive of earlier exams answers, and may store to us."""
    asked = device.settings.priors.query
    if not asked:
        text = "no archive is asked: no [[priors.query]] in the settings"
        return Check(name=NAME, ok=True, text=text)
    texts, remedies = [], []
    ended = _ended(device)
    for one in asked:
        text, remedy = _asked(device, one)
        texts.append(f"{one.name}: {text}{ended.get(one.name, '')}")
        remedies += [line for line in (remedy, _may_store(device, one)) if line]
    return Check(name=NAME, ok=not remedies, text="\n".join(texts), remedy="\n".join(remedies))


def _asked(device: Device, one: Query) -> tuple[str, str]:
    """What one archive answered, and what to do; the latter is empty where all is well."""
    from appliance.dicom.requestor import REJECTS, Limits  # noqa: PLC0415
    from appliance.dicom.retrieve import FIND, MOVE, Retrieving  # noqa: PLC0415
    from appliance.dicom.tls import FAILED  # noqa: PLC0415
    from appliance.errors import PeerAway  # noqa: PLC0415
    from appliance.fetch import archive  # noqa: PLC0415

    section = f'{device.file}: [[priors.query]] name = "{one.name}"'
    peer = archive.peer(one, device.settings)
    limits = Limits(PATIENCE_S, PATIENCE_S, PATIENCE_S, PATIENCE_S)
    try:
        link = Retrieving.open(peer, (FIND, MOVE), limits)
    except PeerAway as e:
        lines = {REJECTS: "address and ae_title", FAILED: "tls and certificate"}
        return e.text, f"{e.remedy} The lines are {section}: {lines.get(e.code, 'address')}."
    try:
        status = link.echo()
    except PeerAway as e:
        return f"lets us in, and {e.text}", f"Read the log of the archive. The lines are {section}."
    finally:
        link.release()
    text = f"{peer} answers C-ECHO with 0x{status:04X}"
    classes = {"C-FIND": FIND, "C-MOVE": MOVE}
    if missing := [name for name, uid in classes.items() if not link.accepts(uid)]:
        names = " and ".join(missing)
        remedy = f"Let the archive {one.name} accept Study Root {names} of {peer.calling_ae}, or"
        return f"{text}; it does not accept Study Root {names}", f"{remedy} take out {section}."
    return text, ""


def _may_store(device: Device, one: Query) -> str:
    """What to do so that what it stores is let in as earlier exams; empty where it is."""
    from appliance.dicom import policy  # noqa: PLC0415

    title = one.peer[0]
    if policy.sends_priors(device.settings, title):
        return ""
    if any(line.ae_title in (title, "*") for line in device.settings.dicom.allow):
        return (
            f"What {title} stores is taken for exams of today. In {device.file}, add to each line "
            'of [[dicom.allow]] that lets it in: role = "prior".'
        )
    return (
        f"{title} may not store to us what it is asked for. Add to {device.file}, with its "
        f'address:\n[[dicom.allow]]\nae_title = "{title}"\nhost = "192.0.2.20"\nrole = "prior"'
    )


def _ended(device: Device) -> dict[str, str]:
    """Name of an archive -> how the last request to it ended, as far as the journal tells."""
    from appliance.store.events import PriorsAsked  # noqa: PLC0415
    from appliance.store.journal import Journal  # noqa: PLC0415

    found: dict[str, str] = {}
    with contextlib.suppress(ScansideError):
        if (opened := Journal.read(device.settings.state)) is not None:
            with opened:
                for event in (one.event for one in opened.events.of(PriorsAsked, LOOKED_AT)):
                    why = f" ({event.text})" if event.text else ""
                    said = f"; asked last: {event.moved} of {event.found} exams moved{why}"
                    found.setdefault(event.subject, said)
    return found
