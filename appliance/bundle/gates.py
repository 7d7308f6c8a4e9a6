"""Which golden cases have passed here: one file a bundle and backend, under state/gate.

    state/gate/<bundle digest, 16>-<digest of the backend key, 8>.json     {bundle, backend, gate}

Rules
- Whoever runs golden cases writes here and nowhere else, so that `work`, which runs them, needs no
  right to write the shelf.
- A file stands alone and appears whole: two processes that write at once need no lock.
- A file that is missing, damaged or of another bundle or backend says nothing: the cases run again.
- What passed and could not be kept has passed all the same: it runs again the next time.
- No symbolic link is followed.
- state/bundles/gate.json of an earlier release is not read. It stays: a release that is rolled back
  to reads it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from appliance.bundle.golden import Gate, Runner
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused, StateUnusable
from appliance.report import Digest, Record
from appliance.store import plain
from appliance.store.files import DISK, Disk

log = logging.getLogger("scanside.bundle")

FOLDER = "gate"
Verdict = Literal["passed", "failed", "not run"]


class Kept(Record):
    """The result of the golden cases of one bundle on one backend."""

    bundle: Digest
    backend: str
    """Its key (golden.Runner)."""
    gate: Gate


class Gates:
    """The results of a state folder, and who runs the cases. Every call reads the disk anew."""

    def __init__(self, state: Path, runner: Runner | None, disk: Disk = DISK) -> None:
        self._state = state
        self._runner = runner
        self._disk = disk

    def verdict(self, bundle: str) -> Verdict:
        """Of a bundle by its digest, on the runner's backend; without a runner, passed on any or
        failed on any."""
        kept = self._kept(bundle)
        if self._runner is not None:
            kept = {key: gate for key, gate in kept.items() if key == self._runner.key}
        if not kept:
            return "not run"
        return "passed" if any(gate.passed for gate in kept.values()) else "failed"

    def result(self, path: Path, loaded: Loaded, *, again: bool = False) -> Gate:
        """What is kept where it passed, else (or `again`) what a run says now of the bundle in the
        file `path`. ValueError without a runner; BundleRefused as it says."""
        if self._runner is None:
            raise ValueError("golden cases need a runner")
        kept = self._kept(loaded.digest).get(self._runner.key)
        if kept is not None and kept.passed and not again:
            return kept
        result = self._runner.run(path, loaded)
        try:
            self.keep(loaded.digest, result)
        except StateUnusable as e:
            # no more: a verb that fails says one line, and what it says is why
            log.info("the result of golden cases is not kept: %s", e.one_line())
        return result

    def keep(self, bundle: str, result: Gate) -> None:
        """Durably, as the runner's. StateUnusable where the disk does not take it."""
        if self._runner is None:
            raise ValueError("golden cases need a runner")
        folder, key = self._state / FOLDER, self._runner.key
        row = Kept(bundle=bundle, backend=key, gate=result)
        name = f"{bundle[:16]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"
        self._disk.make_folder(plain.real_folder(folder))
        self._disk.write(folder / name, row.model_dump_json().encode() + b"\n")

    def require(self, path: Path, loaded: Loaded, *, again: bool = False) -> None:
        """BundleRefused `bundle_golden` unless they pass as `result` says; without a runner,
        unless they have passed."""
        name = f"{loaded.manifest.name} {loaded.manifest.version}"
        if self._runner is None:
            if self.verdict(loaded.digest) != "passed":
                raise BundleRefused(
                    f"{name}: its golden cases have not passed here",
                    remedy="`scanside bundle activate` runs them first.",
                    code="bundle_golden",
                )
            return
        result = self.result(path, loaded, again=again)
        if not result.passed:
            raise BundleRefused(
                f"{name}: golden cases do not pass on this backend: {result.one_line()}",
                remedy="Use another backend ([work] backend), or a bundle made for this one.",
                code="bundle_golden",
            )

    def _kept(self, bundle: str) -> Mapping[str, Gate]:
        """Backend key -> result."""
        names = [path.name for path in (self._state / FOLDER).glob(f"{bundle[:16]}-*.json")]
        kept = [self._read(name) for name in sorted(names)]
        return {one.backend: one.gate for one in kept if one is not None and one.bundle == bundle}

    def _read(self, name: str) -> Kept | None:
        try:
            return Kept.stored(plain.read(self._state, FOLDER, name))
        except (OSError, ValidationError):
            return None
