"""Links that open the page once, on this machine alone: of the demo, and of the attached display.

Rules
- The address carries 256 random bits behind its #, which no browser sends to a server: they stand
  in no log of requests. The page /start takes them and, at the press of its button, posts them.
- A link lasts LASTS_S and is spent by the first POST that names it; GET spends nothing, so that who
  looks at an address ahead of a person takes nothing away. Only the SHA-256 is at rest.
- It is taken from the loopback alone, and what it opens shows no names.
- The display's permission is that of the link that was spent last. `revoke` takes it back, and with
  it the session and every link that was not spent.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from appliance.errors import SettingsInvalid
from appliance.report import Record
from appliance.settings import Settings
from appliance.store.files import DISK, Disk
from appliance.web.access import moment
from appliance.web.access.kept import Kept
from appliance.web.access.moment import Moment
from appliance.web.site import Role

LASTS_S = 600.0
MOST = 16
"""Links at a time that are not spent; the newest."""
Kind = Literal["page", "display"]


class Link(Record):
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the secret."""
    kind: Kind
    role: Role
    made: Moment


class Links(Record):
    """The file: what was given and is not spent, and whose the display is."""

    links: tuple[Link, ...] = ()
    display: str | None = None
    """The id of the link that bound it."""


def make(settings: Settings, kind: Kind = "page", disk: Disk = DISK) -> str:
    """The address that opens the page once. SettingsInvalid where it is not on the loopback."""
    at = _loopback(settings)
    secret = secrets.token_urlsafe(32)
    made = moment.now()
    role: Role = "display" if kind == "display" else "radiologist"
    link = Link(id=_name_of(secret), kind=kind, role=role, made=made)

    def change(links: Links) -> Links:
        fresh = [one for one in links.links if one.made.age_s(made) <= LASTS_S]
        return links.model_copy(update={"links": (*fresh, link)[-MOST:]})

    _kept(settings.state, disk).change(change)
    scheme = "http" if settings.web.tls is None else "https"
    return f"{scheme}://{at}:{settings.web.port}/start#{secret}"


def spend(state: Path, secret: str, disk: Disk = DISK) -> Link | None:
    """The link with this secret, which from now on opens nothing; None where there is none."""
    now, name = moment.now(), _name_of(secret)
    found: list[Link] = []

    def change(links: Links) -> Links:
        found.extend(
            one for one in links.links if one.id == name and 0 <= one.made.age_s(now) <= LASTS_S
        )
        rest = tuple(one for one in links.links if one.id != name)
        bound = next((one.id for one in found if one.kind == "display"), links.display)
        return Links(links=rest, display=bound)

    _kept(state, disk).change(change)
    return found[0] if found else None


def display(state: Path) -> str | None:
    """The mark of the display's permission; None where it has none."""
    return _kept(state, DISK).now().display


def revoke(state: Path, disk: Disk = DISK) -> bool:
    """Take the display's permission back; whether there was one."""
    was: list[bool] = []

    def change(links: Links) -> Links:
        was.append(links.display is not None)
        return Links(links=tuple(one for one in links.links if one.kind != "display"))

    _kept(state, disk).change(change)
    return was[0]


def _kept(state: Path, disk: Disk) -> Kept[Links]:
    return Kept(state, "links.json", Links, disk)


def _name_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _loopback(settings: Settings) -> str:
    """The address under which this machine reaches its own page."""
    host = ipaddress.ip_address(settings.web.host)
    if host.is_loopback:
        return f"[{host}]" if host.version == 6 else str(host)
    if host.is_unspecified:
        return "127.0.0.1" if host.version == 4 else "[::1]"
    raise SettingsInvalid(
        f"a link opens the page on the loopback alone, and [web] host is {host}",
        remedy='Write host = "0.0.0.0", which includes it, or log in with an account.',
    )
