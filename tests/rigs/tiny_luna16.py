"""LUNA16's own layout, drawn small: two phantoms with annotations, candidates and lungs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from appliance.phantom.chest import Phantom
from appliance.phantom.chest import chest as drawn
from training.read.study_index import VAL_FOLD


@cache
def chest(seed: int) -> Phantom:
    return drawn(seed, spacing_mm=(2.5, 1.8, 1.8))


def lung_labels(phantom: Phantom) -> npt.NDArray[np.int16]:
    """3 and 4 for the air in the body on either side, as LUNA16 labels lungs."""
    labels, _ = ndimage.label(phantom.hu < -400)
    sides = np.unique(np.concatenate([labels[:, e].ravel() for e in (0, -1)]))
    inside = (labels > 0) & ~np.isin(labels, sides)
    right = np.arange(phantom.hu.shape[2]) < phantom.hu.shape[2] // 2
    return np.where(inside, np.where(right, 4, 3), 0).astype(np.int16)


def write_scan(folder: Path, name: str, phantom: Phantom, values: npt.NDArray[np.int16]) -> None:
    """Values on a phantom's grid as LUNA16 ships a scan: MetaImage with its raw file."""
    folder.mkdir(parents=True, exist_ok=True)
    dz, dy, dx = phantom.spacing_mm
    x, y, z = phantom.origin_lps_mm
    (folder / f"{name}.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
        f"Offset = {x} {y} {z}\nElementSpacing = {dx} {dy} {dz}\n"
        f"DimSize = {' '.join(map(str, phantom.hu.shape[::-1]))}\n"
        f"ElementType = MET_SHORT\nElementDataFile = {name}.raw\n"
    )
    (folder / f"{name}.raw").write_bytes(values.astype("<i2").tobytes())


def rows(phantom: Phantom, name: str, value: object = None) -> list[str]:
    return [
        f"{name},{x:.3f},{y:.3f},{z:.3f},{n.diameter_mm if value is None else value}"
        for n in phantom.nodules
        for x, y, z in [n.center_lps_mm]
    ]


def tiny_luna16(root: Path) -> Path:
    """A scan to train on and one to choose by, with both tables in CSVFILES."""
    annotations = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    candidates = ["seriesuid,coordX,coordY,coordZ,class"]
    for subset, name, seed in ((0, "1.2.10", 1), (VAL_FOLD, "1.2.12", 3)):
        phantom = chest(seed)
        write_scan(root / f"subset{subset}", name, phantom, phantom.hu)
        write_scan(root / "seg-lungs-LUNA16", name, phantom, lung_labels(phantom))
        annotations += rows(phantom, name)
        candidates += rows(phantom, name, 1)
        rng = np.random.default_rng(seed)
        x, y, z = phantom.origin_lps_mm
        candidates += [
            f"{name},{x + a:.2f},{y + b:.2f},{z + c:.2f},0"
            for a, b, c in rng.uniform(40, 200, (60, 3))
        ]
        candidates += rows(phantom, name, 0)  # a table that calls nodules none as well
    (root / "CSVFILES").mkdir()
    (root / "CSVFILES" / "annotations.csv").write_text("\n".join(annotations) + "\n")
    (root / "CSVFILES" / "candidates_V2.csv").write_text("\n".join(candidates) + "\n")
    return root
