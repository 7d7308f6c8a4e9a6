"""Mutated bytes against everything that takes bytes from outside: only refusals by name come out.

Each target runs in a process of its own (engine.py), so that the death of a C decoder is seen, and
the input that caused it. `make test` tries 2,000 inputs over all targets, always the same ones;
`make test-long` over 100,000. SCANSIDE_FUZZ_SEED tries others. What was found once is held by
test_found.py.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SEED = int(os.environ.get("SCANSIDE_FUZZ_SEED", "20261120"))
FEW = {"peek": 250, "decode": 250, "radiograph": 150, "series": 20, "dul": 130, "archive": 200,
       "manifest": 200, "golden": 150, "network": 200, "key": 100,
       "cmd": 150, "promise": 100, "entry": 100}  # fmt: skip
MANY = {"peek": 25_000, "decode": 25_000, "radiograph": 15_000, "series": 1_500, "dul": 10_000,
        "archive": 12_000, "manifest": 12_000, "golden": 8_000, "network": 12_000,
        "key": 3_000, "cmd": 10_000, "promise": 10_000, "entry": 5_000}  # fmt: skip
GROWTH_MB = 32.0
"""After the warm-up; the seeds that are kept take part of it."""
PEAK_MB = 768.0
"""An input of 256 KiB may inflate to 256 MiB (PS3.5 A.5), which is then looked at."""
REAL = ("R01-001", "siemens-j2k", "ge-tilted-head")
LIMIT_S = 900


@pytest.fixture(scope="session")
def seeds(tiny_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seeds of every target, without real headers."""
    return made(tmp_path_factory.mktemp("fuzz"), tiny_bytes, [])


def made(folder: Path, bundle: bytes, real: Iterable[Path]) -> Path:
    (folder / "bundle").write_bytes(bundle)
    subprocess.run(
        [sys.executable, HERE / "corpus.py", folder / "seeds", folder / "bundle", *real],
        check=True,
        timeout=120,
    )
    return folder / "seeds"


def fuzzed(counts: dict[str, int], seeds: Path, folder: Path) -> list[dict[str, Any]]:
    """The outcomes of one child. An input that ends it is the finding of the target it was for."""
    slot = folder / f"{min(counts)}.slot"
    given = [f"{name}={count}" for name, count in counts.items()]
    done = subprocess.run(
        [sys.executable, HERE / "engine.py", seeds, str(SEED), slot, *given],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env={**os.environ, "RUST_BACKTRACE": "0"},  # a panic's trace costs 50 MB of symbols once
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode == 0:
        return outcomes
    memory = slot.read_bytes() if slot.exists() else bytes(4)
    (length,) = struct.unpack_from("<I", memory)
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else done.returncode
    trace = f"the process ended with {how}\n{done.stderr[-4000:]}"
    found = {"trace": trace, "input": base64.b64encode(memory[4 : 4 + length]).decode()}
    target = list(counts)[len(outcomes)]
    return [*outcomes, {"target": target, "inputs": 0, "findings": [found]}]


def judged(outcome: dict[str, Any], folder: Path) -> None:
    """Print findings and figures, and fail where something was found or memory grew."""
    for number, found in enumerate(outcome["findings"]):
        path = folder / f"{outcome['target']}-{number}"
        path.write_bytes(base64.b64decode(found["input"]))
        sys.stdout.write(f"{found['trace']}\ninput: {path}\n{found['input'][:6000]}\n")
    assert not outcome["findings"]
    assert outcome["kept"] > 0, "coverage led nowhere"
    assert outcome["end_mb"] - outcome["warm_mb"] < GROWTH_MB
    assert outcome["peak_mb"] < PEAK_MB
    sys.stdout.write(
        "{target}: {inputs} inputs in {seconds:.0f} s ({cpu_s:.0f} s of CPU), {lines} lines "
        "reached, {kept} inputs kept, slowest {slowest_s:.2f} s, "
        "resident {warm_mb:.0f} to {end_mb:.0f} MB, peak {peak_mb:.0f} MB\n".format(**outcome)
    )


def test_two_thousand_mutated_inputs_are_refused_by_name_or_taken(
    seeds: Path, tmp_path: Path
) -> None:
    slow = {"series", "dul", "archive", "manifest"}  # about half of the time
    halves = [{t: n for t, n in FEW.items() if (t in slow) is which} for which in (True, False)]
    with ThreadPoolExecutor(2) as two:
        outcomes = list(chain(*two.map(lambda half: fuzzed(half, seeds, tmp_path), halves)))
    for outcome in outcomes:
        judged(outcome, tmp_path)
    assert sum(outcome["inputs"] for outcome in outcomes) == 2000


@pytest.mark.long
@pytest.mark.timeout(2 * LIMIT_S)
def test_a_hundred_thousand_mutated_inputs_are_refused_by_name_or_taken(
    tiny_bytes: bytes, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole = made(tmp_path, tiny_bytes, real_headers(request))
    slowest_first = sorted(MANY, key=lambda t: t not in {"series", "dul", "decode"})
    with ThreadPoolExecutor(2) as two:
        each = two.map(lambda t: fuzzed({t: MANY[t]}, whole, tmp_path), slowest_first)
        outcomes = list(chain(*each))
    for outcome in outcomes:
        judged(outcome, tmp_path)
    inputs, findings = sum(o["inputs"] for o in outcomes), sum(len(o["findings"]) for o in outcomes)
    sys.stdout.write(f"{inputs} inputs in all, {findings} findings, seed {SEED}\n")
    assert inputs >= 100_000


def real_headers(request: pytest.FixtureRequest) -> list[Path]:
    """One file of each real series that is there."""
    try:
        series = request.getfixturevalue("ct_series")
    except pytest.skip.Exception as e:
        sys.stdout.write(f"without real headers: {e}\n")
        return []
    return [min(p for p in series(name).rglob("*") if p.is_file()) for name in REAL]
