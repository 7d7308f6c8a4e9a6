"""What a coarser grid costs: likeness beside sensitivity, on CTs that carry implants.

    python -m training.faithful BUNDLE DATA [--spacing 0.8 1.25 2 3] [--work DIR] [--json]

DATA is a folder with one sub-folder a series, as `training.evaluate` takes it (training.implant
makes them). Each series goes through the line as it is, and once more for each spacing: resampled
to cubic voxels of so many mm, and back to its own pixels, before the line sees it.

Rules.
1. The way there is the appliance's op `resample`, the way back appliance/quality/faithful/back.py.
   Nothing is windowed between. Slices beyond the outermost voxels come back as one and the same,
   which the line refuses as stuck: at each end all but one of them stay as they are.
2. PSNR, SSIM and Dice compare what the line gets with what it got from the series as it is.
3. A nodule is found as `training.evaluate` says, at the bundle's own threshold and rules; the curve
   takes every candidate. What is lost and gained is counted nodule by nodule, against the series as
   it is; its interval draws whole series.
4. `--work` keeps what was found of each series and spacing, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from appliance import line
from appliance.preprocess import fast
from appliance.preprocess.spec import Orient, Resample, Rescale
from appliance.quality.faithful import anatomy, back, likeness
from appliance.records import Stack
from training.errors import DataError, command
from training.evaluate import (
    Known,
    Looked,
    analysed,
    findings_of,
    known_of,
    marks_of,
    of_series,
    only,
)
from training.implant.series import changed_slice, host_slices
from training.judge.froc import Finding, interval
from training.judge.metrics import between
from training.judge.opened import Opened, open_bundle
from training.read.volume import F32

SPACINGS_MM: Final = (0.8, 1.25, 2.0, 3.0)
DRAWS: Final = 2000


def stack_of(opened: Opened, folder: Path) -> Stack:
    """The slices of a series in order; DataError where they are none."""
    fold = line.begin([opened.bundle])
    for path in sorted(folder.glob("*.dcm")):
        fold = line.add(fold, path.read_bytes())
    outline = fold.share(opened.bundle).outline
    if not isinstance(outline.subject, Stack):
        raise DataError(f"{folder}: {'; '.join(reason.text for reason in outline.reasons)}")
    return outline.subject


def there_and_back(stack: Stack, spacing_mm: float) -> list[F32]:
    """The slices of a stack [y, x], HU, after voxels of this edge and back (rule 1)."""
    ops = (Rescale(), Orient(), Resample(spacing_mm=(spacing_mm,) * 3))
    tensor, grid = fast.tensor(stack, ops, None)
    slices: list[F32] = []
    for plane in stack.planes:
        rows, columns = plane.native.shape
        hu, _ = back.pixels(tensor[0, 0], grid, plane.geometry, (rows, columns))
        stuck = bool(slices) and np.array_equal(hu, slices[-1])
        slices.append(plane.native.astype(np.float32) if stuck else hu)
    return slices


def compared(stack: Stack, slices: Sequence[F32]) -> dict[str, float | None]:
    """Rule 2."""
    alike, pixel_mm = likeness.Likeness(), stack.planes[0].geometry.spacing_mm
    kept: list[list[Any]] = [[], [], [], []]
    for plane, hu in zip(stack.planes, slices, strict=True):
        alike.add(plane.native, hu)
        one, other = (anatomy.masks(v, pixel_mm) for v in (plane.native.astype(np.float32), hu))
        for masks, mask in zip(kept, (one.body, one.lungs, other.body, other.lungs), strict=True):
            masks.append(mask)
    return {
        "psnr_db": alike.psnr_db,
        "ssim": alike.ssim,
        "body_dice": anatomy.dice(kept[0], kept[2]),
        "lungs_dice": anatomy.dice(kept[1], kept[3]),
    }


def written(folder: Path, slices: Sequence[F32], out: Path) -> None:
    """The series in `folder` with these slices, from the feet up, as files of `out`."""
    sources = host_slices(folder)
    if len(sources) != len(slices):
        raise DataError(f"{folder}: {len(sources)} images, {len(slices)} slices")
    for number, (source, hu) in enumerate(zip(sources, slices, strict=True)):
        before = source.pixel_array * float(source.RescaleSlope) + float(source.RescaleIntercept)
        uids = (
            source.StudyInstanceUID,
            source.SeriesInstanceUID,
            source.FrameOfReferenceUID,
            source.SOPInstanceUID,
        )
        data = changed_slice(source, before.astype(np.float32), hu, uids, str(source.PatientID))
        (out / f"{number:04d}.dcm").write_bytes(data)


def looked_at(opened: Opened, folder: Path, spacing_mm: float | None) -> dict[str, Any]:
    """One series at one spacing (None: as it is): likeness, what is reported, every candidate."""
    alike: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as temp:
        shown = folder
        if spacing_mm is not None:
            stack = stack_of(opened, folder)
            slices = there_and_back(stack, spacing_mm)
            alike, shown = compared(stack, slices), Path(temp)
            written(folder, slices, shown)
        reported = analysed(opened, shown)
        every = analysed(opened, shown, everything=True)
    return {
        "status": reported.status.value,
        **alike,
        **{
            name: [[*f.center_lps_mm, f.diameter_mm, f.score] for f in findings_of(result)]
            for name, result in (("reported", reported), ("every", every))
        },
    }


def kept(path: Path, opened: Opened, folder: Path, spacing_mm: float | None) -> dict[str, Any]:
    """`looked_at`, from the file where it is there (rule 4)."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(looked_at(opened, folder, spacing_mm)))
        print(path, flush=True)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _findings(rows: Sequence[Sequence[float]]) -> list[Finding]:
    return [Finding((x, y, z), diameter, score) for x, y, z, diameter, score in rows]


