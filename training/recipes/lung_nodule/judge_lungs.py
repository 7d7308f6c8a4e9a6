"""What the lung network of a bundle is worth on CTs with a mask that it never saw.

    python -m training.recipes.lung_nodule.judge_lungs BUNDLE FOLDER

FOLDER holds pairs NAME_ct.nii.gz and NAME_lungmask.nii.gz (../shared/data/lung). Rules: the mask is
the appliance's own, closed and cleaned, read at the middle of each voxel of the CT. Airways and the
hilum are no lung in some truths and lung in others: a Dice of 1 is nobody's aim.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from appliance.backend.protocol import Backend
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Manifest
from appliance.interpret import segment
from appliance.preprocess import plan
from training.errors import DataError, command
from training.judge.metrics import dice
from training.judge.opened import open_bundle
from training.read.image_files import read_nifti
from training.read.volume import Bool, Volume, stack_of


def lungs(volume: Volume, manifest: Manifest, backend: Backend) -> Bool:
    """The appliance's lung mask on the volume's own voxels [z, y, x]."""
    ops = manifest.networks["segment"].preprocess
    image = backend.prepare(stack_of(volume), ops, None)
    head = manifest.line_of(SegmentProposeClassify).segment
    mask = segment.mask(backend.infer("segment", image), image, head)
    out = np.zeros(volume.hu.shape, np.bool_)
    rows, columns = np.meshgrid(*(np.arange(n) for n in volume.hu.shape[1:]), indexing="ij")
    for k in range(len(out)):
        voxels = np.stack([np.full_like(rows, k), rows, columns], -1).reshape(-1, 3)
        at = np.floor(plan.to_index(mask.grid, volume.lps(voxels)) + 0.5).astype(int)
        there = np.all((at >= 0) & (at < mask.voxels.shape), axis=1)
        found = np.zeros(len(at), np.bool_)
        found[there] = mask.voxels[tuple(at[there].T)]
        out[k] = found.reshape(rows.shape)
    return out


def main() -> None:
    """One Dice a pair."""
    parser = argparse.ArgumentParser(description="Dice of a bundle's lungs.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    pairs = sorted(given.folder.glob("*_ct.nii.gz"))
    if not pairs:
        raise DataError(f"{given.folder}: no NAME_ct.nii.gz")
    opened = open_bundle(given.bundle, 2)
    found = {}
    for path in pairs:
        truth = read_nifti(path.with_name(path.name.replace("_ct.", "_lungmask.")))
        mask = lungs(read_nifti(path), opened.bundle.manifest, opened.backend)
        found[path.name.removesuffix("_ct.nii.gz")] = round(dice(mask, truth.hu > 0.5), 4)
    print(json.dumps(found))


if __name__ == "__main__":
    command(main)
