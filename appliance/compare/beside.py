"""What is kept beside the report that was compared: durable before the journal names it.

    reports/<report id>/comparison-<comparison id>.json     KeptComparison
    reports/<report id>/comparison-<comparison id>.cubes    npz: then_<i>, now_<i>, and of each its
                                                            grid, then_<i>_lps, now_<i>_lps

A cube is int16 [48, 48, 48] in HU, its grid the `to_lps` [4, 4] of records.Grid; i is the index in
`Comparison.findings`. The name of the cubes is no `.npz`, so that nobody takes them for a mask
(store/kept). They go with the folder of their report.
"""

from __future__ import annotations

import io
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.compare.ports import Cubed, Made
from appliance.comparison import KeptComparison, PriorImages
from appliance.store import kept
from appliance.store.files import DISK, Disk

_DATE = 8


def keep(state: Path, made: Made, disk: Disk = DISK) -> None:
    """A comparison and its cubes; what was there under its id is replaced."""
    said = made.comparison
    record = KeptComparison(
        comparison=said,
        prior=_images(made),
        entry_digest=None if made.prior is None else made.prior.digest,
    )
    kept.keep_record(state, said.report_id, kept.compared_name(said.comparison_id), record)
    if made.cubes:
        path = kept.cubes_path(state, said.report_id, said.comparison_id)
        disk.write(path, packed(made.cubes))


def read(state: Path, report_id: uuid.UUID, comparison_id: uuid.UUID) -> KeptComparison | None:
    """What was kept; None where it is not there, or not to be understood."""
    return kept.kept_record(state, report_id, kept.compared_name(comparison_id), KeptComparison)


def cubes(
    state: Path, report_id: uuid.UUID, comparison_id: uuid.UUID
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """The arrays by name; empty where none were kept, or where the file is damaged."""
    data = kept.cubes(state, report_id, comparison_id)
    unreadable = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
    with suppress(*unreadable), np.load(io.BytesIO(data or b""), allow_pickle=False) as arrays:
        return {one: arrays[one] for one in arrays.files}
    return {}


def packed(pairs: Sequence[tuple[Cubed, Cubed]]) -> bytes:
    """The file of these cubes."""
    arrays: dict[str, Any] = {}
    for number, pair in enumerate(pairs):
        for when, cube in zip(("then", "now"), pair, strict=True):
            arrays[f"{when}_{number}"] = np.asarray(cube.hu, np.int16)
            arrays[f"{when}_{number}_lps"] = cube.grid.to_lps
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


def _images(made: Made) -> PriorImages | None:
    if made.prior is None:
        return None
    facts = made.prior.facts
    return PriorImages(
        study_uid=facts.names.study_uid,
        series_uid=facts.names.series_uid,
        sop_class_uid=facts.names.sop_class_uid,
        key_images=facts.names.key_images,
        date=None if facts.taken is None else facts.taken[:_DATE],
    )
