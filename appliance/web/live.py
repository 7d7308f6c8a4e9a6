"""GET /events: tells an open page that it shows what is not so any more (server-sent events, HTML
Living Standard 9.2). Woken by the journal, never polling.

Rules
- One thread watches, for all streams of this process, the journal's log (`-wal`: every commit of
  every stage ends there), the beats of the stages, and the folders of the series that arrive, by
  inotify(7). It lives while a stream does.
- What a page shows has a mark (`mark`). After a wake the marks of the pages that are open are made
  anew, each once however many streams ask for it, and at most once in GAP_S. A stream is told when
  its mark is another: it says no more than that, and the page asks for itself again.
- The id of an event is the mark. So who comes back with Last-Event-ID, or with the mark of the page
  that it has, is told at once whether it missed anything, also after a start of this stage.
- Every BEAT_S a stream says that it is alive and looks whether its login still is: a page that has
  heard nothing for longer says that it is old (live.js).
- At most MOST streams are open. Each holds one mark and no thread; nothing of it is written down.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
from inotify_simple import INotify, flags
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.store import conditions, library
from appliance.store.journal import Journal
from appliance.store.journal.connect import JOURNAL_NAME
from appliance.web import arriving
from appliance.web.site import EVERYBODY, PATIENCE_MS, Route, site, still_in
from appliance.web.views.address import study_of

log = logging.getLogger(__name__)

LIST, HEALTH = "list", "health"
MOST: Final = 250
"""Streams: fewer than the connections that the stage takes, so that pages are served beside."""
GAP_S: Final = 1.0
BEAT_S: Final = 15.0
RETRY_MS: Final = 3000
"""A browser that lost the stream comes back after so long."""
_IDLE_MS: Final = 60_000


def study(pseudonym: str) -> str:
    """What the stream of a study's page is about."""
    return f"study {pseudonym}"


def mark(journal: Journal, topic: str, settings: Settings) -> str:
    """16 hexadecimal digits; others whenever the page of this topic would show something else."""
    if topic == LIST:
        keys = list(arriving.folders(journal, settings.state))
        said = f"{journal.shown.mark()} {arriving.counts(settings.state, keys)}"
    elif topic == HEALTH:
        stages = conditions.look(settings)
        troubles = [(one.state, [t.code for t in one.troubles]) for one in stages.values()]
        said = f"{journal.shown.mark_of_device()} {troubles} {library.told(settings.state)}"
    else:
        study_uid = study_of(journal, topic.removeprefix("study "))
        said = "gone" if study_uid is None else _mark_of(journal, study_uid, settings)
    return hashlib.sha256(f"{topic} {said}".encode()).hexdigest()[:16]


def _mark_of(journal: Journal, study_uid: str, settings: Settings) -> str:
    keys = [key for key in arriving.folders(journal, settings.state) if key.study == study_uid]
    said = f"{journal.shown.mark_of(study_uid)} {journal.comparisons.mark_of(study_uid)}"
    return f"{said} {arriving.counts(settings.state, keys)}"


class Stream:
    """One open page. `told` is set in the loop that serves it."""

    def __init__(self, topic: str, loop: asyncio.AbstractEventLoop, seen: str) -> None:
        self.topic = topic
        self.seen = seen
        self.told = asyncio.Event()
        self._loop = loop

    def tell(self, now: str) -> None:
        """From the thread that watches: this is its mark now."""
        if now != self.seen:
            self.seen = now
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.told.set)


