"""Where data of training come from and under which licence, as they say it themselves.

Rules.
1. A shared CT is known by name (`shared_series.TRAINING_SERIES`). A series of the caller's own
   says it in `origin.json` beside its images, a file of patches in its array `origin`. Who cuts
   data from a data set writes it there; recipes ask here and know no data set.
2. A series without `origin.json` is named by its folder, and its licence is not stated.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from training.errors import DataError
from training.read.shared_series import TRAINING_SERIES

FILE = "origin.json"
NOT_STATED = "not stated"
SPLIT_UNKNOWN = ""


@dataclass(frozen=True)
class Origin:
    """A data set: its name, its licence, and which part of it this is."""

    name: str
    licence: str
    split: str = SPLIT_UNKNOWN  # train, val or test, where the data set has splits of its own

    def text(self) -> str:
        """As it is written beside the data."""
        return json.dumps(asdict(self))


SHARED_PATCHES = Origin("LUNA16 patches (LIDC-IDRI)", "CC BY 3.0")
"""Of a file that does not say it: the one of the shared data."""


def of_series(name: str) -> Origin:
    """Of a CT by its name, or of a folder by its path; DataError where a folder's file is none."""
    if "/" not in name:
        return Origin(f"CT {name}", TRAINING_SERIES.get(name, NOT_STATED))
    path = Path(name) / FILE
    if not path.exists():
        return Origin(f"CT {Path(name).name}", NOT_STATED)
    return read(path.read_text(), path)


def of_patches(path: Path) -> Origin:
    """Of a file of patches."""
    with np.load(path) as file:
        return read(str(file["origin"]), path) if "origin" in file else SHARED_PATCHES


def read(text: str, path: Path) -> Origin:
    """What `Origin.text` wrote; DataError where it is something else."""
    try:
        found = json.loads(text)
        return Origin(str(found["name"]), str(found["licence"]), str(found["split"]))
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path}: it does not say name, licence and split of its data") from e
