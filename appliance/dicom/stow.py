"""STOW-RS (PS3.18 10.5): what is asked, and what an answer means for the object sent. Pure.

Rules
- One object a request, so that whatever is answered is about that one.
- 2xx with a list of instances (PS3.18 annex I, as DICOM JSON, annex F): what it says of ours
  counts, its reasons with the meaning of `statuses`: they are the codes of C-STORE (table I.2-2).
  A list in which ours is not does not mean that it was taken: some services answer so where they
  found no object in what they got.
- 2xx without a list, or with one as XML, which we did not ask for: the HTTP status counts.
- 2xx with anything else, such as the page of a portal, is no answer to STOW-RS, and does not mean
  that the object was taken.
- 409: the failure reason of our instance counts, where one is given.
- What says that the service as such takes nothing now (a redirect, 401, 403, 407, 408, 429, 503)
  waits, however long that lasts. So does every other 5xx; but a server may fail with one object
  only, so it is told apart.
- Every other status is about the request, and is dead with status and remedy.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from appliance.dicom import statuses
from appliance.dicom.statuses import Answer, Reply

SERVICE: Final = "STOW-RS"
TARGET: Final = "/studies"
ACCEPT: Final = "application/dicom+json"
JSON: Final = ("application/dicom+json", "application/json")
RETRY_AFTER_MOST_S: Final = 900.0
"""No service lets us wait longer than that between two questions."""
FAILED_SOPS: Final = "00081198"
REFERENCED_SOPS: Final = "00081199"
OTHER_FAILURES: Final = "0008119A"
WARNING_REASON: Final = "00081196"
FAILURE_REASON: Final = "00081197"
INSTANCE: Final = "00081155"
"""Tags of the Store Instances Response Module (PS3.18 annex I)."""


class Garbled(ValueError):
    """The answer is no answer to STOW-RS."""


class Trouble(Enum):
    """Why a service takes nothing now."""

    REFUSES_US = "refuses us"
    BUSY = "is busy"
    REDIRECTS = "redirects"
    FAILS = "fails"
    """It may fail with this object alone."""


TROUBLES: Final = MappingProxyType(
    {
        401: Trouble.REFUSES_US,
        403: Trouble.REFUSES_US,
        407: Trouble.REFUSES_US,
        408: Trouble.BUSY,
        429: Trouble.BUSY,
        503: Trouble.BUSY,
    }
)
"""Of what is not a redirect and not another 5xx."""

REMEDIES: Final = MappingProxyType(
    {
        Trouble.REFUSES_US: "Correct `token_file`, or `username` and `password_file`, or let the "
        "archive store what comes from us.",
        Trouble.BUSY: "It is asked again by itself; look at what the archive is busy with.",
        Trouble.REDIRECTS: "No redirect is followed: write the right address into `url`.",
        Trouble.FAILS: "Read the log of the archive; it is asked again by itself.",
    }
)
DEAD: Final = MappingProxyType(
    {
        404: "Correct `url`: nothing takes objects there.",
        405: "Correct `url`: nothing takes objects there.",
        406: "Let the archive answer as application/dicom+json.",
        413: "Let the archive, or the proxy before it, take larger requests.",
        415: "Let the archive take multipart/related with application/dicom.",
    }
)
"""What a person can do about a request that will never be taken as it is."""
_ANY_OTHER: Final = "Read the log of the archive, which says what it misses."


def headers(boundary: str) -> dict[str, str]:
    """Of the request (PS3.18 8.6.1.2)."""
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return {"Accept": ACCEPT, "Content-Type": kind}


def framed(whole: bytes, boundary: str) -> tuple[bytes, bytes, bytes]:
    """The body with one object (a Part 10 file), in pieces. boundary: nothing that is in it."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n"
    return head.encode("ascii"), whole, f"\r\n--{boundary}--\r\n".encode("ascii")


def empty(boundary: str) -> tuple[bytes]:
    """The body with no object, by which nothing is stored."""
    return (f"--{boundary}--\r\n".encode("ascii"),)


