"""Writes the source folder of the chest-pneumonia bundle from the quantised student.

    python -m training.recipes.chest_pneumonia.export [--out build/chest-pneumonia] ...

Network and heads come from the run's folder, where `quantize` put them, the bounds of certainty
from that of its double, the network that tells frontal views from a run of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.bundle.manifest import Figure
from appliance.quality.coverage import ClassCoverage
from appliance.report import ConformalBounds
from training.errors import command
from training.learn.knobs import knobs_from_command_line
from training.read.files import file_digest
from training.read.folders import shared_folder, work_folder
from training.recipes.chest_pneumonia import bundle, certainty, frontal_figures
from training.recipes.chest_pneumonia.figures import PLAIN, against
from training.recipes.chest_pneumonia.golden_inputs import record, record_frontal
from training.recipes.chest_pneumonia.pneumonia_mnist import FILE
from training.ship import learned
from training.ship.provenance import figure, file_source, provenance
from training.ship.source_folder import copied, precision_named, read_json, write


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    out: str = "build/chest-pneumonia"  # source folder, relative to the working folder
    name: str = "pneumonia"  # the run under the training work folder
    rivals: str = "pneumonia-teacher,pneumonia-alone"  # runs that the card compares it with
    double: str = "pneumonia-double"  # the run whose bounds it has
    frontal: str = "pneumonia-frontal"  # the run that tells frontal views; "" for none
    version: str = "0.1.5"  # of the bundle
    precision: str = "int8"  # or fp32: the float network of the same run


SOURCES = (
    "PneumoniaMNIST 28 px, train and val (MedMNIST v2; chest radiographs of Kermany et al., Cell "
    "2018)"
)
NOTES = (
    "Children of 1 to 5 years from one hospital (Guangzhou), 28 x 28 pixels: a demonstration.",
    (
        "Figures are out of fold (5 folds of groups of alike pictures, train and val together): "
        "each image is judged by a double that left its fold out, quantised alike. The network "
        "that ships saw all of them, so its own figures on train and val flatter it."
    ),
    (
        "The published test split is another population than train and val: expect fewer right "
        "calls there. Normal images of train and val are sharper and richer in contrast than the "
        "others; training draws exposure and sharpness anew to break that, and the figures of "
        "shifted copies say how far it went."
    ),
    (
        "score = the probability of pneumonia where half of the patients have it. The threshold "
        "is the largest sensitivity + specificity out of fold over the images and their shifted "
        "copies: no share of ill patients moves it, and it calls fewer images than one that knows "
        "these images alone."
    ),
)


def figures_of(
    run: Path, metrics: dict[str, Any], quantised: dict[str, Any], rivals: list[str]
) -> dict[str, Figure | float]:
    """The card's figures."""
    out: dict[str, Figure | float] = {}
    for precision, found in (("int8", metrics["int8"]), ("float", metrics)):
        out[f"out_of_fold_auc_{precision}"] = figure(found["auc"], found["auc_ci"], found["n"])
        for name in ("acc", "sensitivity", "specificity"):
            if precision == "int8":
                out[f"out_of_fold_{name}_int8"] = figure(
                    found[name][0], found[name][1:], found["n"]
                )
    for name, copy in metrics["int8"]["copies"].items():
        if name != "plain":
            out[f"out_of_fold_auc_int8_{name}_copies"] = copy["auc"]
    for rival in rivals:
        found = read_json(work_folder(rival) / "metrics.json")
        what = rival.removeprefix("pneumonia-")
        out[f"out_of_fold_auc_{what}"] = figure(found["auc"], found["auc_ci"], found["n"])
        out[f"out_of_fold_auc_{what}_mean_of_copies"] = found["auc_of_copies"]
        d = against(run / "oof.npz", work_folder(rival) / "oof.npz")[PLAIN]
        gain = figure(d["difference"], [d["low"], d["high"]], found["n"])
        out[f"out_of_fold_auc_float_above_{what}"] = gain
    out["out_of_fold_auc_int8_mean_of_copies"] = metrics["int8"]["auc_of_copies"]
    small, whole = quantised["weight_bytes"]
    out["weight_bytes_of_float"] = round(small / whole, 4)
    return out


def main() -> None:
    """Copy, check, write what goes beside the network."""
    k = knobs_from_command_line(Knobs())
    precision = precision_named(k.precision)
    run, out = work_folder(k.name), Path(k.out)
    metrics, heads = read_json(run / "metrics.json"), read_json(run / "heads.json")
    out.mkdir(parents=True, exist_ok=True)
    data, about = copied(run, precision, out / bundle.FILE)
    fitted = read_json(work_folder(k.double) / certainty.NAME)
    bounds = ConformalBounds.model_validate(fitted["bounds"])
    classes = {
        name: ClassCoverage.model_validate_json(json.dumps(one))
        for name, one in fitted["coverage"][PLAIN].items()
    }
    told = frontal_figures.read(work_folder(k.frontal)) if k.frontal else None
    made = provenance(
        learned.union(
            [
                file_source(SOURCES, "CC BY 4.0", shared_folder() / FILE),
                *(learned.of_runs([k.frontal]) if told else ()),
            ]
        ),
        metrics["knobs"]["seed"],
        {
            **figures_of(run, metrics, about, [r for r in k.rivals.split(",") if r]),
            **certainty.figures(classes),
            **(told.card if told else {}),
        },
        (*NOTES, certainty.note(bounds), *((told.note,) if told else ())),
    )
    goldens, networks = [record(data, out)], {"classify": about}
    if told is not None:
        first = out / bundle.FRONTAL_FILE
        first.write_bytes(told.network)
        goldens.append(record_frontal(told.network, out))
        networks["frontal"] = {"sha256": file_digest(first)}
    head = told.head if told else None
    described = bundle.described(heads, made, goldens, k.version, precision, bounds, head)
    write(out, described, heads, metrics, networks)


if __name__ == "__main__":
    command(main)
