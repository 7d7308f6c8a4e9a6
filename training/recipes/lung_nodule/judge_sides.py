"""Fits the share of the larger lung's volume from which on down the other lung counts as missing.

    python -m training.recipes.lung_nodule.judge_sides BUNDLE SERIES [SERIES ...]

SERIES are folders of axial CTs with both lungs in them. Rules: lungs, middle of the body and
volumes are the appliance's own (interpret/one_lung.py). The share is half of the least that is
found: real patients with two lungs then have a margin of two, and no CT without a lung is needed to
fit it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from appliance.backend.protocol import Backend
from appliance.bundle.lines import SegmentProposeClassify
from appliance.interpret import one_lung
from appliance.preprocess import plan
from training.errors import command
from training.judge.opened import open_bundle
from training.read.shared_series import read_series
from training.read.volume import Volume, stack_of
from training.recipes.lung_nodule.proposals import lungs_of


def share(left: float, right: float) -> float:
    """The smaller volume as a share of the larger one; 0 where there is none."""
    return min(left, right) / max(left, right) if max(left, right) else 0.0


def volumes(volume: Volume, line: SegmentProposeClassify, backend: Backend) -> tuple[float, float]:
    """Left and right lung of a CT in millilitres."""
    stack = stack_of(volume)
    lungs = lungs_of(stack, backend, line)
    return one_lung.volumes_ml(lungs, one_lung.middle_mm(stack, plan.extent(stack)))


def fitted(shares: Sequence[float]) -> float:
    """The share that a bundle is given, to two digits."""
    return round(min(shares) / 2, 2)


def main() -> None:
    """One row a series, then the fit."""
    parser = argparse.ArgumentParser(description="Fits from which share on a lung is missing.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("series", type=Path, nargs="+")
    given = parser.parse_args()
    opened = open_bundle(given.bundle, 2)
    line = opened.bundle.manifest.line_of(SegmentProposeClassify)
    found = {}
    for folder in given.series:
        both = volumes(read_series(folder), line, opened.backend)
        found[folder.name] = {
            "left_ml": round(both[0]),
            "right_ml": round(both[1]),
            "share": round(share(*both), 3),
        }
    least = min(row["share"] for row in found.values())
    print(
        json.dumps({"series": found, "least": least, "one_lung_share": fitted([least])}, indent=1)
    )


if __name__ == "__main__":
    command(main)
