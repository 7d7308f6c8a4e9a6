"""Candidates of the scans that judge a fold, kept with their pixels.

Rules.
1. A fold is a host and a proposal network that never saw it. Its scans are the host with implants
   of LIDC patients of val, one a seed, and last the host as it is.
2. Candidates, patches and cubes come from the appliance's own line and ops; another patch or cube
   network is then judged in seconds on what is kept.
3. A file is named by the digest of all that made it: networks, seeds, shapes, the host's marks, and
   the code of the implants. It appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.backend.protocol import Backend
from appliance.bundle.heads import Calibration
from appliance.interpret import classify
from appliance.preprocess import reference
from appliance.records import Tensor
from training.errors import RunError
from training.implant import hosts, nodules
from training.implant.donors import cached_shapes, shapes_file
from training.implant.hosts import Host, load_host, size_class, to_lps, with_implants
from training.judge.froc import Places, verdicts_of
from training.read import volume as grids
from training.read.files import file_digest, whole
from training.read.folders import shared_folder, work_folder
from training.read.lung_truth import dilate
from training.read.shared_series import known_lesions, nodule_hosts
from training.read.volume import F32, F64, Volume, stack_of
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.proposals import onnx_backend, proposed

F16 = npt.NDArray[np.float16]

MASS_MM = 1.5  # grid of Host.ignored
BESIDE_MM = 6.0
"""A finding so near a boxed mass is of it."""


@dataclass(frozen=True)
class Fold:
    """What decides about a file of candidates."""

    host: str
    propose: str  # run of a proposal network that left the host out
    segment: str = "segment"
    network: str = "int8.onnx"
    seeds: int = 8
    top: int = 32
    within_mm: float = 5.0  # of the lung mask


@dataclass(frozen=True)
class Kept:
    """n candidates of the scans of a fold, best first in each; the last scan has no implants."""

    scan: npt.NDArray[np.int64]  # [n]
    center_lps_mm: F64  # [n, 3]
    diameter_mm: F64  # [n]
    heat: F64  # [n] heat logit
    patches: F16  # [n, 48, 48] in [0, 1]
    cubes: F16  # [n, 32, 32, 32] in [0, 1]
    aside: npt.NDArray[np.bool_]  # [n] at the host's boxed mass
    truth: list[list[dict[str, Any]]]  # of each scan, as in truth.json
    lesions: list[dict[str, Any]]  # the host's own, to be found; `by_eye` where engineers say so
    unsure: list[dict[str, Any]]  # its own that too few radiologists marked

    def verdicts(self, scan: int) -> npt.NDArray[np.int64]:
        """Of the candidates of one scan, best heat first (see `froc.verdicts_of`); the host's own
        lesions, sure or not, are neither hits nor false."""
        own = self.scan == scan
        found = verdicts_of(
            self.center_lps_mm[own],
            self.heat[own],
            places_of(self.truth[scan]),
            places_of([*self.lesions, *self.unsure]),
        )
        return np.where((found == -1) & self.aside[own], -2, found)


def places_of(rows: list[dict[str, Any]]) -> Places:
    """Centres and diameters of rows of truth.json."""
    at = np.array([r["center_lps_mm"] for r in rows], np.float64).reshape(-1, 3)
    return Places(at, np.array([r["diameter_mm"] for r in rows], np.float64))


def kept(fold: Fold, threads: int = 1) -> Kept:
    """The fold's file, made now where there is none; RunError names a run that is not there,
    DataError a host that counts for masses alone."""
    nodule_hosts(fold.host)
    runs: dict[bundle.Role, str] = {"segment": fold.segment, "propose": fold.propose}
    files = {role: work_folder(run) / fold.network for role, run in runs.items()}
    if missing := [path for path in files.values() if not path.is_file()]:
        raise RunError(f"{missing[0]}: no such network; train and quantize it first")
    cache = work_folder("cache")
    shapes = cached_shapes(shared_folder(), cache, "val")
    marked = [asdict(lesion) for lesion in known_lesions(shared_folder(), fold.host)]
    known = json.dumps([asdict(fold), bundle.WITHIN_RADII, marked], sort_keys=True)
    code = [Path(str(module.__file__)) for module in (hosts, nodules, grids)]
    for path in [*files.values(), shapes_file(cache, "val"), *code]:
        known += file_digest(path)
    name = f"{fold.host}-{hashlib.sha256(known.encode()).hexdigest()[:16]}.npz"
    path = work_folder("fold-candidates") / name
    if not path.exists():
        host = load_host(shared_folder(), fold.host, cache)
        backend = onnx_backend(files, threads)
        scans: list[tuple[Volume, list[dict[str, Any]]]] = []
        parts: list[dict[str, Any]] = []
        for seed in range(fold.seeds):
            volume, done = with_implants(host, shapes, seed)
            rows = [
                {
                    "center_lps_mm": to_lps(host.volume, i.center_mm).tolist(),
                    "diameter_mm": i.diameter_mm,
                    "kind": i.kind,
                    "place": i.place,
                    "size": size_class(i.diameter_mm),
                }
                for i in done
            ]
            scans.append((volume, rows))
            parts.append(cut(volume, backend, fold))
        parts.append(cut(host.volume, backend, fold))
        save(path, parts, [rows for _, rows in scans] + [[]], host)
    return load(path)


def cut(volume: Volume, backend: Backend, fold: Fold) -> dict[str, Any]:
    """Candidates of one scan with their pixels."""
    line = bundle.line_model(Calibration(propose=1, classify=0, bias=0, threshold=0.5), fold.top)
    head = line.propose.model_copy(update={"within_mm": fold.within_mm})
    line = line.model_copy(update={"propose": head})
    stack = stack_of(volume)
    found = proposed(stack, backend, line)
    centers = [c.center_lps_mm for c in found]
    patches = backend.gather(stack, bundle.OPS["classify"], centers).data
    cubes = backend.gather(stack, bundle.OPS["cube"], centers).data
    return {
        "center_lps_mm": np.array(centers, np.float64).reshape(-1, 3),
        "diameter_mm": np.array([c.diameter_mm for c in found], np.float64),
        "heat": np.array([c.logits["propose"] for c in found], np.float64),
        "patches": np.asarray(patches, np.float16)[:, 0],
        "cubes": np.asarray(cubes, np.float16)[:, 0],
    }


def at_mass(host: Host, center_lps_mm: F64) -> npt.NDArray[np.bool_]:
    """[n] whether a place [n, 3] is at the host's boxed mass."""
    near = dilate(host.ignored, BESIDE_MM, MASS_MM)
    at = (host.volume.zyx(center_lps_mm) + 0.5) * host.volume.spacing / MASS_MM
    index = np.clip(at.astype(int), 0, np.array(near.shape) - 1)
    return np.asarray(near[tuple(index.T)], np.bool_)


