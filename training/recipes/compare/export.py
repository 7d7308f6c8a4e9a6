"""Writes the source folder of the lung-compare bundle, where its network beats demons.

    python -m training.recipes.compare.export --figures displace.json [--out build/lung-compare]

Rules. The network is float: INT8 would save milliseconds and move points by millimetres. It ships
only where the judge says so (its rule 3); else the appliance registers with demons, and one line
says so.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from appliance.bundle.manifest import Figure
from training.errors import command
from training.learn.knobs import knobs_from_command_line
from training.read.files import file_digest
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import TRAINING_SERIES, series_folder
from training.recipes.compare import bundle
from training.recipes.compare.golden_inputs import record
from training.recipes.compare.judge import network_of
from training.ship.onnx_file import exported_volumes, folded, require_parity
from training.ship.provenance import Source, folder_source, provenance
from training.ship.source_folder import read_json, write

NOTES = (
    "Figures are of synthetic pairs, by runs that left the CT out: errors of points in the lungs.",
    "The field is smooth: what slides on the wall or between lobes is drawn along.",
)


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    out: str = "build/lung-compare"  # source folder, relative to the working folder
    name: str = "displace"  # the run under the training work folder
    figures: str = ""  # what `judge` wrote; empty: displace.json of the work folder lung-compare
    version: str = "1.0.0"  # of the bundle


def sources(hosts: str) -> list[Source]:
    """The CTs that a run learned from."""
    named = [name for name in hosts.split(",") if name in TRAINING_SERIES]
    return [
        folder_source(f"CT {name}", TRAINING_SERIES[name], series_folder(shared_folder(), name))
        for name in named
    ]


def figures_of(judged: dict[str, Any]) -> dict[str, Figure | float]:
    """The card's figures: mm, of the network as it is asked, of demons and of the boxes alone."""
    shown = {"network": f"network x{judged['passes']}", "demons": "demons", "boxes": "boxes"}
    found: dict[str, Figure | float] = {}
    for what, name in shown.items():
        of = judged["all"][name]
        found |= {f"tre_{what}_{f}": Figure(value=of[f], n=of["n"]) for f in ("mean_mm", "p95_mm")}
    return found


def verdict(judged: dict[str, Any]) -> str:
    """One line: what ships, and why."""
    best, other = judged["all"][f"network x{judged['passes']}"], judged["all"]["demons"]
    said = "ships" if judged["ships"] else "does not ship: demons register better"
    return (
        f"the network {said} (p95 {best['p95_mm']} mm, mean {best['mean_mm']}; demons "
        f"{other['p95_mm']} and {other['mean_mm']}; {best['n']} points)"
    )


def main() -> None:
    """Judge's verdict, export, golden case, source folder."""
    k = knobs_from_command_line(Knobs())
    out = Path(k.out)
    judged = read_json(Path(k.figures or work_folder("lung-compare") / "displace.json"))
    print(verdict(judged))
    if not judged["ships"]:
        shutil.rmtree(out, ignore_errors=True)
        return
    knobs = read_json(work_folder(k.name) / "metrics.json")["knobs"]
    net = network_of(k.name)
    made = exported_volumes(folded(net), bundle.INPUTS, [bundle.OUTPUT], 8)
    rng = np.random.default_rng(0)
    images = {n: rng.random((1, 1, 16, 24, 32), np.float32) for n in bundle.INPUTS}
    torch.set_num_threads(1)
    require_parity(net, made, images)
    out.mkdir(parents=True, exist_ok=True)
    data = made.SerializeToString()
    (out / bundle.FILE).write_bytes(data)
    about = {"bytes": len(data), "sha256": file_digest(out / bundle.FILE)}
    origin = provenance(sources(knobs["hosts"]), knobs["seed"], figures_of(judged), NOTES)
    said = bundle.described(origin, [record(data, out)], k.version, judged["passes"])
    write(out, said, said["line"], judged, {"displace": about})


if __name__ == "__main__":
    command(main)
