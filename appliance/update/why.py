"""Why a release is not taken, or not now: one closed list, each with its remedy. Pure.

A code is stable: a fleet team compares it, so it is never renamed or reused. The text of a WhyNot
names the release and the figure; the remedy, kept here, says what a person can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from appliance.report import Record


class Why(str, Enum):
    """In the order in which a person should read them."""

    # nothing is to be done
    NO_URL = "no_url"
    NOTHING_NEWER = "nothing_newer"
    # this release is not for this box
    OTHER_CHANNEL = "other_channel"
    OTHER_SITE = "other_site"
    OTHER_DEVICE = "other_device"
    PYTHON = "python"
    JETPACK = "jetpack"
    TENSORRT = "tensorrt"
    # this release is not taken by any box that knows what this one knows
    OLDER = "older"
    RELABELLED = "relabelled"
    RECALLED = "recalled"
    ROLLED_BACK = "rolled_back"
    # a person has to ask for it
    NOT_AUTOMATIC = "not_automatic"
    NEEDS_ACCEPT = "needs_accept"
    # not now
    HELD = "held"
    DISK = "disk"
    WINDOW = "window"
    BUSY = "busy"


REMEDIES: Final[Mapping[Why, str]] = MappingProxyType(
    {
        Why.NO_URL: "Name the repository in [update] url, or bring a stick: "
        "scanside update check --from DIR",
        Why.NOTHING_NEWER: "Nothing: this box has the newest release of its channel.",
        Why.OTHER_CHANNEL: "Ask the fleet team for a release in the channel of this box, or for "
        "another channel.",
        Why.OTHER_SITE: "Ask the fleet team for a release of this site.",
        Why.OTHER_DEVICE: "Ask the fleet team for a release for this kind of device.",
        Why.PYTHON: "Install a Python that the release names, or wait for a release that takes "
        "this one.",
        Why.JETPACK: "Bring JetPack to a release that is named, or wait for a release that takes "
        "this one.",
        Why.TENSORRT: "Bring TensorRT to a release that is named, or wait for a release that "
        "takes this one.",
        Why.OLDER: "Nothing: a box never goes back by an update. `scanside update rollback` goes "
        "back by hand.",
        Why.RELABELLED: "Take nothing from this repository and call the fleet team: one version "
        "has two contents.",
        Why.RECALLED: "Wait for the next release: what was recalled never runs again.",
        Why.ROLLED_BACK: "Send the log of the trial to the fleet team, and wait for the next "
        "release; `scanside update now` tries this one again.",
        Why.NOT_AUTOMATIC: "Type: scanside update now; or add the kind of the release to "
        "[update] auto.",
        Why.NEEDS_ACCEPT: "Read what it is meant for, then type: scanside update accept",
        Why.HELD: "When the reason for the hold is gone, type: scanside update release",
        Why.DISK: "Free some space, or lower [retain] days; then: scanside update check",
        Why.WINDOW: "Wait for the window of [update] window, or type: scanside update now",
        Why.BUSY: "Nothing: it goes on when no study is under way.",
    }
)


class WhyNot(Record):
    """One reason: what it is about (a release, or the box), and the sentence with the figure."""

    code: Why
    text: str
    release: str | None = None
    """Its path in the repository; None where it is about the box."""

    @property
    def remedy(self) -> str:
        """What a person can do."""
        return REMEDIES[self.code]

    def one_line(self) -> str:
        """For a terminal or a log."""
        return f"{self.text} [{self.code.value}] {self.remedy}"
