"""Writes the source folder of the chest-pneumonia bundle from the quantised student.

    python -m training.recipes.chest_pneumonia.export [--out build/chest-pneumonia] ...

Rules. Nothing is trained and nothing is chosen here: network and heads come from the run's folder,
where `quantize` put them. The golden case is made of our own phantom, seen from the
front; it is recorded by onnxruntime, which computes Q/DQ as written, and its tolerance is what
OpenVINO's INT8 kernels differ on it, times three, and never below the least of the nodule bundle.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from appliance.phantom.chest import chest
from training.errors import RunError, command
from training.learn.knobs import knobs_from_command_line
from training.read.files import file_digest
from training.read.folders import shared_folder, work_folder
from training.read.volume import F32
from training.recipes.chest_pneumonia import bundle
from training.recipes.chest_pneumonia.figures import PLAIN, against
from training.recipes.chest_pneumonia.pneumonia_mnist import FILE, SIZE
from training.recipes.lung_nodule.export import FILES, code_digest
from training.ship import goldens


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    out: str = "build/chest-pneumonia"  # source folder, relative to the working folder
    name: str = "pneumonia"  # the run under the training work folder
    rivals: str = "pneumonia-teacher,pneumonia-alone"  # runs that the card compares it with
    version: str = "0.1.2"  # of the bundle
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


def radiograph(seed: int) -> F32:
    """Our phantom seen from the front, [28, 28] in [0, 1], bones bright."""
    phantom = chest(seed, spacing_mm=(4.0, 2.0, 2.0))
    dense = np.clip(phantom.hu.astype(np.float32) + 1000, 0, None)
    path = np.ascontiguousarray(dense.mean(axis=1)[::-1])  # through the body; head first
    edge = round(min(path.shape[0] * 2, path.shape[1]))
    path = cv2.resize(path, (path.shape[1], path.shape[0] * 2), interpolation=cv2.INTER_LINEAR)
    top, left = (path.shape[0] - edge) // 2, (path.shape[1] - edge) // 2
    small = cv2.resize(
        path[top : top + edge, left : left + edge], (SIZE, SIZE), interpolation=cv2.INTER_AREA
    )
    low, high = np.quantile(small, [0.02, 0.98])
    return np.asarray(np.clip((small - low) / max(high - low, 1e-6), 0, 1), np.float32)


def golden_case(network: bytes, out: Path) -> dict[str, Any]:
    """Writes one recorded run to golden/; returns the entry for it."""
    image = np.stack([radiograph(seed) for seed in range(4)])[:, None]
    image = np.concatenate([image, image**2, 0.5 + 0.4 * (image - 0.5)])
    return goldens.case("classify", bundle.network("0" * 64), network, image, out)


def read_json(path: Path) -> dict[str, Any]:
    """RunError where the run did not write it."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as e:
        raise RunError(f"{path}: not there or not whole; quantise the run first") from e


def figures_of(
    run: Path, metrics: dict[str, Any], quantised: dict[str, Any], rivals: list[str]
) -> dict[str, Any]:
    """The card's figures: name -> {value, low, high, n}."""
    out: dict[str, Any] = {}
    for precision, found in (("int8", metrics["int8"]), ("float", metrics)):
        low, high = found["auc_ci"]
        out[f"out_of_fold_auc_{precision}"] = figure([found["auc"], low, high], found["n"])
        for name in ("acc", "sensitivity", "specificity"):
            if precision == "int8":
                out[f"out_of_fold_{name}_int8"] = figure(found[name], found["n"])
    for name, copy in metrics["int8"]["copies"].items():
        if name != "plain":
            out[f"out_of_fold_auc_int8_{name}_copies"] = copy["auc"]
    for rival in rivals:
        found = read_json(work_folder(rival) / "metrics.json")
        what = rival.removeprefix("pneumonia-")
        out[f"out_of_fold_auc_{what}"] = figure([found["auc"], *found["auc_ci"]], found["n"])
        out[f"out_of_fold_auc_{what}_mean_of_copies"] = found["auc_of_copies"]
        d = against(run / "oof.npz", work_folder(rival) / "oof.npz")[PLAIN]
        gain = [d["difference"], d["low"], d["high"]]
        out[f"out_of_fold_auc_float_above_{what}"] = figure(gain, found["n"])
    out["out_of_fold_auc_int8_mean_of_copies"] = metrics["int8"]["auc_of_copies"]
    small, whole = quantised["weight_bytes"]
    out["weight_bytes_of_float"] = round(small / whole, 4)
    return out


def figure(values: list[float], n: int) -> dict[str, float]:
    """One entry of the manifest's figures, from [value, low, high] over n images."""
    value, low, high = values
    return {"value": value, "low": low, "high": high, "n": n}


def main() -> None:
    """Copy, check, write what goes beside the network."""
    k = knobs_from_command_line(Knobs())
    if k.precision not in FILES:
        raise SystemExit(f"error: --precision is one of {', '.join(FILES)}, not {k.precision!r}")
    precision: bundle.Precision = "int8" if k.precision == "int8" else "fp32"
    run = work_folder(k.name)
    quantised, metrics = read_json(run / "quantize.json"), read_json(run / "metrics.json")
    heads = read_json(run / "heads.json")
    out = Path(k.out)
    out.mkdir(parents=True, exist_ok=True)
    data = (run / FILES[precision]).read_bytes()
    path = out / bundle.FILE
    path.write_bytes(data)
    source = shared_folder() / FILE
    provenance = {
        "sources": [{"name": SOURCES, "licence": "CC BY 4.0", "digest": file_digest(source)}],
        "seed": metrics["knobs"]["seed"],
        "code_digest": code_digest(),
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "figures": figures_of(run, metrics, quantised, [r for r in k.rivals.split(",") if r]),
        "notes": list(NOTES),
    }
    about = {**quantised, "bytes": path.stat().st_size, "sha256": file_digest(path)}
    described = bundle.described(heads, provenance, [golden_case(data, out)], k.version, precision)
    for name, content in (
        ("heads", heads),
        ("metrics", metrics),
        ("provenance", {**provenance, "networks": {"classify": about}}),
        ("source", described),
    ):
        (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"source folder {out}")


if __name__ == "__main__":
    command(main)
