"""Bundles that a person brings, where the shelf is another user's: what `scanside bundle` asks of
`apply` by its socket.

Rules.
1. The work is done between two turns of the course, by its thread: so nothing of it meets an
   update. Who asked waits at the door for the answer.
2. A file is opened here, by its path, as a regular file of at most MAX_BYTES; a link in any part of
   the path is refused. It is copied at once, and from then on the copy is all that is looked at.
3. A key of this box has to have signed it, as for every bundle by hand; its golden cases run in
   `prove`, before the shelf has it. What is activated or comes back is proved likewise where that
   was not done on this backend yet.
4. What a person asks for is audited with who it was before anything is done; what cannot be audited
   does not happen.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.apply.box import Box
from appliance.apply.requests import Answer, Request
from appliance.bundle import archive, trust
from appliance.bundle.shelf import Entry, Shelf
from appliance.errors import BundleRefused, ScansideError, StateUnusable
from appliance.store import plain
from appliance.update.plan import Named

FOLDER = "by-hand"
_NAME = f"asked{archive.SUFFIX}"
Tell = Callable[[str, str, Mapping[str, str]], object]
"""(actor, action, detail): the audit."""


@dataclass(slots=True)
class _Asked:
    request: Request
    actor: str
    answered: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None


@dataclass
class ByHand:
    """The requests for bundles of one box. `shelf`: that of the stages, on which changes are told
    to the audit that it is given."""

    box: Box
    shelf: Callable[[Callable[[str, Mapping[str, str]], None]], Shelf]
    tell: Tell
    woken: Callable[[], object]
    _queue: queue.SimpleQueue[_Asked] = field(default_factory=queue.SimpleQueue)
    _closed: bool = False

    def ask(self, request: Request, actor: str) -> Answer:
        """For the door: waits until it was done."""
        asked = _Asked(request, actor)
        self._queue.put(asked)
        self.woken()
        if self._closed:
            self.close()
        asked.answered.wait()
        return asked.answer or _ending()

    def turn(self) -> None:
        """For the course: all that was asked since (rule 1)."""
        while True:
            try:
                asked = self._queue.get_nowait()
            except queue.Empty:
                return
            try:
                entry = self._do(asked.request, asked.actor)
                named = Named(name=entry.name, version=entry.version, digest=entry.digest)
                asked.answer = Answer(ok=True, bundle=named)
            except ScansideError as e:
                asked.answer = Answer(ok=False, code=e.code, text=e.text, remedy=e.remedy)
            finally:
                asked.answered.set()

    def close(self) -> None:
        """Whoever still waits is told that this process ends."""
        self._closed = True
        while True:
            try:
                self._queue.get_nowait().answered.set()
            except queue.Empty:
                return

    def _do(self, request: Request, actor: str) -> Entry:
        def told(action: str, detail: Mapping[str, str]) -> None:
            self.tell(actor, action, detail)

        detail = request.model_dump(exclude={"verb"}, exclude_none=True, exclude_defaults=True)
        told(request.verb.replace("_", " "), {name: str(value) for name, value in detail.items()})
        shelf = self.shelf(told)
        if request.verb == "bundle_add":
            return self._add(shelf, request)
        name = request.bundle or ""
        if request.verb == "bundle_activate":
            entry = shelf.find(name, request.which or "")
            self._prove_once(shelf, entry)
            return shelf.activate(name, entry.digest)
        for entry in shelf.list():
            if entry.name == name and entry.previous:
                self._prove_once(shelf, entry)
        return shelf.rollback(name)

    def _add(self, shelf: Shelf, request: Request) -> Entry:
        if not self.box.settings.bundles.by_hand:
            raise BundleRefused(
                "here bundles come with releases alone: [bundles] by_hand is false",
                remedy="Take the release that brings it: scanside update now.",
                code="bundle_by_hand",
            )
        path = self._copied(Path(request.source or ""))
        try:
            shelf.admissible(
                trust.check(path.read_bytes()),
                allow_unsigned=request.allow_unsigned,
                allow_development=request.allow_development,
            )
            self._prove(path)
            return shelf.add(path, request.allow_unsigned, request.allow_development)
        finally:
            self.box.disk.remove(path)

    def _copied(self, source: Path) -> Path:
        """Rule 2. BundleRefused (`bundle_unreadable`, `bundle_archive`), StateUnusable."""
        top, *parts = source.parts or ("",)
        if top != "/" or not parts or ".." in parts:
            raise BundleRefused(
                f"{source} is no whole path of a file",
                remedy="Name the file from / on.",
                code="bundle_unreadable",
            )
        try:
            data = plain.read(Path("/"), *parts, most=archive.MAX_BYTES)
        except OSError as e:
            raise BundleRefused(
                f"{source}: `apply` cannot read it: {e.strerror}",
                remedy="Lay the file itself, and no link, where services may read: below /media, "
                "/srv or /opt. Homes and /tmp are hidden from them.",
                code="bundle_unreadable",
            ) from e
        folder = self.box.places.trusted / FOLDER
        self.box.disk.make_folder(folder)
        self.box.disk.write(folder / _NAME, data)
        for one, mode in ((folder, 0o755), (folder / _NAME, 0o644)):
            one.chmod(mode)  # who proves it is another user
        return folder / _NAME

    def _prove_once(self, shelf: Shelf, entry: Entry) -> None:
        if entry.gate != "passed":
            self._prove(shelf.path(entry))

    def _prove(self, path: Path) -> None:
        """Rule 3."""
        if (why := self.box.prove(self.box.slots.current() or 0, [path])) is not None:
            raise BundleRefused(
                f"it is not proved on this box: {why}",
                remedy="Ask for a bundle that was made for a box like this one.",
                code="bundle_golden",
            )


def _ending() -> Answer:
    e = StateUnusable(
        "another slot takes over at this moment",
        code="update_not_running",
        remedy="Type it again in a minute.",
    )
    return Answer(ok=False, code=e.code, text=e.text, remedy=e.remedy)
