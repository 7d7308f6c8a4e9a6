"""What `receive` says of a sender for whom there was no place: the trouble `associations_full`.

It lasts from a refusal until a place is free again that this sender could have: any one where all
were taken, one of the same host where the host held the share of one sender ([dicom] share). The
names of hosts stay on this device: over MQTT only the code of a trouble leaves.
"""

from __future__ import annotations

from enum import IntEnum

from appliance.store.heartbeat import Heart, TroubleCode


class Note(IntEnum):
    """What the process of an association tells its parent of itself."""

    ACCEPTED = 0
    SHARE_TAKEN = 1
    """Its sender was refused: it holds its share already."""
    ALL_TAKEN = 2
    """It was refused: all are open."""


class Fullness:
    """Whom there is no place for now."""

    def __init__(self, heart: Heart) -> None:
        self._heart = heart
        self._hosts: set[str] = set()
        """Of senders that hold their share."""
        self._all = False

    def refused(self, host: str, note: Note) -> None:
        """A sender at this host was not let in."""
        self._all = self._all or note is Note.ALL_TAKEN
        if note is Note.SHARE_TAKEN:
            self._hosts.add(host)
        text = f"a sender at {host} was refused: "
        text += "all associations are open" if note is Note.ALL_TAKEN else "it has its share open"
        self._heart.suffer(TroubleCode.ASSOCIATIONS_FULL, text)
        self._heart.beat()

    def ended(self, host: str) -> None:
        """An association with this host is over."""
        self._all = False
        self._hosts.discard(host)
        if not self._hosts:
            self._heart.recover(TroubleCode.ASSOCIATIONS_FULL)