def trouble(http: int) -> Trouble | None:
    """Whether this status says that the service takes nothing now; None: it is about the object."""
    if 300 <= http < 400:
        return Trouble.REDIRECTS
    return TROUBLES.get(http, Trouble.FAILS if http >= 500 else None)


def reply(http: int, kind: str, body: bytes, instance: str) -> Reply:
    """What an answer that is no `trouble` says of the object sent. Garbled.

    kind: its media type in small letters, without parameters. instance: SOP Instance UID.
    """
    if 200 <= http < 300:
        if kind in JSON and body.strip():
            return _listed(http, _parsed(body), instance)
        if not body or kind.endswith("xml") or kind == "multipart/related":
            return Reply(Answer.SENT, mark=f"taken with HTTP {http}, and no list of instances")
        raise Garbled(f"answers {http} with {kind or 'something'}, which is no answer to STOW-RS")
    if http == 409 and kind in JSON:
        with contextlib.suppress(Garbled):
            reason = next(_failures(_parsed(body), instance), None)
            if reason is not None:
                return statuses.reply(reason, SERVICE)
    if 400 <= http < 500:
        remedy = DEAD.get(http, _ANY_OTHER)
        said = f"{SERVICE}: HTTP {http}. {remedy} Then `scanside outbox retry`."
        return Reply(Answer.UNFIT, said=said)
    raise Garbled(f"answers {http}, which is no answer to STOW-RS")


def wait_s(retry_after: str | None, now: datetime) -> float:
    """Seconds that Retry-After (RFC 9110 10.2.3) asks for, 0 to RETRY_AFTER_MOST_S; now: UTC."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), RETRY_AFTER_MOST_S)
    try:
        at = parsedate_to_datetime(text)
        seconds = (at - now).total_seconds()
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0  # no date, or one without a zone
    return min(max(seconds, 0.0), RETRY_AFTER_MOST_S)


def _listed(http: int, found: dict[str, Any], instance: str) -> Reply:
    """What the list of a 2xx says of our instance."""
    for reason in _failures(found, instance):
        if reason is not None:
            return statuses.reply(reason, SERVICE)
        said = f"{SERVICE}: failed without a reason. {statuses.REMEDIES[Answer.UNCLEAR]}"
        return Reply(Answer.UNCLEAR, said=said)
    for item in _items(found, REFERENCED_SOPS):
        if _value(item, INSTANCE) == instance:
            warning = _number(item, WARNING_REASON)
            mark = f"taken with {SERVICE} 0x{warning:04X}" if warning else None
            return Reply(Answer.SENT, mark=mark)
    said = f"{SERVICE}: HTTP {http} with a list that does not name the object."
    return Reply(Answer.UNCLEAR, said=f"{said} {statuses.REMEDIES[Answer.UNCLEAR]}")


def _failures(found: dict[str, Any], instance: str) -> Iterator[int | None]:
    """The reason of each failure that is about our instance, or about none in particular."""
    for item in _items(found, FAILED_SOPS):
        if _value(item, INSTANCE) in (instance, None):
            yield _number(item, FAILURE_REASON) or None
    for item in _items(found, OTHER_FAILURES):
        yield _number(item, FAILURE_REASON) or None


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise Garbled("answers with what is no JSON") from e
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict):
        raise Garbled("answers with JSON that is no data set")
    return found


def _items(found: dict[str, Any], tag: str) -> Iterator[dict[str, Any]]:
    """The items of a sequence (PS3.18 F.2.2); one of a wrong shape has none."""
    element = found.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    for item in values if isinstance(values, list) else ():
        if isinstance(item, dict):
            yield item


def _value(item: dict[str, Any], tag: str) -> object:
    """The first value of an element, or None."""
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _number(item: dict[str, Any], tag: str) -> int | None:
    """A reason: 0 to FFFF. Some servers write it as a text of digits."""
    value = _value(item, tag)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        value = int(value)
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF
    return value if fits and isinstance(value, int) else None
