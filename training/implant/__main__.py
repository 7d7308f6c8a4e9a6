"""Makes one chest CT with nodules of known place, size and shape.

    python -m training.implant --host DIR --seed N --out DIR [--each 3] [--split val]

writes DIR/<host>-seed<N> (`implant.series` says what lies in it). The same call makes the same
bytes again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.errors import DataError, command
from training.implant.donors import donated_shapes
from training.implant.hosts import with_implants
from training.implant.series import read_host, shared_lidc, write_series
from training.read.datasets import SPLITS


def main() -> None:
    """Makes one series, or says in one line why not."""
    parser = argparse.ArgumentParser(description="Write a CT with implanted nodules as DICOM.")
    parser.add_argument("--host", type=Path, required=True, help="folder of one chest CT series")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--each", type=int, default=3, help="nodules of each of four sizes (3)")
    parser.add_argument("--split", choices=SPLITS, default="val", help="of the LIDC patients (val)")
    parser.add_argument("--lidc", type=Path, help="unpacked LIDC database (else the shared one)")
    given = parser.parse_args()
    if given.seed < 0 or not 1 <= given.each <= 20:
        parser.error("--seed is 0 or more, --each is 1 to 20")
    host = read_host(given.host)
    shapes = donated_shapes(given.lidc or shared_lidc(), given.split)
    volume, placed = with_implants(host, shapes, given.seed, given.each)
    if not placed:
        raise DataError(f"{given.host}: no free place for a nodule was found")
    out = given.out / f"{given.host.resolve().name}-seed{given.seed}"
    write_series(given.host, host, volume.hu, placed, given.seed, given.split, out)
    print(
        f"{out}: {len(volume.hu)} slices, {len(placed)} implants of LIDC patients of {given.split}"
    )


if __name__ == "__main__":
    command(main)