def save(
    path: Path, parts: list[dict[str, Any]], truth: list[list[dict[str, Any]]], host: Host
) -> None:
    """Writes one npz, whole or not at all."""
    arrays: dict[str, Any] = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
    arrays["scan"] = np.repeat(np.arange(len(parts)), [len(p["heat"]) for p in parts])
    arrays["aside"] = at_mass(host, arrays["center_lps_mm"])
    lesions, unsure = (
        [
            {
                "center_lps_mm": to_lps(host.volume, t.center_mm).tolist(),
                "diameter_mm": t.diameter_mm,
                "by_eye": t.by_eye,
            }
            for t in some
        ]
        for some in (host.lesions, host.unsure)
    )
    with whole(path) as file:
        marks = np.array(json.dumps({"truth": truth, "lesions": lesions, "unsure": unsure}))
        np.savez(file, marks=marks, **arrays)


def load(path: Path) -> Kept:
    """What `save` wrote."""
    with np.load(path) as file:
        marks = json.loads(str(file["marks"]))
        arrays = {name: file[name] for name in file if name != "marks"}
    return Kept(**arrays, **marks)


def patch_logits(patches: F16, backend: Backend) -> F64:
    """Logit of each patch [n, 48, 48], averaged over the line's views."""
    head = bundle.line_model(Calibration(propose=1, classify=1, bias=0, threshold=0.5)).classify
    found = []
    for i in range(0, len(patches), 64):
        part = reference.views(np.asarray(patches[i : i + 64, None], np.float32), head.views)
        found.append(
            classify.logits(backend.infer("classify", Tensor(part, part.shape, None)), head)
        )
    return np.concatenate(found or [np.zeros(0, np.float32)]).astype(np.float64)


def cube_logits(cubes: F16, backend: Backend) -> F64:
    """Logit of each cube [n, 32, 32, 32]."""
    found: list[F32] = []
    for i in range(0, len(cubes), 32):
        part = np.asarray(cubes[i : i + 32, None], np.float32)
        outputs = backend.infer("cube", Tensor(part, part.shape, None))
        found.append(classify.cube_logits(outputs, bundle.CUBE_HEAD))
    return np.concatenate(found or [np.zeros(0, np.float32)]).astype(np.float64)
