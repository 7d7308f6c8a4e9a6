"""Measures a bundle on data that nobody trained on.

    python -m training.evaluate BUNDLE DATA [--split val] [--json]
    python -m training.evaluate BUNDLE --series R01-001 C3N-00247

BUNDLE is a `.scanside` file or a source folder. DATA is an npz of patches (`<split>_images`
[N,50,50] uint8 for HU -1000..400, `<split>_labels`), for a bundle of radiographs one of
MedMNIST's (`<split>_images` [N,28,28] uint8), or a folder with one sub-folder a series:
DICOM files and `truth.json` ([{center_lps_mm, diameter_mm}], perhaps with kind, place and origin),
and perhaps `ignore.json` of the same form: lesions that are neither to be found nor false
(`"ignore": true` in truth.json says the same). `--series` prints the findings of shared CTs
instead.

Rules.
1. Patches and radiographs of an npz enter at the bundle's `classify` network; a series goes through
   the appliance's line, from bytes.
2. The curve takes every candidate; the operating point is the bundle's own threshold and rules. A
   series that is not analysed has found nothing, and says why.
3. Where truth.json tells implants from the host's own lesions (`origin`), `apart` has every figure
   of each alone, where those of the other count neither way. Beside them stand those of both.
4. Nothing is chosen here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.bundle.manifest import Manifest
from appliance.bundle.trust import Bundle
from appliance.line import process
from appliance.lines import kinds
from appliance.records import Result
from training.errors import command
from training.implant.hosts import size_class
from training.judge.froc import Finding, Marks, Places, froc, interval, rows_of, shares, verdicts_of
from training.judge.metrics import auc_estimate, wilson
from training.judge.opened import Opened, open_bundle
from training.read.folders import shared_folder
from training.read.shared_series import Lesion, known_lesions, series_folder

SCHEMA = "scanside.evaluation/1"
NOT_SAID = "not said"


def of_images(
    opened: Opened, images: npt.NDArray[np.uint8], labels: npt.ArrayLike
) -> dict[str, Any]:
    """The figures of the network `classify` on images [n, y, x] that were cut for it: patches, or
    whole radiographs as it sees them. SystemExit where their size is not the network's."""
    manifest = opened.bundle.manifest
    try:
        p, threshold = kinds.of(manifest).scores(images, manifest, opened.backend)
    except ValueError as e:
        raise SystemExit(f"error: {e}") from e
    return of_scores(np.asarray(labels).reshape(-1), p, threshold)


def of_scores(
    labels: npt.ArrayLike, p: npt.NDArray[np.float64], threshold: float
) -> dict[str, Any]:
    """Figures of scores [n], called where they reach the threshold."""
    y = np.asarray(labels).astype(bool)
    called = p >= threshold
    found = auc_estimate(y, p)
    return {
        "n": len(y),
        "auc": round(found.value, 4),
        "auc_ci": [round(found.low, 4), round(found.high, 4)],
        "acc": round(float((called == y).mean()), 4),
        "sensitivity": round(float(called[y].mean()), 4),
        "specificity": round(float((~called[~y]).mean()), 4),
        "threshold": threshold,
        "per_image": [round(float(v), 5) for v in p],
    }


def analysed(opened: Opened, folder: Path, everything: bool = False) -> Result:
    """The appliance's result for a folder of DICOM files; with `everything`, every candidate."""
    bundle = opened.bundle
    if everything:
        manifest = bundle.manifest
        line = manifest.line.every_finding()
        limits = manifest.accepts.spacing_mm.model_copy(update={"limited_min_diameter_mm": 0.0})
        accepts = manifest.accepts.model_copy(update={"spacing_mm": limits})
        changed: Manifest = manifest.model_copy(update={"line": line, "accepts": accepts})
        bundle = Bundle(bundle.ref, changed)
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix != ".json")
    return process((p.read_bytes() for p in files), bundle, opened.backend)