class Watch:
    """The streams of one process, and the thread that wakes them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = threading.Lock()
        self._streams: set[Stream] = set()
        self._thread: threading.Thread | None = None
        self._folders: set[Path] = set()
        """Of series that arrive, as last seen."""
        self.wakes = 0
        """How often marks were made anew."""
        self.ended = False

    @property
    def open(self) -> int:
        with self._turn:
            return len(self._streams)

    def join(self, stream: Stream) -> None:
        with self._turn:
            self._streams.add(stream)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live", daemon=True)
                self._thread.start()

    def leave(self, stream: Stream) -> None:
        with self._turn:
            self._streams.discard(stream)

    def end(self) -> None:
        """Every stream that is open ends now."""
        with self._turn:
            self.ended = True
            for stream in self._streams:
                stream.told.set()

    def marks(self, topics: set[str]) -> dict[str, str]:
        """Those that can be read; none while the journal cannot."""
        try:
            journal = Journal.read(self._settings.state, PATIENCE_MS)
            if journal is None:
                return {}
            with journal:
                self._folders = set(arriving.folders(journal, self._settings.state).values())
                return {topic: mark(journal, topic, self._settings) for topic in topics}
        except StateUnusable as e:
            log.warning("open pages are not told what is new: %s", e.one_line())
            return {}

    def _run(self) -> None:
        try:
            self._watch()
        except OSError as e:  # no more inotify instances or watches: pages say that they are old
            log.error("open pages are not told what is new: inotify: %s", e)
            with self._turn:
                self._thread = None

    def _watch(self) -> None:
        state = self._settings.state
        with INotify() as notify:
            notify.add_watch(state, flags.MODIFY | flags.CREATE | flags.MOVED_TO)
            with suppress(FileNotFoundError):
                notify.add_watch(state / "run", flags.MOVED_TO)
            watched: dict[Path, int] = {}
            self._wake()  # what came between the first mark and the watch
            while True:
                self._follow(notify, watched)
                found = notify.read(timeout=_IDLE_MS)
                with self._turn:
                    if not self._streams:
                        self._thread = None
                        return
                if any(_matters(event.name) for event in found):
                    self._wake()
                    time.sleep(GAP_S)

    def _follow(self, notify: INotify, watched: dict[Path, int]) -> None:
        """Watch the folders of the series that arrive now, and those alone."""
        folders = self._folders
        for path in watched.keys() - folders:
            with suppress(OSError):  # it was deleted, and its watch with it
                notify.rm_watch(watched[path])
            del watched[path]
        for path in folders - watched.keys():
            with suppress(OSError):  # nothing came yet, or there are no more watches
                watched[path] = notify.add_watch(path, flags.CREATE | flags.MOVED_TO)

    def _wake(self) -> None:
        with self._turn:
            streams = list(self._streams)
        self.wakes += 1
        marks = self.marks({stream.topic for stream in streams})
        for stream in streams:
            if stream.topic in marks:
                stream.tell(marks[stream.topic])


def _matters(name: str) -> bool:
    """Whether a file of this name says that something happened."""
    of_ours = name.startswith(JOURNAL_NAME) or name == library.WATCH
    return of_ours or Path(name).suffix in (".beat", ".dcm")


def events(request: Request) -> Response:
    """The stream of one page. `of`: list, health or study, which has `study`; `seen`: the mark of
    what the page shows."""
    query = request.query_params
    topic = query.get("of", "")
    if topic == "study":
        topic = study(query.get("study", ""))
    elif topic not in (LIST, HEALTH):
        raise HTTPException(404)
    watch = of(request)
    if watch.open >= MOST:
        raise HTTPException(503, headers={"retry-after": "60"})
    if topic not in (LIST, HEALTH):
        with site(request).reading() as journal:
            if journal is None or study_of(journal, query.get("study", "")) is None:
                raise HTTPException(404)
    now = watch.marks({topic}).get(topic, "")
    seen = request.headers.get("last-event-id") or query.get("seen", "")
    return StreamingResponse(
        _stream(request, watch, topic, now, is_news=seen not in ("", now)),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _stream(
    request: Request, watch: Watch, topic: str, now: str, *, is_news: bool
) -> AsyncIterator[str]:
    stream = Stream(topic, asyncio.get_running_loop(), now)
    watch.join(stream)
    try:
        yield f"retry: {RETRY_MS}\n"
        yield _event("news" if is_news else "alive", stream.seen)
        while not watch.ended:
            try:
                await asyncio.wait_for(stream.told.wait(), BEAT_S)
            except asyncio.TimeoutError:
                if not await anyio.to_thread.run_sync(_still_in, request):
                    yield _event("out", stream.seen)
                    return
                yield _event("alive", stream.seen)
            else:
                if watch.ended:
                    return
                stream.told.clear()
                yield _event("news", stream.seen)
    finally:
        watch.leave(stream)


def _still_in(request: Request) -> bool:
    """Whether the stream may go on; not where that cannot be read."""
    try:
        return still_in(request)
    except StateUnusable as e:
        log.warning("a stream ends: %s", e.one_line())
        return False


def _event(kind: str, seen: str) -> str:
    return f"event: {kind}\nid: {seen}\ndata:\n\n"


def of(request: Request) -> Watch:
    """The one of this process."""
    state = request.app.state
    if not hasattr(state, "watch"):
        state.watch = Watch(site(request).settings)
    found: Watch = state.watch
    return found


def end(state: State) -> None:
    """The stage ends, and with it the streams of its application; in the loop that serves them."""
    if hasattr(state, "watch"):
        state.watch.end()


ROUTES = (Route("GET", "/events", events, EVERYBODY, unasked=True),)
