"""What the facts of a slice cost, this tree beside another revision; processor time, milliseconds.

    OMP_NUM_THREADS=1 python -m bench.facts REV DIR...     DIR: one CT series, of .dcm files

Rules. Each run is a process of its own in one of the two trees, which take turns; a process goes
over the series once before it counts. Processor time and not the clock, so that a busy machine says
nearly the same; the median of RUNS. Decoding and resampling are not in it. Slices that are sampled
(appliance/quality/slices.py, rule 2) cost most, so these are told apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import beside
from bench.site import TREE, started_in

RUNS = 5
MEASURED = """
import json, sys, time
from pathlib import Path
from appliance.preprocess import fast
from appliance.quality import slices
from appliance.series import pixels

files = sorted(Path(sys.argv[1]).glob("*.dcm"))
images = [one for file in files for one in pixels.images(pixels.parse(file.read_bytes()))]
planes = [fast.plane(one, ()) for one in images]
for plane in planes:
    slices.facts(plane)
plain, sampled = [], []
for plane in planes:
    begun = time.process_time()
    found = slices.facts(plane)
    took = 1e3 * (time.process_time() - begun)
    (plain if found.sample is None else sampled).append(took)
print(json.dumps([plain, sampled]))
"""


def once(tree: Path, series: Path) -> list[list[float]]:
    """Milliseconds of each slice: of those that are not sampled, and of those that are."""
    run = [sys.executable, "-c", MEASURED, str(series.resolve())]
    environment = started_in(tree, {})
    done = subprocess.run(run, env=environment, cwd=tree, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"{series}: could not be measured")
    found: list[list[float]] = json.loads(done.stdout)
    return found


def told(runs: list[list[list[float]]]) -> str:
    """Medians of the runs: a slice on average, one that is sampled, the dearest of them."""
    plain, sampled = len(runs[0][0]), len(runs[0][1])
    if not plain + sampled:
        raise SystemExit("no slice was measured")
    mean = statistics.median(statistics.fmean(p + s) for p, s in runs)
    of_sampled = statistics.median(statistics.fmean(s) if s else 0.0 for _, s in runs)
    most = statistics.median(max(p + s) for p, s in runs)
    return f"{mean:8.2f}{of_sampled:10.2f}{most:10.2f}   of {plain + sampled}, {sampled} sampled"


def main() -> None:
    """Print a line for each series and tree."""
    parser = argparse.ArgumentParser(prog="python -m bench.facts")
    parser.add_argument("revision")
    parser.add_argument("series", type=Path, nargs="+")
    given = parser.parse_args()
    print(f"{'ms a slice, median of ' + str(RUNS):<30}    mean   sampled      most")
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        other = Path(name) / "tree"
        beside.check_out(given.revision, other)
        trees = {given.revision: other, "this tree": TREE}
        for series in given.series:
            found: dict[str, list[list[list[float]]]] = {which: [] for which in trees}
            for _ in range(RUNS):
                for which, tree in trees.items():
                    found[which].append(once(tree, series))
            for which, runs in found.items():
                print(f"{series.name + ', ' + which:<30}{told(runs)}", flush=True)


if __name__ == "__main__":
    main()