def findings_of(result: Result) -> list[Finding]:
    """A result's findings as plain places with scores."""
    return [Finding(f.place_lps_mm, f.diameter_mm or 0.0, f.score) for f in result.findings]


@dataclass(frozen=True)
class Known:
    """What is known of a series: its nodules, what truth.json says of each, and what is ignored."""

    truth: Places
    rows: list[dict[str, Any]]
    ignored: Places


def known_of(folder: Path) -> Known:
    """truth.json and, if there is one, ignore.json; SystemExit names an entry that is none."""
    rows: list[dict[str, Any]] = []
    ignored: list[dict[str, Any]] = []
    for path in (folder / "truth.json", folder / "ignore.json"):
        if not path.exists():
            continue
        try:
            entries = json.loads(path.read_text())
            for entry in entries:
                x, y, z = (float(v) for v in entry["center_lps_mm"])
                aside = path.name == "ignore.json" or bool(entry.get("ignore"))
                known = {**entry, "at": (x, y, z), "diameter_mm": float(entry["diameter_mm"])}
                (ignored if aside else rows).append(known)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise SystemExit(f"error: {path}: not a list of center_lps_mm and diameter_mm") from e
    return Known(_places(rows), rows, _places(ignored))


def _places(rows: Sequence[dict[str, Any]]) -> Places:
    at = np.array([r["at"] for r in rows], np.float64).reshape(-1, 3)
    return Places(at, np.array([r["diameter_mm"] for r in rows], np.float64))


def marks_of(findings: Sequence[Finding], known: Known) -> Marks:
    """Findings with what each of them hits."""
    scores = np.array([f.score for f in findings], np.float64)
    at = np.array([f.center_lps_mm for f in findings], np.float64).reshape(-1, 3)
    return Marks(scores, verdicts_of(at, scores, known.truth, known.ignored), len(known.rows))


@dataclass(frozen=True)
class Looked:
    """One series: what is known of it, every candidate, and what the bundle reports."""

    known: Known
    every: list[Finding]
    reported: list[Finding]


def of_folder(opened: Opened, folder: Path) -> dict[str, Any]:
    """Free-response figures over the series of a folder, and apart by origin (rule 3)."""
    looked, per = [], []
    for sub in sorted(p for p in folder.iterdir() if (p / "truth.json").exists()):
        known, result = known_of(sub), analysed(opened, sub)
        reported = findings_of(result)
        every = findings_of(analysed(opened, sub, everything=True))
        looked.append(Looked(known, every, reported))
        verdicts = marks_of(reported, known).verdicts.tolist()
        per.append(
            {
                "series": sub.name,
                "status": result.status.value,
                "reasons": [reason.code.value for reason in result.reasons],
                "nodules": len(known.rows),
                "found": sum(v >= 0 for v in verdicts),
                "false": verdicts.count(-1),
                "findings": [
                    {"center_lps_mm": f.center_lps_mm, "score": round(f.score, 4), "hit": v}
                    for f, v in zip(reported, verdicts, strict=True)
                ],
            }
        )
    if not looked:
        raise SystemExit(f"error: no sub-folder of {folder} holds a truth.json")
    origins = sorted({origin_of(row) for one in looked for row in one.known.rows})
    apart = {
        origin: of_series([replace(one, known=only(one.known, origin)) for one in looked])
        for origin in origins
        if len(origins) > 1
    }
    return {**of_series(looked), **({"apart": apart} if apart else {}), "per_series": per}


