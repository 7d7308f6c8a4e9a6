"""What is kept beside a report, in reports/<report id>/: masks with the axes of findings, heat
maps, the list of inputs, the images in order with all that was scored, the in-room check, and
records of what its stage must know again.

Durable before the report is committed. No symbolic link in reports/ is followed. What was scored
lies in the file of the images, which is written anyway: a file more is a sync more on the way to
MQTT.
"""

from __future__ import annotations

import io
import json
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from appliance.records import Axes, Grid, HeatMap, Mask, Result
from appliance.report import Record, Report, Scores
from appliance.store import plain
from appliance.store.files import DISK

FOLDER = "reports"
LUNGS, FINDING = "lungs", "finding-"
"""Names of masks: of the lungs, and of the body of a finding, before its number (interpret)."""
ROOM = "room"
"""Name of the record of the in-room check (room.check.RoomCheck), where there is one."""
QUALITY = "quality"
"""Name of the record of what was measured of the series (watching.quality.SeriesQuality)."""
AXES = "axes_lps_mm"
"""In a mask's file: [4, 3], the ends of the long axis, then of the short one."""
_DAMAGED = (
    EOFError, KeyError, MemoryError, NotImplementedError, OSError, OverflowError, RuntimeError,
    SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise where bytes of an archive are others, or are missing."""
K = TypeVar("K")
R = TypeVar("R", bound=Record)


class Images(Record):
    """images.json; an earlier release wrote a list of the images alone."""

    images: tuple[str, ...]
    """As `Facts.images` has them."""
    scores: Scores | None = None


def keep(state: Path, report: Report, result: Result, instances: Sequence[str]) -> Path:
    """Masks, heat maps, the list of inputs and the images in order, durable, under reports/<report
    id>/."""
    folder = plain.real_folder(state / FOLDER) / str(report.report_id)
    DISK.make_folder(plain.real_folder(folder))
    DISK.settle(folder.parent)  # it may be there from a try that ended before its name was durable
    DISK.write(folder / "inputs.json", json.dumps(sorted(instances)).encode())
    if result.facts.images:
        listed = Images(images=result.facts.images, scores=result.scores)
        DISK.write(folder / "images.json", listed.model_dump_json().encode())
    for mask in result.masks:
        packed = io.BytesIO()
        arrays: dict[str, Any] = {
            "voxels": np.packbits(mask.voxels),
            "shape": np.asarray(mask.grid.shape),
            "spacing_mm": np.asarray(mask.grid.spacing_mm),
            "to_lps": mask.grid.to_lps,
        }
        if mask.axes is not None:
            arrays[AXES] = np.array([*mask.axes.long_lps_mm, *mask.axes.short_lps_mm])
        np.savez_compressed(packed, **arrays)
        DISK.write(folder / f"{mask.name}.npz", packed.getvalue())
    for heat in result.maps:
        packed = io.BytesIO()
        np.savez_compressed(packed, values=heat.values, to_stored=heat.to_stored)
        DISK.write(folder / f"{heat.name}.npz", packed.getvalue())
    return folder


def masks(state: Path, report_id: uuid.UUID) -> tuple[Mask, ...]:
    """All masks of a report, by name; none where nothing was kept. ValueError, which names the
    file, for one that is damaged."""
    return tuple(_each(state, report_id, "voxels", _mask))


def maps(state: Path, report_id: uuid.UUID) -> tuple[HeatMap, ...]:
    """All heat maps of a report, in the same way."""
    return tuple(_each(state, report_id, "values", _map))


def _each(
    state: Path,
    report_id: uuid.UUID,
    array: str,
    read: Callable[[str, Mapping[str, NDArray[Any]]], K],
) -> Iterator[K]:
    """What each kept file with this array holds."""
    folder = plain.real_folder(state / FOLDER) / str(report_id)
    for path in sorted(folder.glob("*.npz")):
        packed = plain.read(state, FOLDER, str(report_id), path.name)
        try:
            with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
                if array in arrays:
                    yield read(path.stem, arrays)
        except _DAMAGED as e:
            raise ValueError(f"{path.name} of report {report_id} is damaged: {e}") from e


def _map(name: str, arrays: Mapping[str, NDArray[Any]]) -> HeatMap:
    return HeatMap(
        name, np.asarray(arrays["values"], np.float32), np.asarray(arrays["to_stored"], np.float64)
    )


def _mask(name: str, arrays: Mapping[str, NDArray[Any]]) -> Mask:
    depth, rows, columns = (int(n) for n in arrays["shape"])
    packed = arrays["voxels"]
    if not 0 <= depth * rows * columns <= 8 * packed.size:
        raise ValueError("it has fewer voxels than its shape says")
    bits = np.unpackbits(packed, count=depth * rows * columns)
    dz, dy, dx = (float(mm) for mm in arrays["spacing_mm"])
    grid = Grid((depth, rows, columns), (dz, dy, dx), np.asarray(arrays["to_lps"], np.float64))
    axes = None
    if AXES in arrays:
        (a, b, c, d) = ((x, y, z) for x, y, z in arrays[AXES].tolist())
        axes = Axes((a, b), (c, d))
    return Mask(name, bits.reshape(grid.shape).astype(np.bool_), grid, axes)


def keep_record(state: Path, report_id: uuid.UUID, name: str, record: Record) -> None:
    """A record beside a report, durable; what was there under this name is replaced."""
    folder = plain.real_folder(state / FOLDER) / str(report_id)
    DISK.make_folder(plain.real_folder(folder))
    DISK.write(folder / f"{name}.json", record.model_dump_json(by_alias=True).encode())


def kept_record(state: Path, report_id: uuid.UUID, name: str, model: type[R]) -> R | None:
    """The same again; None where it is not kept, or not to be understood."""
    with suppress(OSError, ValueError):
        return model.stored(plain.read(state, FOLDER, str(report_id), f"{name}.json"))
    return None


def compared_name(comparison_id: uuid.UUID) -> str:
    """Of what is kept of a comparison beside its report (compare/beside.py), without an end."""
    return f"comparison-{comparison_id}"


def cubes_path(state: Path, report_id: uuid.UUID, comparison_id: uuid.UUID) -> Path:
    """Where the cubes of its pairs lie. It is no `.npz`, so that nobody takes it for a mask."""
    return state / FOLDER / str(report_id) / f"{compared_name(comparison_id)}.cubes"


def cubes(state: Path, report_id: uuid.UUID, comparison_id: uuid.UUID) -> bytes | None:
    """The file of the cubes of its pairs; None where none is kept."""
    path = cubes_path(state, report_id, comparison_id)
    with suppress(OSError, ValueError):
        return plain.read(state, FOLDER, str(report_id), path.name)
    return None


def inputs(state: Path, report_id: str) -> list[str] | None:
    """SOP Instance UIDs that a report was made of; None where they are not kept."""
    return _names(_read(state, report_id, "inputs.json"))


def images(state: Path, report_id: uuid.UUID) -> list[str] | None:
    """What was put in order, as `Facts.images` names it; None where nothing was, and for a report
    of before."""
    found = _read(state, str(report_id), "images.json")
    return _names(found.get("images") if isinstance(found, dict) else found)


def scores(state: Path, report_id: uuid.UUID) -> Scores | None:
    """All that was scored for a report; None where nothing was, and for a report of before."""
    with suppress(ValueError):
        return Images.model_validate(
            _read(state, str(report_id), "images.json"), extra="ignore"
        ).scores
    return None


def _read(state: Path, report_id: str, file: str) -> object:
    """What a file of JSON says; None where it is not kept, or not to be understood."""
    with suppress(OSError, ValueError, RecursionError):
        return cast(object, json.loads(plain.read(state, FOLDER, report_id, file)))
    return None


def _names(found: object) -> list[str] | None:
    return [str(name) for name in found] if isinstance(found, list) else None
