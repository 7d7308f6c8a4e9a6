"""What is measured of water phantoms beside what their maker gave them: the tables of docs/qa.md.

python -m bench.water            kernels, pixels and faults
python -m bench.water DIR...     the cost of asking each series in DIR whether it shows a phantom
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.bundle.water import WaterPhantom
from appliance.phantom import instances, water
from appliance.phantom.water import SHARP, SOFT, Water
from appliance.preprocess import fast
from appliance.quality import passing, phantom
from appliance.quality import water as measure
from appliance.records import Plane
from appliance.series import pixels
from appliance.verbs import analyze
from appliance.watching.qa import Expected

KERNELS = {"soft": SOFT, "sharp": SHARP, "blurred": ((1.0, 0.8),)}
GRIDS = {(0.6, 0.4, 0.4): 640, (2.0, 0.7, 0.7): 384, (5.0, 0.98, 0.98): 256}
"""Spacing (z, y, x) in mm -> rows."""
FAULTS = {
    "none": Water(),
    "cupping of 14 HU": Water(cupping_hu=14),
    "tilt of 3 degrees": Water(tilt_deg=3),
    "off centre by 23 mm": Water(centre_mm=(20, -12)),
    "bubble of 20 mm": Water(bubble_mm=20),
    "offset of 8 HU": Water(offset_hu=8),
    "slope times 1.1": Water(scale=1.1),
    "noise doubled": Water(noise_hu=12),
    "blurred": Water(response=KERNELS["blurred"]),
}
EXPECTED = Expected(
    diameter_mm=200,
    noise_hu=6,
    response_50_per_mm=water.frequency(SOFT, 0.5),
    response_10_per_mm=water.frequency(SOFT, 0.1),
)


def planes(made: Water, mm: tuple[float, float, float], rows: int) -> list[Plane]:
    """Eight slices of a phantom, as a line has them."""
    series = water.series(made, spacing_mm=mm, slices=8, rows=rows)
    parsed = (pixels.parse(instances.packed(image)) for image in series)
    return [fast.plane(one, ()) for each in parsed for one in pixels.images(each)]


def kernels() -> Iterator[str]:
    """A row a kernel and grid."""
    yield "| kernel | slice, pixel mm | 50 %: given, measured | 10 %: given, measured | mm | HU |"
    for name, response in KERNELS.items():
        for mm, rows in GRIDS.items():
            found = measure.figures(planes(Water(response=response), mm, rows))
            if found is None:
                raise SystemExit(f"{name} at {mm}: not measured")
            half, tenth = (water.frequency(response, level) for level in (0.5, 0.1))
            yield (
                f"| {name} | {mm[0]:g}, {mm[1]:g} | {half:.3f}, {found.response_50_per_mm:.3f} | "
                f"{tenth:.3f}, {found.response_10_per_mm:.3f} | {found.diameter_mm:.2f} | "
                f"{found.water_hu:.2f} |"
            )


def faults() -> Iterator[str]:
    """A row a fault."""
    yield "| fault | codes | seconds |"
    for name, made in FAULTS.items():
        seen = planes(made, (5.0, 0.98, 0.98), 256)
        began = time.perf_counter()
        found = measure.figures(seen)
        took = time.perf_counter() - began
        codes = () if found is None else passing.judged(found, WaterPhantom(), EXPECTED)
        yield f"| {name} | {', '.join(f'`{one.value}`' for one in codes) or '-'} | {took:.2f} |"


def asked(folder: Path) -> Iterator[str]:
    """A row a series: whether it shows a phantom, and how long it took to say."""
    for series in analyze.find(folder):
        parsed = (pixels.parse(series.read(file)) for file in series.files)
        seen = [fast.plane(one, ()) for each in parsed for one in pixels.images(each)]
        began = time.perf_counter()
        shown = phantom.shows_water(seen)
        took = 1000 * (time.perf_counter() - began)
        yield f"| {folder.name} | {len(seen)} | {'yes' if shown else 'no'} | {took:.1f} ms |"


def main(folders: list[str]) -> None:
    """Print the tables."""
    rows = (
        (row for folder in folders for row in asked(Path(folder)))
        if folders
        else (row for part in (kernels(), faults()) for row in part)
    )
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
