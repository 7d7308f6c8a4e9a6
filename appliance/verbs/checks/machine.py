"""Checks of the machine itself: what it is, its clock, and what decodes images on it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from datetime import datetime, timezone
from importlib import metadata

from appliance.errors import ScansideError
from appliance.host import facts
from appliance.host.clock import why_wrong
from appliance.verbs.checks.check import PATIENCE_S, Check, Device, importable

DECODERS = (
    ("JPEG Lossless and JPEG", "imagecodecs._jpeg8", "imagecodecs"),
    ("JPEG-LS", "jpeg_ls", "pyjpegls"),
    ("JPEG 2000", "openjpeg", "pylibjpeg-openjpeg"),
    ("RLE", "rle", "pylibjpeg-rle"),
)


def machine(device: Device) -> Check:
    """What this is. Never a failure."""
    seen = facts.read(device.settings.state)
    memory = seen.memory_available_mb
    text = f"{seen.model or 'unknown machine'}, {seen.cores} cores, {seen.system}"
    if memory is not None:
        text += f", {memory:.0f} MB available"
    return Check(name="machine", ok=True, text=f"{text}, appliance {facts.version()}")


def clock(device: Device) -> Check:
    """The clock can be right, as far as this software and the journal know (host/clock.py)."""
    from appliance.store.journal import Journal  # noqa: PLC0415

    latest = None
    with contextlib.suppress(ScansideError):
        if (opened := Journal.read(device.settings.state)) is not None:
            with opened:
                latest = opened.events.latest_at()
    now = datetime.now(timezone.utc)
    text = f"{now:%Y-%m-%d %H:%M:%S} UTC, {_ntp()}"
    if (wrong := why_wrong(now.timestamp(), latest)) is not None:
        remedy = "Set the clock (`date`, or a time server in /etc/systemd/timesyncd.conf)."
        return Check(name="clock", ok=False, text=f"{text}; {wrong}", remedy=remedy)
    return Check(name="clock", ok=True, text=text)


def decoders(_device: Device) -> Check:
    """Every compressed transfer syntax has its decoder."""
    missing = [(kind, package) for kind, module, package in DECODERS if not importable(module)]
    if missing:
        return Check(
            name="decoders",
            ok=False,
            text=f"cannot decode {', '.join(kind for kind, _ in missing)}",
            remedy=f"pip install {' '.join(package for _, package in missing)}",
        )
    by = [f"{kind} by {package} {metadata.version(package)}" for kind, _, package in DECODERS]
    return Check(name="decoders", ok=True, text=", ".join(by))


def _ntp() -> str:
    """What timedatectl says, where there is one."""
    program = shutil.which("timedatectl")
    if program is None:
        return "time server unknown"
    try:
        answer = subprocess.run(
            [program, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "time server unknown"
    return {"yes": "set by a time server", "no": "no time server"}.get(
        answer, "time server unknown"
    )
