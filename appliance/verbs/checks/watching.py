"""The check of the library of scanners: what changed on a scanner is a warning, never a failure.

An alarm says that other images come than before. The box analyses them as it did, and a doctor that
fails would stop an update or a script that has nothing to do with it.
"""

from __future__ import annotations

from appliance.errors import ScansideError
from appliance.verbs.checks.check import Check, Device

NAME = "scanners"
SHOWN = 5
"""Rows that are named."""


def scanners(device: Device) -> Check:
    """What is usual of each scanner, and what changed."""
    from appliance.store import library, tunings  # noqa: PLC0415
    from appliance.store.library import Library  # noqa: PLC0415

    listed = Library(device.settings.state).all()
    alarmed = [one for one in listed.today if one.row.alarms]
    texts = [f"{len(listed.today)} rows of scanners, {len(alarmed)} with an alarm"]
    remedies = []
    for entry in alarmed[:SHOWN]:
        said = ", ".join(f"{a.statistic.value} ({a.cause.value})" for a in entry.row.alarms)
        texts.append(f"row {entry.id}: {said} since {entry.row.alarms[0].since:%Y-%m-%d}")
    for entry in library.stopped(listed.entries)[:SHOWN]:
        texts.append(f"row {entry.id} was usual for its scanner and does not come any more")
    if alarmed or len(texts) > 1:
        remedies.append(
            "Look at `scanside drift`: it says what to do; then `scanside drift ack ROW`, or "
            "`accept ROW` where it stays so."
        )
    if listed.unreadable or listed.damaged:
        texts.append(f"{len(listed.unreadable) + len(listed.damaged)} files could not be read")
        remedies.append(f"Look at, then delete: {device.settings.state}/library/*.damaged")
    try:
        tunings.in_force(device.settings.state)
    except ScansideError as e:
        texts.append(f"no series is tuned: {e.text}")
        remedies.append(e.remedy)
    if remedies:
        texts[0] = f"warning: {texts[0]}"
    return Check(name=NAME, ok=True, text="\n".join(texts), remedy="\n".join(remedies))
