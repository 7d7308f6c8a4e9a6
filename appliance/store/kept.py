"""What is kept beside a report, in reports/<report id>/: masks, heat maps, the list of inputs.

Durable before the report is committed. No symbolic link in reports/ is followed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from appliance.records import Result
from appliance.report import Report
from appliance.store import plain
from appliance.store.files import DISK

FOLDER = "reports"


def keep(state: Path, report: Report, result: Result, instances: Sequence[str]) -> Path:
    """Masks, heat maps and the list of inputs, durable, under reports/<report id>/."""
    folder = plain.real_folder(state / FOLDER) / str(report.report_id)
    DISK.make_folder(plain.real_folder(folder))
    DISK.settle(folder.parent)  # it may be there from a try that ended before its name was durable
    DISK.write(folder / "inputs.json", json.dumps(sorted(instances)).encode())
    for mask in result.masks:
        packed = io.BytesIO()
        np.savez_compressed(
            packed,
            voxels=np.packbits(mask.voxels),
            shape=np.asarray(mask.grid.shape),
            spacing_mm=np.asarray(mask.grid.spacing_mm),
            to_lps=mask.grid.to_lps,
        )
        DISK.write(folder / f"{mask.name}.npz", packed.getvalue())
    for heat in result.maps:
        packed = io.BytesIO()
        np.savez_compressed(packed, values=heat.values, to_stored=heat.to_stored)
        DISK.write(folder / f"{heat.name}.npz", packed.getvalue())
    return folder


def inputs(state: Path, report_id: str) -> list[str] | None:
    """SOP Instance UIDs that a report was made of; None where they are not kept."""
    with suppress(OSError, ValueError):
        found = json.loads(plain.read(state, FOLDER, report_id, "inputs.json"))
        if isinstance(found, list):
            return [str(uid) for uid in found]
    return None
