"""`make bench`: each figure beside a peer, in one run, ratios first.

    python -m bench [--repeat N]

Rules. A peer does the same work on the same input in the same run; the best of N runs counts, as
other programs can only make a run slower. Nothing is asserted: tests never time. The JSON goes to
bench/results (not committed); figures quoted in docs name date and machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from bench import infer, prepare, receive

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One comparison: seconds of ours and of the peer, for the same work."""

    what: str
    ours: str
    peer: str
    ours_s: float
    peer_s: float

    @property
    def ratio(self) -> float:
        """How many times faster than the peer."""
        return self.peer_s / self.ours_s


def best(run: Callable[[], object], repeat: int) -> float:
    """Seconds of the fastest of `repeat` runs, after one that does not count.

    A run that returns a float has timed itself: what it prepares does not count.
    """
    run()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        took = run()
        times.append(took if isinstance(took, float) else time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Runs every comparison and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ratios against peers.")
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    machine = f"{platform.machine()}, {platform.processor() or platform.system()}"
    print(f"{date.today()} · {machine} · best of {repeat}")
    rows = []
    for part in (prepare, infer, receive):
        for what, ours, peer, ours_run, peer_run in part.comparisons():
            rows.append(Row(what, ours, peer, best(ours_run, repeat), best(peer_run, repeat)))
            row = rows[-1]
            print(
                f"{row.ratio:6.2f}x  {what}: {ours} {row.ours_s * 1e3:.0f} ms, "
                f"{peer} {row.peer_s * 1e3:.0f} ms",
                flush=True,
            )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{date.today()}.json"
    path.write_text(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows], indent=1))
    print(path)


if __name__ == "__main__":
    main()
