"""The golden cases of a bundle on a CPU, in a process of their own.

    python -m appliance.runtime.trial LIBRARY THREADS LIMIT_S BUNDLE DIGEST

Rules.
1. What a new network does to its process, it does to a child: a crash, all of the memory or no end
   at all is a refusal of the bundle (`bundle_golden_died`, `bundle_golden_slow`), and whoever asked
   goes on. The kernel ends the child before anybody else where memory runs out.
2. A child ends with its limit even where nobody waits for it any more: it has an alarm of its own.
3. Nobody holds a lock meanwhile (bundle/shelf.py). `alive` is called while it runs, so that a stage
   that waits for it is not taken for stuck.
4. The child reads the file anew and runs it only if it is the bundle that its parent has checked.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from appliance.backend import cpu
from appliance.backend.choose import LIBRARIES, Name
from appliance.backend.open import open_backend
from appliance.bundle import golden, trust
from appliance.bundle.manifest import Network
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused, ScansideError
from appliance.report import Record
from appliance.runtime import engine_build

LIMIT_S = 300.0
"""Of all cases of a bundle. Ours take one second on two cores; a small board that also analyses is
fifty times slower at most, and the rest is room."""
LIMIT_POLITE_S = 1800.0
"""The same at the lowest priority, beside studies that come without pause."""
LOOK_S = 1.0
"""Between two calls of `alive`."""
MODULE = "appliance.runtime.trial"


def key(library: Name) -> str:
    """The key of golden.Runner for cases that run here. How INT8 is reckoned is part of it: the
    disk of a box may go on in another."""
    return f"{library} {version(library)} int8 in {cpu.arithmetic(library)}"


class Outcome(Record):
    """What the child says on its standard output: the result, or why there is none."""

    gate: golden.Gate | None = None
    code: str = ""
    text: str = ""
    remedy: str = ""


def run(
    library: Name,
    threads: int,
    path: Path,
    loaded: Loaded,
    *,
    limit_s: float | None = None,
    alive: Callable[[], object] = lambda: None,
    polite: bool = False,
) -> golden.Gate:
    """Run the cases of the bundle `loaded`, whose file is `path`. BundleRefused: see rule 1, or
    what the child refused. polite: at the lowest priority. What `alive` raises ends the child."""
    if limit_s is None:
        limit_s = LIMIT_POLITE_S if polite else LIMIT_S
    figures = [str(threads), str(limit_s)]
    command = [sys.executable, "-m", MODULE, library, *figures, str(path), loaded.digest]
    if polite:
        command = engine_build.polite(command)
    end = time.monotonic() + limit_s
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        said = b""
        try:
            while True:
                alive()
                left = max(0.0, end - time.monotonic())
                with suppress(subprocess.TimeoutExpired):
                    said, _ = child.communicate(timeout=min(LOOK_S, left))
                    break
                if time.monotonic() >= end:
                    raise _slow(loaded, limit_s)
        finally:
            if child.poll() is None:
                child.kill()
    return _gate(loaded, child.returncode, said)


def _gate(loaded: Loaded, status: int, said: bytes) -> golden.Gate:
    """The result that a child has said before it ended with this exit status."""
    if status < 0:
        raise _died(loaded, f"by {signal.Signals(-status).name}")
    try:
        outcome = Outcome.model_validate_json(said.splitlines()[-1])  # a library may talk before
    except (ValidationError, IndexError) as e:
        raise _died(loaded, f"with exit status {status}") from e
    if outcome.gate is None:
        raise BundleRefused(outcome.text, code=outcome.code, remedy=outcome.remedy)
    return outcome.gate


def _slow(loaded: Loaded, limit_s: float) -> BundleRefused:
    return BundleRefused(
        f"{_what(loaded)}: its golden cases did not end within {limit_s:.0f} s",
        remedy="Let the machine rest and try again; if it happens twice, ask for another bundle.",
        code="bundle_golden_slow",
    )


def _died(loaded: Loaded, how: str) -> BundleRefused:
    return BundleRefused(
        f"{_what(loaded)}: its golden cases ended their process {how}",
        remedy="Free memory and try again; if it happens twice, ask for another bundle.",
        code="bundle_golden_died",
    )


def _what(loaded: Loaded) -> str:
    return f"{loaded.manifest.name} {loaded.manifest.version}"


def tried(library: Name, threads: int, path: Path, digest: str) -> golden.Gate:
    """The child's part, in its process."""
    loaded = trust.check(path.read_bytes())
    if loaded.digest != digest:
        raise BundleRefused(f"{path} has changed meanwhile", code="bundle_digest")
    networks: dict[str, Network] = dict(loaded.manifest.networks.items())
    backend = open_backend(library, networks, loaded.networks, threads)
    try:
        return golden.gate(loaded, golden.through(backend))
    finally:
        backend.close()


def main(arguments: list[str]) -> int:
    """See the top. 0 where an outcome was said."""
    wanted, threads, limit_s, path, digest = arguments
    library = next(name for name in LIBRARIES if name == wanted)
    signal.alarm(int(float(limit_s)) + 1)  # nobody handles it: it ends the process
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        outcome = Outcome(gate=tried(library, int(threads), Path(path), digest))
    except OSError as e:
        outcome = Outcome(code="bundle_unreadable", text=f"{path}: {e.strerror}", remedy="")
    except ScansideError as e:
        outcome = Outcome(code=e.code, text=e.text, remedy=e.remedy)
    sys.stdout.write(f"\n{outcome.model_dump_json()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
