"""Where the files of a repository come from: a web server, or a folder such as a stick.

Rules.
1. A source gives bytes and decides nothing: whoever asks counts them and verifies them.
2. A path is of plain parts below the repository; a file on a stick is a regular one, never a link
   or a pipe, and no folder on the way to it is a link.
3. Nobody waits for ever. A server that says nothing for SILENT_S, or that after GRACE_S gave less
   than LEAST bytes a second, is left (`repository_slow`).
4. What is taken per second has a bound of our own (`Pace.most`), so that images come first.
5. A redirect is not followed and the environment's proxy not used: only the hosts of the settings
   are ever spoken to. What is sent is the path, and Scanside's name; nothing of the box or of a
   patient.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import urllib3

from appliance.errors import PeerAway, ReleaseRefused

SILENT_S: Final = 30.0
GRACE_S: Final = 30.0
LEAST: Final = 1_000
"""Bytes a second."""
CHUNK: Final = 65_536
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.%+-]*(/[A-Za-z0-9][A-Za-z0-9_.%+-]*)*")


class Missing(ReleaseRefused):
    """The repository has no such file."""

    code = "release_missing"
    remedy = "Copy the repository again from where it is made, or wait until it is published whole."


class Source(Protocol):
    """Gives the bytes of a file of the repository."""

    @property
    def over_network(self) -> bool:
        """Whether it is a server, and no folder."""
        ...

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of a file from `start` on, in pieces. Missing, or PeerAway
        (`repository_away`, `repository_slow`, `stick_gone`)."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it may be, and how slow: `most` bytes a second, None for as fast as it goes."""

    most: float | None = None
    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def through(self, pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
        """The same pieces (rules 3 and 4)."""
        begun, paused, taken = self.now(), 0.0, 0
        for piece in pieces:
            taken += len(piece)
            waited = self.now() - begun - paused
            if waited > GRACE_S and taken < LEAST * waited:
                raise _slow(f"{what}: {taken} bytes in {waited:.0f} s")
            yield piece
            if self.most is not None:
                ahead = taken / self.most - (self.now() - begun)
                if ahead > 0:
                    self.pause(ahead)
                    paused += ahead


class Web:
    """A repository behind http or https. `ca`: PEM file of its authority; `proxy`:
    http://HOST:PORT."""

    over_network = True

    def __init__(
        self,
        url: str,
        *,
        ca: Path | None = None,
        proxy: str | None = None,
        pace: Pace | None = None,
        silent_s: float = SILENT_S,
    ) -> None:
        self._url, self._pace = url.rstrip("/"), pace or Pace()
        timeout = urllib3.Timeout(connect=silent_s, read=silent_s)
        authority = str(ca) if ca is not None else None
        self._pool: urllib3.PoolManager
        if proxy is None:
            self._pool = urllib3.PoolManager(timeout=timeout, retries=False, ca_certs=authority)
        else:
            self._pool = urllib3.ProxyManager(
                proxy, timeout=timeout, retries=False, ca_certs=authority
            )

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """As Source says. A server that does not know ranges is read from the beginning."""
        return self._pace.through(self._read(_checked(path), start), path)

    def _read(self, path: str, start: int) -> Iterator[bytes]:
        # as it lies there: a server that packs what it sends would change lengths
        headers = {"User-Agent": "scanside", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            answer = self._pool.request(
                "GET",
                f"{self._url}/{path}",
                headers=headers,
                preload_content=False,
                decode_content=False,
                redirect=False,
            )
            try:
                skip = self._skip(answer, path, start)
                while piece := answer.read1(CHUNK):
                    if len(piece) > skip:
                        yield piece[skip:]
                    skip = max(0, skip - len(piece))
            finally:
                answer.close()  # and not back into the pool: it may be in the middle of a file
        except urllib3.exceptions.NewConnectionError as e:  # which calls itself a timeout too
            raise _away(f"{self._url}: nobody answers") from e
        except urllib3.exceptions.TimeoutError as e:
            raise _slow(f"{path}: nothing came any more") from e
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            raise _away(f"{self._url}: {type(e).__name__}") from e

    def _skip(self, answer: urllib3.BaseHTTPResponse, path: str, start: int) -> int:
        """How many bytes come that are there already (RFC 9110 14.2 and 15.3.7)."""
        if answer.status in {403, 404, 410}:
            raise Missing(f"{path} is not there (HTTP {answer.status})")
        if answer.status == 200:
            return start
        if answer.status == 206 and start:
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise _away(f"{path}: another range came than was asked for")
            return 0
        raise _away(f"{path}: HTTP {answer.status}")


class Folder:
    """A repository in a folder."""

    over_network = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """As Source says."""
        try:
            handle = self._opened(_checked(path).split("/"))
        except FileNotFoundError as e:
            if not (self._root / "metadata").is_dir():
                raise _gone(self._root) from e
            raise Missing(f"{path} is not there") from e
        except NotADirectoryError as e:
            raise Missing(f"{path} lies behind a link, or behind a file") from e
        except OSError as e:
            if e.errno == errno.ELOOP:
                raise Missing(f"{path} is a link, and no file") from e
            raise _gone(self._root) from e
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise Missing(f"{path} is no regular file")
        with open(handle, "rb") as file:
            try:
                file.seek(start)
                while piece := file.read(CHUNK):
                    yield piece
            except OSError as e:
                raise _gone(self._root) from e

    def _opened(self, parts: list[str]) -> int:
        """The file, each folder opened below the one before, so that none is exchanged for a link
        while this walks."""
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(part, flags, dir_fd=folder)
                os.close(folder)
                folder = below
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(parts[-1], flags, dir_fd=folder)
        finally:
            os.close(folder)


class Laid(Folder):
    """What the stage `update` laid down: it came over the network, and blobs lie in one folder."""

    over_network = True

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """As Source says."""
        top, *_, name = path.split("/")
        return super().read(f"{top}/{name}" if top == "blobs" else path, start)


def _checked(path: str) -> str:
    """Rule 2. Missing."""
    if _PATH.fullmatch(path) is None:
        raise Missing(f"{path[:80]!a} is no path of a repository")
    return path


def _away(text: str) -> PeerAway:
    return PeerAway(
        text,
        code="repository_away",
        remedy="Check [update] url, ca and proxy, and that the server runs. It is asked again.",
    )


def _slow(text: str) -> PeerAway:
    return PeerAway(
        text,
        code="repository_slow",
        remedy="Check the network to the server of [update] url. It is asked again, and goes on "
        "where it was.",
    )


def _gone(root: Path) -> PeerAway:
    return PeerAway(
        f"{root} holds no repository, or cannot be read any more",
        code="stick_gone",
        remedy="Put the stick in again, and name the folder that holds `metadata`.",
    )