def of_series(looked: Sequence[Looked]) -> dict[str, Any]:
    """The curve, the operating point, and the share found there by size, and by density and place
    where truth.json says them."""
    classes: dict[str, list[str]] = {"size": [], "kind": [], "place": []}
    seen: list[bool] = []
    false = 0
    for one in looked:
        verdicts = marks_of(one.reported, one.known).verdicts.tolist()
        false += verdicts.count(-1)
        for number, row in enumerate(one.known.rows):
            seen.append(number in verdicts)
            classes["size"].append(size_class(row["diameter_mm"]))
            classes["kind"].append(str(row.get("kind", NOT_SAID)))
            classes["place"].append(str(row.get("place", NOT_SAID)))
    found = froc([marks_of(one.every, one.known) for one in looked])
    return {
        "froc": rows_of(found),
        "cpm": round(found.cpm.value, 4),
        "cpm_interval": interval(found.cpm),
        "operating_point": {
            "sensitivity": round(sum(seen) / max(len(seen), 1), 4),
            "interval": interval(wilson(sum(seen), len(seen))),
            "fp_per_scan": round(false / len(looked), 4),
        },
        **{f"by_{name}": shares(seen, of) for name, of in classes.items() if set(of) - {NOT_SAID}},
    }


def origin_of(row: dict[str, Any]) -> str:
    """Whether a nodule of truth.json is the host's own or an implant."""
    return str(row.get("origin", NOT_SAID))


def only(known: Known, origin: str) -> Known:
    """The nodules of one origin; finding one of the others counts neither way."""
    rows = [row for row in known.rows if origin_of(row) == origin]
    others = _places([row for row in known.rows if origin_of(row) != origin])
    ignored = Places(
        np.concatenate([known.ignored.centers_mm, others.centers_mm]),
        np.concatenate([known.ignored.diameters_mm, others.diameters_mm]),
    )
    return Known(_places(rows), rows, ignored)


def table(name: str, findings: Sequence[Finding], lesions: Sequence[Lesion], least: float) -> str:
    """Findings with the marked lesions that they hit; those under the threshold without a star."""
    lines = [f"{name}: {sum(f.score >= least for f in findings)} findings at {least:g}"]
    for rank, f in enumerate(findings, 1):
        if f.score < least and rank > 10:
            break
        at = np.array(f.center_lps_mm)
        near = [e for e in lesions if np.linalg.norm(at - e.center_lps_mm) <= 10]
        mark = ("CANCER " if near[0].cancer else "") + near[0].what if near else ""
        place = " ".join(f"{v:5.0f}" for v in f.center_lps_mm)
        star = "*" if f.score >= least else " "
        lines.append(f"{rank:3d} {star} {f.score:.3f} {f.diameter_mm:5.1f} mm at {place}  {mark}")
    return "\n".join(lines)


def main() -> None:
    """Reads the command line, prints a summary or JSON."""
    parser = argparse.ArgumentParser(description="Measure a bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--split", default="val", help="of an npz (val)")
    parser.add_argument("--series", nargs="*", default=[], help="names of shared CTs")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.data is None and not given.series:
        parser.error("name DATA or --series")
    for path in (given.bundle, given.data):
        if path is not None and not path.exists():
            parser.error(f"{path} does not exist")
    opened = open_bundle(given.bundle)
    line = opened.bundle.manifest.line
    if not (line.takes_images and line.finds):
        parser.error(f"{given.bundle} finds nothing in images (docs/training.md)")
    if given.data is None:
        for name in given.series:
            found = findings_of(analysed(opened, series_folder(shared_folder(), name), True))
            lesions = known_lesions(shared_folder(), name)
            least = opened.bundle.manifest.line.least_score
            print(table(name, found, lesions, least))
        return
    figures: dict[str, Any] = {"schema": SCHEMA, "bundle": opened.bundle.ref.model_dump()}
    if given.data.is_dir():
        figures |= of_folder(opened, given.data)
    else:
        with np.load(given.data) as file:
            names = f"{given.split}_images", f"{given.split}_labels"
            if names[0] not in file:
                raise SystemExit(f"error: {given.data} has no {names[0]}, only {', '.join(file)}")
            figures |= of_images(opened, np.asarray(file[names[0]]), file[names[1]])
    if given.json:
        print(json.dumps(figures, indent=1))
    else:
        short = {k: v for k, v in figures.items() if not k.startswith("per_")}
        print("\n".join(f"{k}: {v}" for k, v in short.items()))


if __name__ == "__main__":
    command(main)
