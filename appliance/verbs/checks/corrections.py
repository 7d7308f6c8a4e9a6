"""Check of corrections that wait: images that came again with another header and were refused.

That is no fault of this device, so no failure: somebody decides which header is right.
"""

from __future__ import annotations

from collections import Counter

from appliance.errors import ScansideError
from appliance.report import SeriesKey
from appliance.verbs.checks.check import Check, Device

NAME = "corrections"
LOOK_AT = 1000
"""Events, the newest."""
SHOWN = 3


def corrections(device: Device) -> Check:
    """Which series came again with a corrected header, and how the device takes it."""
    from appliance.store.events import HeaderChanged  # noqa: PLC0415
    from appliance.store.journal import Journal  # noqa: PLC0415

    try:
        opened = Journal.read(device.settings.state)
        if opened is None:
            return Check(name=NAME, ok=True, text="none waits")
        with opened:
            events = opened.events.of(HeaderChanged, LOOK_AT)
            named = Counter(row.series_uid for row in opened.series.all())
    except ScansideError as e:
        return Check(name=NAME, ok=False, text=e.text, remedy=e.remedy)
    waiting: dict[SeriesKey, dict[str, None]] = {}
    for one in events:
        key = SeriesKey(one.event.study, one.event.subject)
        if one.event.refused and _is_kept(device, key, one.event.instance, one.at):
            waiting.setdefault(key, {}).update(dict.fromkeys(one.event.changed))
    if not waiting:
        return Check(name=NAME, ok=True, text="none waits")
    said = [f"series {key.series} ({', '.join(names)})" for key, names in waiting.items()]
    more = f" and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    first = next(iter(waiting))
    command = f"scanside discard {first.series}"
    if named[first.series] > 1:  # `discard` asks then which one is meant
        command += f" --study {first.study}"
    return Check(
        name=NAME,
        ok=True,
        text="came again with another header, the first one is kept: "
        f"{'; '.join(said[:SHOWN])}{more}",
        remedy=f"If the new header is right: `{command}`, then send the series "
        "again; or send it under new Series and SOP Instance UIDs. If not: correct the sender.",
    )


def _is_kept(device: Device, key: SeriesKey, instance: str, at: float) -> bool:
    """Whether the image is still the one that stood when the other came, at `at`."""
    path = device.settings.state / "spool" / key.study / key.series / f"{instance}.dcm"
    try:
        return path.stat().st_mtime <= at
    except FileNotFoundError:
        return False
