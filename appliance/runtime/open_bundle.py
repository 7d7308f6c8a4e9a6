"""A bundle that is open in this process, and what analyses with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from appliance import line
from appliance.backend.gpu import GpuBackend
from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Manifest
from appliance.bundle.shelf import Entry, Shelf
from appliance.bundle.trust import Bundle
from appliance.errors import BackendUnavailable, Poisoned, ScansideError
from appliance.host import memory
from appliance.lines.fold import Fold
from appliance.lines.kind import NO_CONTEXT, Context
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Reason

log = logging.getLogger("scanside.work")

_TAKES_IMAGES: dict[str, bool] = {}
"""By digest, which is of what the manifest says."""


@dataclass(frozen=True)
class OpenBundle:
    """A bundle with its networks loaded in a backend."""

    bundle: Bundle
    backend: Backend
    spare: Callable[[], Backend] | None = None
    """The CPU backend that takes over where the GPU fails; None where `backend` is one."""
    gpu_failed: Callable[[ScansideError], None] = lambda _: None
    """Called where the GPU itself failed."""
    fallback: Reason | None = None
    """Why it serves although another one is active."""

    @property
    def digest(self) -> str:
        """Of the bundle."""
        return self.bundle.ref.digest

    @property
    def manifest(self) -> Manifest:
        """Of the bundle."""
        return self.bundle.manifest

    def finish(self, fold: Fold, context: Context = NO_CONTEXT) -> Result:
        """line.finish for this bundle; by the spare where the GPU fails."""
        result = self._finish(fold, context)
        if self.fallback is None:
            return result
        return replace(result, limitations=(self.fallback, *result.limitations))

    def _finish(self, fold: Fold, context: Context) -> Result:
        try:
            return line.finish(fold, self.bundle, self.backend, context)
        except Poisoned as e:
            if self.spare is None or e.code != "backend_failed":
                raise
            log.error("%s; the CPU takes over", e.one_line())
            if isinstance(self.backend, GpuBackend) and self.backend.broken is not None:
                self.gpu_failed(e)
        return line.finish(fold, self.bundle, self.spare(), context)


def instead(opened: OpenBundle, entry: Entry) -> OpenBundle:
    """A bundle that serves in place of `entry`, and says so in each report."""
    ref = opened.bundle.ref
    text = f"{entry.name} {entry.version} is refused: {ref.name} {ref.version} serves in its place"
    return replace(opened, fallback=Reason(code=Code.BUNDLE_FALLBACK, text=text, where="series"))


def said(entry: Entry, error: Exception, stand_in: OpenBundle | None) -> str:
    """What is wrong with a bundle that should serve, and who does: a sentence without its stop."""
    serves = f"{stand_in.bundle.ref.version} serves in its place" if stand_in else "none serves"
    if is_short(error) and stand_in is not None:
        serves += " until nothing is analysed, and then makes room"
    text = error.text if isinstance(error, ScansideError) else str(error)
    return f"{entry.name} {entry.version}: {text}; {serves}"


def takes_images(shelf: Shelf, entry: Entry) -> bool:
    """Whether a bundle is for series: one that is for none is opened for who asks for it alone. One
    that cannot be read is taken for such: who opens it says what is wrong with it."""
    if entry.digest not in _TAKES_IMAGES:
        try:
            _TAKES_IMAGES[entry.digest] = shelf.load(entry).manifest.line.takes_images
        except (ScansideError, MemoryError):
            return True
    return _TAKES_IMAGES[entry.digest]


def is_short(error: Exception) -> bool:
    """Whether memory does not hold it beside what is open."""
    return isinstance(error, BackendUnavailable) and error.code == "memory_short"


def require_memory(networks: int) -> None:
    """BackendUnavailable where so many bytes of networks do not fit beside what is open."""
    need, there = memory.opening(networks), memory.available()
    if there is not None and there < need + memory.RESERVE:
        raise BackendUnavailable(
            f"opening it needs {need >> 20} MB of memory; {there >> 20} MB are available, and of "
            f"those {memory.RESERVE >> 20} MB stay free",
            remedy="Give this machine, or the `work` stage, more memory.",
            code="memory_short",
        )
