"""The parent of the process that decodes: one child, one question at a time, few who wait.

Rules
- The child is started when somebody looks at a series, and ends itself when nobody does. It says
  when it is ready, so that a busy machine, where that takes long, condemns no image.
- One that died, or took longer than LIMIT_S for an answer, is replaced at the next question.
- At most WAITING questions wait; one more is refused at once (Busy), so that no number of browsers
  fills the threads that pages have (`app.PAGES`).
- An instance that ended the child TRIES times is not given to it again: the first time it may have
  been the memory of the machine.
- Before an image is decoded, what has to go first may (giving_way).
- The child gets bytes and no path, and no environment but what Python needs.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

from pydantic import ValidationError

from appliance.errors import Refuse, Retry
from appliance.web.pixels.asked import (
    MOST_BYTES,
    MOST_PIXELS,
    Answered,
    Asked,
    Described,
    When,
    packed,
    send,
    unpacked,
)

log = logging.getLogger("scanside.web")

MODULE = "appliance.web.pixels.child"
LIMIT_S = 20.0
"""Of one answer."""
START_S = 60.0
PIPE_BYTES = 1 << 20
"""Room of each pipe, so that an image crosses in one go: with 64 kB one waits for the other eight
times a slice, which is a third of the time of an answer. The most that pipe(7) gives everybody."""
TRIES = 2
WAITING = 5
MOST_BAD = 1000
HEAD_BYTES = 1 << 14
"""Of an instance, enough for the header of nearly every one."""
_KEPT = ("PYTHONPATH", "PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")


class NotShown(Refuse):
    """An image that cannot be shown; the text says why."""

    code = "not_shown"
    remedy = "Look at it on the scanner or in the archive."


class Busy(Retry):
    """Too many images are asked for at once."""

    code = "viewer_busy"
    remedy = "Wait a moment; close the viewers that nobody looks at."


class _Ended(Exception):
    """The child is not there any more. idle: it had answered nothing and ended by itself."""

    def __init__(self, *, idle: bool) -> None:
        super().__init__()
        self.idle = idle


class Decoder:
    """Decodes what is shown. Safe for any number of threads."""

    def __init__(
        self,
        *,
        limit_s: float = LIMIT_S,
        waiting: int = WAITING,
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self.limit_s = limit_s
        self._give_way = give_way
        self._turn = threading.Lock()
        self._room = threading.BoundedSemaphore(waiting)
        self._child: subprocess.Popen[bytes] | None = None
        self._held: Hashable = None
        """The instance whose frames the child keeps."""
        self._ready = False
        """Whether the child has said so."""
        self._bad: dict[Hashable, int] = {}
        """What ended the child, and how often."""

    @property
    def pid(self) -> int | None:
        """Of the child; None where none is running."""
        child = self._child
        return None if child is None or child.poll() is not None else child.pid

    def describe(self, name: Hashable, files: Sequence[bytes]) -> tuple[Described, ...]:
        """What instances, or their beginnings, say of their frames, in the same order. name: for
        all of them. NotShown where one of them ended the child; Busy."""
        asked = Asked(what="describe", sizes=tuple(map(len, files)))
        answered, _ = self._asked(asked, name, lambda: b"".join(files))
        if len(answered.described) != len(files):
            raise NotShown("the images were not described")
        return answered.described

    def image(
        self, name: Hashable, frame: int, data: Callable[[], bytes]
    ) -> tuple[Answered, bytes]:
        """One frame of an instance; see `Answered.bits`. data: the instance's file, read where it
        is needed. NotShown, Busy, and what `data` raises."""
        answered, pixels = self._asked(Asked(what="image", frame=frame), name, data)
        if answered.error is not None:
            raise NotShown(answered.error)
        if len(pixels) != answered.rows * answered.columns * answered.bits // 8:
            raise NotShown("the image was not decoded whole")
        return answered, pixels

    def planes(
        self, name: Hashable, pair: int, when: When, data: Callable[[], bytes]
    ) -> tuple[Answered, bytes]:
        """The three planes of a pair in one exam, 8 bits; see `image`."""
        asked = Asked(what="planes", frame=pair, when=when)
        answered, pixels = self._asked(asked, name, data)
        if answered.error is not None:
            raise NotShown(answered.error)
        return answered, pixels

    def warm(self) -> None:
        """Start the child where none is running; it is not waited for."""
        if self._turn.acquire(blocking=False):
            try:
                if self.pid is None:
                    self._start()
            except Busy as e:
                log.warning("%s", e.one_line())
            finally:
                self._turn.release()

    def close(self) -> None:
        """End the child."""
        with self._turn:
            self._end()

    def _asked(
        self, asked: Asked, name: Hashable, data: Callable[[], bytes]
    ) -> tuple[Answered, bytes]:
        if not self._room.acquire(blocking=False):
            raise Busy("too many images are asked for at once")
        try:
            with self._turn:
                if self._bad.get(name, 0) >= TRIES:
                    raise NotShown("decoding this image ended the program that decodes it")
                if asked.what == "image":
                    self._give_way()
                return self._answered(asked, name, data)
        finally:
            self._room.release()

    def _answered(
        self, asked: Asked, name: Hashable, data: Callable[[], bytes]
    ) -> tuple[Answered, bytes]:
        """A child that had ended by itself before it was asked is replaced, and asked."""
        for _ in range(2):
            started = self.pid is None
            if started:
                self._start()
            self._wait_until_ready()
            known = asked.what == "image" and self._held == name
            try:
                sent = asked.model_copy(update={"held": known})
                answered, found = self._exchange(sent, b"" if known else data())
            except _Ended as e:
                self._end()
                if e.idle and not started:
                    continue
                self._blame(name)
                raise Busy("the program that decodes ended, and is replaced") from e
            if asked.what == "image":
                self._held = name if answered.held else None
            return answered, found
        raise Busy("the program that decodes does not start")

    def _blame(self, name: Hashable) -> None:
        log.warning("decoding an image ended the program that decodes")
        self._bad[name] = self._bad.pop(name, 0) + 1
        while len(self._bad) > MOST_BAD:
            del self._bad[next(iter(self._bad))]

    def _wait_until_ready(self) -> None:
        """Its first message; Busy where it does not come."""
        if self._ready:
            return
        child = self._child
        try:
            if child is None or child.stdout is None:
                raise EOFError
            unpacked(_Pipe(child.stdout.fileno(), START_S).read, 0)
        except (OSError, EOFError, ValueError) as e:
            self._end()
            raise Busy("the program that decodes does not start") from e
        self._ready = True

    def _exchange(self, asked: Asked, data: bytes) -> tuple[Answered, bytes]:
        if len(data) > MOST_BYTES:
            raise NotShown(f"the image has {len(data) >> 20} MB, too many to be shown")
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise _Ended(idle=True)
        pipe = _Pipe(child.stdout.fileno(), self.limit_s)
        watch = threading.Timer(self.limit_s, child.kill)  # one that does not read blocks a write
        watch.start()
        try:
            send(child.stdin.fileno(), packed(asked, data))
            send(child.stdin.fileno(), data)
            text, found = unpacked(pipe.read, 2 * MOST_PIXELS)
            return Answered.model_validate_json(text), found
        except (OSError, EOFError, ValueError, ValidationError) as e:
            raise _Ended(idle=not pipe.got and child.poll() == 0) from e
        finally:
            watch.cancel()

    def _start(self) -> None:
        self._end()
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                bufsize=0,
            )
        except OSError as e:
            raise Busy(f"the program that decodes does not start: {e.strerror}") from e
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(OSError):  # a user with many pipes gets small ones: slower
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def _end(self) -> None:
        child, self._child, self._held, self._ready = self._child, None, None, False
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    log.debug("a pipe of an ended child held a rest")


class _Pipe:
    """The answers of the child, read until a moment. TimeoutError after it, EOFError at its end."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        self._descriptor = descriptor
        self._until = time.monotonic() + seconds
        self._poll = select.poll()  # select(2) ends at the descriptor 1023
        self._poll.register(descriptor, select.POLLIN)
        self.got = False
        """Whether anything came."""

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        parts, left = [], size
        while left:
            if not self._poll.poll(1000 * max(0.0, self._until - time.monotonic())):
                raise TimeoutError
            part = os.read(self._descriptor, min(left, 1 << 20))
            if not part:
                raise EOFError
            self.got = True
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
