"""`make bench`: each figure beside a peer or its aim, in one run, ratios first.

    python -m bench [PART ...] [--repeat N]        prepare, infer, receive, associations, ...
    python -m bench beside REV [--repeat N] [--same-bundles]
                                                 this tree beside another revision of it

Rules. A peer does the same work on the same input in the same run; the best of N runs counts, as
other programs can only make a run slower. Figures without a peer stand beside their aim, as
percentiles. Nothing is asserted: tests never time. The JSON goes to bench/results (not committed);
figures quoted in docs name date and machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from bench import (
    archive,
    associations,
    beside,
    compared,
    infer,
    line,
    listed,
    page,
    prepare,
    receive,
    size,
    watched,
)

RESULTS = Path(__file__).parent / "results"
COMPARED = {"prepare": prepare, "infer": infer, "receive": receive}
MEASURED = {
    "associations": associations,
    "archive": archive,
    "compared": compared,
    "line": line,
    "listed": listed,
    "page": page,
    "size": size,
    "watched": watched,
}


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

    def one_line(self) -> str:
        """As printed."""
        return (
            f"{self.ratio:6.2f}x  {self.what}: {self.ours} {self.ours_s * 1e3:.0f} ms, "
            f"{self.peer} {self.peer_s * 1e3:.0f} ms"
        )


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


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpu = "unknown processor"
    for line_ in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line_.startswith("model name"):
            cpu = line_.partition(":")[2].strip()
    cores = len(os.sched_getaffinity(0))
    return {"date": str(date.today()), "cpu": cpu, "cores": cores, "load": os.getloadavg()[0]}


def main() -> None:
    """Runs the parts and prints their tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ratios and figures.")
    parts = [*COMPARED, *MEASURED]
    parser.add_argument("part", nargs="*", metavar="PART", help=f"of {', '.join(parts)}")
    parser.add_argument("--repeat", type=int, default=None, help="runs: 3, beside REV 5")
    parser.add_argument("--same-bundles", action="store_true", help="beside REV: with its bundles")
    asked = parser.parse_args()
    if asked.part[:1] == ["beside"] and len(asked.part) == 2:
        _beside(asked.part[1], asked.repeat or beside.RUNS, asked.same_bundles)
        return
    asked.repeat = asked.repeat or 3
    if unknown := set(asked.part) - set(parts):
        parser.error(f"no part {min(unknown)!r}; there are {', '.join(parts)}")
    wanted = asked.part or parts
    here = machine()
    print(
        f"{here['date']} · {here['cores']} cores of {here['cpu']} · load {here['load']:.1f} "
        f"· best of {asked.repeat}"
    )
    results: list[dict[str, Any]] = []
    for name, part in COMPARED.items():
        for what, ours, peer, ours_run, peer_run in part.comparisons() if name in wanted else ():
            row = Row(what, ours, peer, best(ours_run, asked.repeat), best(peer_run, asked.repeat))
            print(row.one_line(), flush=True)
            results.append({"part": name, **asdict(row), "ratio": row.ratio})
    for name, measured in MEASURED.items():
        for figure in measured.figures() if name in wanted else ():
            print(figure.one_line(), flush=True)
            results.append({"part": name, **asdict(figure), "met": figure.met})
    _keep("-".join(sorted(set(wanted))), here, results)


def _beside(revision: str, runs: int, same_bundles: bool) -> None:
    """Prints and keeps the ratios of this tree to another revision."""
    here, rows = machine(), []
    print(
        f"{here['date']} · {here['cores']} cores of {here['cpu']} · load {here['load']:.1f} "
        f"· median of {runs}"
    )
    for what, unit, before, after in beside.compare(revision, runs, same_bundles):
        print(f"{after / before:6.2f}   {what}: {before:.1f} {unit}, now {after:.1f} {unit}")
        rows.append({"what": what, "unit": unit, "before": before, "after": after})
    name = f"beside-{revision.replace('/', '-')}{'-same-bundles' if same_bundles else ''}"
    _keep(name, here, rows)


def _keep(name: str, here: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{date.today()}-{name}.json"
    path.write_text(json.dumps({"machine": here, "rows": rows}, indent=1))
    print(path)


if __name__ == "__main__":
    main()
