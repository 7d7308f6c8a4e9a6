"""The check of the library of scanners: what changed on a scanner is a warning, never a failure.

An alarm says that other images come than before. The box analyses them as it did, and a doctor that
fails would stop an update or a script that has nothing to do with it. It says what `scanside drift`
says, in the same words.
"""

from __future__ import annotations

from appliance.errors import ScansideError
from appliance.verbs.checks.check import Check, Device

NAME = "scanners"
SHOWN = 5
"""Rows that are named."""


def scanners(device: Device) -> Check:
    """What is usual of each scanner, and what changed."""
    from appliance.store import tunings  # noqa: PLC0415
    from appliance.store.library import Library  # noqa: PLC0415
    from appliance.verbs import drift  # noqa: PLC0415
    from appliance.web.text import say  # noqa: PLC0415
    from appliance.web.views.watching import shown  # noqa: PLC0415

    words = say.speaker(say.texts("en"))
    found = shown(Library(device.settings.state).all(), ())
    today = [row for row in found.rows if not row.former]
    alarmed = [row for row in today if row.alarms]
    stopped = [row for row in today if row.stopped]
    texts = [f"{len(today)} rows of scanners, {len(alarmed)} with an alarm"]
    remedies = []
    for row in alarmed[:SHOWN]:
        said = [f"{drift.changed(one, words)}. {one.likely(words)}" for one in row.alarms]
        texts.append(f"row {row.id}: {'; '.join(said)}")
    texts += [f"row {row.id}: {words('drift.stopped')}" for row in stopped[:SHOWN]]
    if alarmed or stopped:
        remedies.append(
            "Look at `scanside drift`: it says what to do; then `scanside drift ack ROW`, or "
            "`accept ROW` where it stays so."
        )
    if found.damaged:
        texts.append(words("drift.damaged", count=found.damaged))
        remedies.append(f"Look at, then delete: {device.settings.state}/library/*.damaged")
    try:
        tunings.in_force(device.settings.state)
    except ScansideError as e:
        texts.append(words("drift.tunings_damaged"))
        remedies.append(e.remedy)
    if remedies:
        texts[0] = f"warning: {texts[0]}"
    return Check(name=NAME, ok=True, text="\n".join(texts), remedy="\n".join(remedies))
