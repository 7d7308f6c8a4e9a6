"""Addresses in the settings: what is refused in them, and why, in words for a person. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit


def parts_of_url(value: str, *schemes: str) -> SplitResult:
    """The parts of a URL with a host, and without a name, query or fragment in it."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a URL has no blanks and only the signs of ASCII")
    parts = urlsplit(value)  # ValueError where the host is none
    if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
        raise ValueError(f"a URL that begins with {' or '.join(schemes)}, and a host: {value!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no name and no password stand in a URL; they stand in a file")
    if parts.query or parts.fragment:
        raise ValueError("nothing may stand in a URL from ? or # on")
    return parts


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