def row(
    known: Sequence[Known], as_it_is: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """One line of the table, of all series."""
    looked = [
        Looked(k, _findings(f["every"]), _findings(f["reported"]))
        for k, f in zip(known, found, strict=True)
    ]
    hits = [_hits(k, f) for k, f in zip(known, found, strict=True)]
    before = [_hits(k, f) for k, f in zip(known, as_it_is, strict=True)]
    figures = of_series(looked)
    means = {
        name: round(float(np.mean([f[name] for f in found])), 4)
        for name in ("psnr_db", "ssim", "body_dice", "lungs_dice")
        if all(f.get(name) is not None for f in found)
    }
    names = "operating_point", "cpm", "cpm_interval", "by_size"
    return {
        **means,
        **{name: figures[name] for name in names},
        "lost": sum(len(b - h) for b, h in zip(before, hits, strict=True)),
        "gained": sum(len(h - b) for b, h in zip(before, hits, strict=True)),
        "change": _change(known, before, hits),
    }


def _hits(known: Known, found: dict[str, Any]) -> set[int]:
    """The nodules of a series that are reported."""
    return {v for v in marks_of(_findings(found["reported"]), known).verdicts.tolist() if v >= 0}


def _change(known: Sequence[Known], before: Sequence[set[int]], after: Sequence[set[int]]) -> Any:
    """Sensitivity less that as it is, with an interval over series (rule 3)."""
    n = np.array([len(k.rows) for k in known])
    more = np.array([len(a) - len(b) for a, b in zip(after, before, strict=True)])
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(n), (DRAWS, len(n)))
    drawn = more[picks].sum(axis=1) / n[picks].sum(axis=1)
    estimate = between(float(more.sum() / n.sum()), drawn)
    return {"value": round(estimate.value, 4), "interval": interval(estimate)}


def table(opened: Opened, data: Path, spacings: Sequence[float], work: Path) -> dict[str, Any]:
    """The whole, by spacing; "as it is" first. DataError without a series."""
    folders = sorted(p for p in data.iterdir() if (p / "truth.json").exists())
    if not folders:
        raise DataError(f"{data}: no sub-folder holds a truth.json")
    known = [only(known_of(folder), "implant") for folder in folders]
    found = {
        str(mm or "as it is"): [
            kept(work / f"{folder.name}-{mm or 'as-it-is'}.json", opened, folder, mm)
            for folder in folders
        ]
        for mm in (None, *spacings)
    }
    as_it_is = found["as it is"]
    return {
        "bundle": opened.bundle.ref.model_dump(),
        "series": [folder.name for folder in folders],
        "nodules": sum(len(k.rows) for k in known),
        "rows": {name: row(known, as_it_is, of) for name, of in found.items()},
        "per_series": {
            name: [{k: v for k, v in one.items() if k not in ("every", "reported")} for one in of]
            for name, of in found.items()
        },
    }


def main() -> None:
    """Reads the command line, prints the table."""
    parser = argparse.ArgumentParser(description="Likeness beside sensitivity.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--spacing", type=float, nargs="+", default=list(SPACINGS_MM), help="mm")
    parser.add_argument("--work", type=Path, help="keeps what was found, to go on with")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if min(given.spacing) <= 0:
        parser.error("--spacing is above 0")
    with tempfile.TemporaryDirectory() as temp:
        work = given.work or Path(temp)
        figures = table(open_bundle(given.bundle, 1), given.data, given.spacing, work)
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    print(f"{figures['nodules']} nodules in {len(figures['series'])} series")
    for name, one in figures["rows"].items():
        print(f"{name}: " + "; ".join(f"{k} {v}" for k, v in one.items()))


if __name__ == "__main__":
    command(main)
