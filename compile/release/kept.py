"""Which releases a channel goes on to offer, and which leave its role. Pure.

A role is fetched whole by every box at every change, and each release adds a line to it: a channel
that only grew would cost each box more for every release there ever was.

Rules.
1. The newest KEEP stay, and of each kind of release, for each kind of device, the newest of which
   nothing was recalled: a box that takes security releases alone, or is of a rare kind, looks past
   newer ones that it does not take (appliance.update.plan, rule 1).
2. So the newest release always stays, and with it the number below which none comes any more.
3. Nobody needs the others: a box goes back to what it keeps itself, and a recall names digests.
   Their files stay where they lie, and with the older versions of the role they are the memory of
   every name and version that was ever given (compile.release.drafts.Here.ever).
4. At most MOST releases are offered, no more than a box looks at (appliance.update.trust).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from appliance.release.record import DeviceKind, Recall, Release

KEEP = 5
MOST = KEEP + 3 * len(get_args(DeviceKind))
"""Kinds of a release: security, feature, model."""


def kept(releases: Iterable[Release], recall: Recall | None) -> frozenset[str]:
    """The paths, of the releases of one channel, that have to stay in its role."""
    falling = sorted(releases, key=lambda one: one.number, reverse=True)
    stay = {one.path for one in falling[:KEEP]}
    found: set[tuple[str, str]] = set()
    for release in falling:
        if recall is not None and recall.recalled_of(release):
            continue
        whom = {(release.kind, device.kind) for device in release.devices}
        if not whom <= found:
            stay.add(release.path)
            found |= whom
    return frozenset(stay)
