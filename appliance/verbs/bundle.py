"""`scanside bundle list|add|activate|rollback` as plain functions; the command line wires them.

Each takes a Shelf and returns entries. What changes the shelf and is not signed for release must be
audited, so a waved-through signature asks for the shelf to have an `audit`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import geteuid
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.apply.door import WITHIN_S
from appliance.apply.proving import PROVE_S
from appliance.apply.requests import Request
from appliance.bundle.shelf import Entry, Shelf
from appliance.bundle.tables import UNSIGNED
from appliance.errors import BundleRefused, ScansideError, StateUnusable
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings
from appliance.store.files import DISK
from appliance.store.journal import Journal
from appliance.update.plan import Named
from appliance.verbs import update

log = logging.getLogger("scanside.bundle")


@contextmanager
def opened(settings: Settings, actor: str) -> Iterator[Shelf]:
    """The shelf, its damaged tables mended, with the chosen backend for golden cases, and the
    journal for the audit of what `actor` does."""
    DISK.make_folder(settings.state)
    with Journal.open(settings.state) as journal:
        shelf = OpenBundles(
            settings, lambda action, detail: journal.audit.add(actor, action, **detail)
        ).shelf
        for line in mended(shelf):
            log.warning("%s", line)
        yield shelf


def mended(shelf: Shelf) -> tuple[str, ...]:
    """Damaged tables of the shelf are made anew; a line for each that was."""
    try:
        names = shelf.mend()
    except StateUnusable as e:
        return (e.one_line(),)  # they are read as made anew all the same
    return tuple(f"a table of the shelf was damaged: it is kept as {name}" for name in names)


def require_by_hand(settings: Settings) -> None:
    """BundleRefused (`bundle_by_hand`) where the settings leave bundles to releases."""
    if not settings.bundles.by_hand:
        raise BundleRefused(
            "here bundles come with releases alone: [bundles] by_hand is false",
            remedy="Take the release that brings it: scanside update now; or write by_hand = true.",
            code="bundle_by_hand",
        )


def is_foreign(settings: Settings) -> bool:
    """Whether this box has slots, and a state folder that is another user's: then `apply` alone
    changes the shelf."""
    state = settings.state
    return settings.update.root is not None and state.is_dir() and state.stat().st_uid != geteuid()


def by_apply(settings: Settings, verb: str, **asked: object) -> Named:
    """What `apply` did (appliance.apply.by_hand). ScansideError as it says, and where nobody
    answers."""
    try:
        request = Request.model_validate({"verb": verb, **asked})
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        raise BundleRefused(
            f"{first['loc'][0]}: {first['msg']}",
            remedy="`scanside bundle list` shows names and versions.",
            code="bundle_not_found",
        ) from e
    answer = update.asked(settings, request, PROVE_S + WITHIN_S)
    if answer.bundle is None:
        raise ScansideError(answer.text, code=answer.code, remedy=answer.remedy)
    return answer.bundle


def listed(shelf: Shelf) -> tuple[Entry, ...]:
    """Every bundle on the shelf."""
    return shelf.list()


def add(
    shelf: Shelf, path: Path, *, allow_unsigned: bool = False, allow_development: bool = False
) -> Entry:
    """Check a bundle and put it on the shelf, not active yet."""
    if (allow_unsigned or allow_development) and not shelf.audited:
        raise BundleRefused(
            "what is not signed for release is only added where that is audited",
            remedy="Add it with `scanside bundle add`.",
            code="bundle_unsigned",
        )
    return shelf.add(path, allow_unsigned=allow_unsigned, allow_development=allow_development)


def activate(shelf: Shelf, name: str, which: str) -> Entry:
    """Make a version or digest the active one of its name."""
    return shelf.activate(name, which)


def rollback(shelf: Shelf, name: str) -> Entry:
    """Go back to the bundle that was active before."""
    return shelf.rollback(name)


def show(entries: Iterable[Entry], console: Console | None = None) -> None:
    """The entries as a table on the terminal."""
    table = Table()
    for name in ("bundle", "version", "digest", "origin", "state", "golden cases", "signed by"):
        table.add_column(name, overflow="fold", no_wrap=name in {"bundle", "version"})
    for entry in entries:
        state = "active" if entry.active else "previous" if entry.previous else ""
        if entry.refused:
            state = f"{state} ({'recalled' if entry.recalled else 'does not count'})".lstrip()
        signer = entry.signed_by or "in the wheel"
        table.add_row(
            *map(Text, (entry.name, entry.version, entry.digest[:12], entry.origin, state)),
            Text(entry.gate, style="red" if entry.gate == "failed" else ""),
            Text(signer[:12], style="yellow" if signer == UNSIGNED else ""),
        )
    (console or Console()).print(table if table.row_count else "No bundle is on the shelf.")
