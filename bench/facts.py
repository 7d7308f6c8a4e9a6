"""What the facts of a slice cost, this tree beside other revisions; processor time, milliseconds.

    OMP_NUM_THREADS=1 python -m bench.facts REV[,REV] DIR...     DIR: one CT series, of .dcm files

Rules. Each run is a process of its own in one of the trees, which take turns; a process goes over
the series once before it counts, then PASSES times. Processor time and not the clock. What else
runs takes caches away, so a busy machine says more than an idle one and hardly ever less: `least`
is of each slice the least of all passes and runs, and by it trees are compared; `usual` is of each
slice their median. Decoding and resampling are not in it. Slices that are sampled
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

RUNS, PASSES = 5, 5
MEASURED = """
import json, sys, time
from pathlib import Path
from appliance.preprocess import fast
from appliance.quality import slices
from appliance.series import pixels

files = sorted(Path(sys.argv[1]).glob("*.dcm"))
images = [one for file in files for one in pixels.images(pixels.parse(file.read_bytes()))]
planes = [fast.plane(one, ()) for one in images]
plain, sampled = [], []
for plane in planes:
    (plain if slices.facts(plane).sample is None else sampled).append([])
for _ in range(int(sys.argv[2])):
    at = {True: iter(plain), False: iter(sampled)}
    for plane in planes:
        begun = time.process_time()
        found = slices.facts(plane)
        took = 1e3 * (time.process_time() - begun)
        next(at[found.sample is None]).append(took)
print(json.dumps([plain, sampled]))
"""


def once(tree: Path, series: Path) -> list[list[list[float]]]:
    """Milliseconds [slices][passes] of those that are not sampled, and of those that are."""
    run = [sys.executable, "-c", MEASURED, str(series.resolve()), str(PASSES)]
    environment = started_in(tree, {})
    done = subprocess.run(run, env=environment, cwd=tree, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"{series}: could not be measured")
    found: list[list[list[float]]] = json.loads(done.stdout)
    return found


def told(runs: list[list[list[list[float]]]]) -> str:
    """A slice on average and one that is sampled, each least and usual; the dearest, least."""
    plain, sampled = (
        [[took for passes in slice_ for took in passes] for slice_ in zip(*kind, strict=True)]
        for kind in zip(*runs, strict=True)
    )
    if not plain + sampled:
        raise SystemExit("no slice was measured")
    figures = []
    for some in (plain + sampled, sampled):
        for of_slice in (min, statistics.median):
            figures.append(statistics.fmean(map(of_slice, some)) if some else 0.0)
    figures.append(max(map(min, plain + sampled)))
    counted = f"   of {len(plain) + len(sampled)}, {len(sampled)} sampled"
    return "".join(f"{figure:10.2f}" for figure in figures) + counted


def main() -> None:
    """Print a line for each series and tree."""
    parser = argparse.ArgumentParser(prog="python -m bench.facts")
    parser.add_argument("revisions", help="one, or several with commas between them")
    parser.add_argument("series", type=Path, nargs="+")
    given = parser.parse_args()
    print(f"{'ms a slice':<30}{'mean':>20}{'sampled':>20}{'dearest':>10}")
    print(f"{'':<30}{2 * '     least     usual'}{'least':>10}")
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        trees = {}
        for revision in given.revisions.split(","):
            trees[revision] = Path(name) / revision
            beside.check_out(revision, trees[revision])
        trees["this tree"] = TREE
        for series in given.series:
            found: dict[str, list[list[list[list[float]]]]] = {which: [] for which in trees}
            for _ in range(RUNS):
                for which, tree in trees.items():
                    found[which].append(once(tree, series))
            for which, runs in found.items():
                print(f"{series.name + ', ' + which:<30}{told(runs)}", flush=True)


if __name__ == "__main__":
    main()
