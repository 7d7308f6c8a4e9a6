"""What a tuning costs: the op `soften` in a volume and in patches, milliseconds of processor time.

    OMP_NUM_THREADS=1 python -m bench.soften

Rules. Processor time and not the clock, so that a busy machine says nearly the same; the median of
RUNS. The volume is that of bench.prepare, resampled in the plane while it arrived.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from appliance.preprocess import fast, plan
from appliance.preprocess.spec import Op, Patch, Resample, Soften, Window
from appliance.records import Stack
from bench import prepare

RUNS, PATCHES = 5, 30
SDS_MM = (0.4, 0.6, 0.8, 1.0)
WINDOW = Window(low=prepare.LOW, high=prepare.HIGH)


def milliseconds(run: Callable[[], object]) -> float:
    """Median processor time."""
    took = []
    for _ in range(RUNS):
        begun = time.process_time()
        run()
        took.append(1e3 * (time.process_time() - begun))
    return statistics.median(took)


def stack_of(spacing_mm: float) -> Stack:
    """The volume of bench.prepare, resampled in its planes."""
    voxels = prepare.tissue()
    planes = tuple(fast.plane(prepare._image(hu, k), (spacing_mm,)) for k, hu in enumerate(voxels))
    z = np.arange(len(planes), dtype=np.float64) * prepare.APART_MM
    return Stack(planes, z, (0.0, 0.0, 1.0), prepare.SPACING)


def row(what: str, run: Callable[[Sequence[Op]], object]) -> str:
    """One line: without the op, then with each SD."""
    times = [milliseconds(partial(run, [Soften(sd_mm=mm)] if mm else [])) for mm in (0.0, *SDS_MM)]
    return f"{what:<44}" + "".join(f"{ms:8.0f}" for ms in times)


def main() -> None:
    """Print the table."""
    stack, rng = stack_of(1.25), np.random.default_rng(1)
    grid = plan.grid_of(stack)
    places = rng.uniform(0.2, 0.8, (PATCHES, 3)) * grid.shape
    centers = [plan.vector(plan.to_lps(grid, place)) for place in places]
    resample = Resample(spacing_mm=(1.25, 1.25, 1.25))
    print(
        f"{'ms, median of ' + str(RUNS) + '; SD in mm:':<44}    none"
        + "".join(f"{mm:8}" for mm in SDS_MM)
    )
    size = f"{len(stack.planes)} x {prepare.SIZE} x {prepare.SIZE}"
    print(
        row(
            f"tensor, {size} to 1.25 mm",
            lambda op: fast.tensor(stack, [resample, *op, WINDOW], None),
        )
    )
    print(
        row(
            f"{PATCHES} patches of 48, 8 views",
            lambda op: fast.gathered(stack, [Patch(size=48), *op, WINDOW], centers, 8),
        )
    )


if __name__ == "__main__":
    main()
