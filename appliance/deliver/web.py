"""An archive that is spoken to by STOW-RS (PS3.18 10.5): a link is a connection that is kept."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Final

from appliance.deliver import credentials
from appliance.deliver.archive import Waits
from appliance.dicom import stow
from appliance.dicom.exchange import Exchange, Place, Said
from appliance.dicom.part10 import Object
from appliance.dicom.requestor import ODD, REJECTS, Limits
from appliance.dicom.statuses import Reply
from appliance.dicom.stow import Trouble
from appliance.errors import PeerAway, SettingsInvalid
from appliance.settings import Stow

BUSY: Final = "peer_busy"
REDIRECTS: Final = "peer_redirects"
FAILS: Final = "peer_fails"
CREDENTIALS: Final = "credentials_unusable"
"""Codes of PeerAway, beside those of `dicom.requestor` and `dicom.tls`."""
CODES: Final = MappingProxyType(
    {
        Trouble.REFUSES_US: REJECTS,
        Trouble.BUSY: BUSY,
        Trouble.REDIRECTS: REDIRECTS,
        Trouble.FAILS: FAILS,
    }
)
SHOWN: Final = 120
"""Characters at most of what the archive wrote itself."""


@dataclass(frozen=True, slots=True)
class ByWeb:
    """The archive of these settings."""

    to: Stow
    limits: Limits

    def __str__(self) -> str:
        return self.to.url

    def open(self) -> Connection:
        """Connect, with our credentials in hand. PeerAway."""
        try:
            headers = credentials.header(self.to)
        except SettingsInvalid as e:  # it is of this archive alone: the others get theirs
            raise Waits(e.text, code=CREDENTIALS, remedy=e.remedy) from e
        return Connection(Exchange.open(Place.of(self.to), self.limits), self.to.url, headers)


class Connection:
    """A link: see `archive.Link`."""

    def __init__(self, exchange: Exchange, url: str, headers: dict[str, str]) -> None:
        self._exchange = exchange
        self._url = url
        self._headers = headers
        self.is_over = exchange.is_over
        self.release = exchange.close
        self.abort = exchange.close
        self.cut = exchange.cut

    def store(self, found: Object) -> Reply:
        boundary = uuid.uuid4().hex
        headers = {**self._headers, **stow.headers(boundary)}
        body = stow.framed(found.whole(), boundary)
        said = self._exchange.ask("POST", stow.TARGET, headers, body)
        if (found_trouble := stow.trouble(said.status)) is not None:
            raise trouble(found_trouble, said, self._url)
        try:
            return stow.reply(said.status, said.kind, said.body, found.sop_instance)
        except stow.Garbled as e:
            text = f"{self._url} {e}"
            raise PeerAway(text, code=ODD, remedy="Check `url`, and what answers there.") from e


def trouble(what: Trouble, said: Said, url: str) -> PeerAway:
    """The error that an answer is which is not about the object."""
    text = f"{url} {what.value}: HTTP {said.status}"
    if what is Trouble.REDIRECTS and said.location:
        text += f" to {_shown(said.location)}"
    remedy = stow.REMEDIES[what]
    if what is Trouble.FAILS:
        return PeerAway(text, code=FAILS, remedy=remedy)
    at_least_s = stow.wait_s(said.retry_after, datetime.now(timezone.utc))
    return Waits(text, code=CODES[what], remedy=remedy, at_least_s=at_least_s)


def _shown(text: str) -> str:
    """What the archive wrote, without what follows a ?, which may be a secret."""
    return "".join(c if c.isprintable() else "?" for c in text.partition("?")[0])[:SHOWN]
