"""Writes the source folder of the lung-nodule bundle from its quantised networks.

    python -m training.recipes.lung_nodule.export [--out build/lung-nodule] ...

Networks come from the runs' folders, where `quantize` put them; heads and figures from the files
that `calibrate`, `calibrate_masses` and `judge_measure` wrote. An optional network (cube, mass,
measure) is left out where its run is named "". Sources and notes are of what the runs wrote of
themselves (`ship.learned`), so this module knows no data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.bundle.heads import Calibration, MassHead
from training.errors import RunError, command
from training.learn.knobs import knobs_from_command_line
from training.read.folders import work_folder
from training.read.image_files import bytes_of
from training.read.left_out import PATIENTS
from training.recipes.lung_nodule import bundle, figures
from training.recipes.lung_nodule.golden_inputs import record
from training.ship import learned, shapes
from training.ship.provenance import provenance
from training.ship.source_folder import copied, precision_named, read_json, write


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    out: str = "build/lung-nodule"  # source folder, relative to the working folder
    name: str = bundle.NAME  # of the bundle
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
    shapes: str = ""  # npz that `training.ship.shapes` wrote, for the probe
    version: str = "1.4.0"  # of the bundle: the one after what ships
    precision: str = "int8"  # or fp32: the float networks of the same runs


MASSES_MM = 10.0
"""Up to this spacing and thickness masses alone are looked for; the mass network saw slices of up
to 6 mm, and a mass of 25 mm still lies in two planes and more."""
LEFT_OUT = (
    f"No patch and no shape of {', '.join(PATIENTS)}: the first three are kept for tests "
    "elsewhere, the others are hosts of our own."
)


def notes(
    about: Mapping[str, Mapping[str, Any]], figures: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """What the card says of the networks and of their figures. `about`: role -> quantize.json;
    `figures`: what the judges wrote, who know what their figures are worth."""
    runs = (f"{role}: {learned_by(of['run'])}" for role, of in about.items())
    said = (note for one in figures for note in one.get("notes", ()))
    return (*runs, LEFT_OUT, *said)


def learned_by(run: Mapping[str, Any]) -> str:
    """One note on a run, by its knobs: its CTs by name, or how many series of the caller's own."""
    hosts = [name for name in str(run.get("hosts", "")).split(",") if name]
    own = [name for name in hosts if "/" not in name]
    folders = len(hosts) - len(own)
    parts = [*own, *([f"{folders} series of a data set"] if folders else [])] or ["patches"]
    return f"run {run.get('name', '')}, learned from {', '.join(parts)}."


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
    disease, nodules = read(k.disease), read(k.figures)
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
        learned.of_runs(named.values()),
        about["propose"]["run"]["seed"],
        {
            **figures.of_patches(metrics),
            **figures.of_implants(nodules),
            **figures.of_scans(nodules),
            **figures.of_certainty(nodules),
            **figures.of_masses(read(k.mass_figures)),
            **figures.of_measures(read(k.measure_figures)),
            **figures.of_disease(disease),
        },
        notes(about, [nodules]),
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
        name=k.name,
    )
    if k.shapes:
        described |= shapes.beside(out, bytes_of(Path(k.shapes)), described)
    write(out, described, heads, {run: found for run, found in metrics.items() if found}, about)


if __name__ == "__main__":
    command(main)
