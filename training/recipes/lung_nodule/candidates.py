"""Candidates of implanted CTs for the 3D branch: native patches and cubes, with their labels.

    python -m training.recipes.lung_nodule.candidates --host R01-001
        --propose propose-fold-1

    host + seed -> implants -> other slices, mirrored, stretched -> lungs -> proposals -> cut, label

Rules.
1. What is cut is what the device cuts: the appliance's lung mask, proposals, patch and cube ops.
   The proposal network never saw the host, so that its mistakes are those of a new scan.
2. A scan is fixed by its seed: implants of LIDC patients of one split, slices between THINNEST_MM
   and THICKEST_MM (or the host's own), and, so that the same vessel is not always the same
   candidate, mirrored left and right and stretched. All is done after implanting, to host and
   nodule alike.
3. Label 1: the best candidate within a nodule's radius (at least HIT_MM), implant or marked lesion.
   Label 0: nowhere near any of them. All others are left out: second hits, what lies between, the
   boxed mass, and what may be a nodule (`Host.spots`, `Host.unsure`). A marked lesion is never a
   negative.
4. Nodules are also cut at a jittered centre (`found` is false), so that what the proposals miss is
   learnt too; judging counts found candidates alone.
5. A file is kept under the work folder, named by the digest of what made it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.backend.protocol import Backend
from appliance.bundle.heads import Calibration
from appliance.interpret import detect, segment
from appliance.preprocess import plan, reference
from appliance.preprocess.spec import Cube, Window
from appliance.quality.implant import Shape
from appliance.records import Candidate, Stack
from training.errors import DataError, RunError, command
from training.implant.donors import cached_shapes
from training.implant.hosts import Host, Target, load_host, with_implants
from training.learn.knobs import knobs_from_command_line
from training.read.files import file_digest, whole
from training.read.folders import shared_folder, work_folder
from training.read.left_out import KEY
from training.read.lung_truth import dilate
from training.read.shared_series import NODULE_SERIES
from training.read.volume import F32, F64, HIGH_HU, LOW_HU, Bool, Volume, stack_of
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.proposals import onnx_backend

U8 = npt.NDArray[np.uint8]

THINNEST_MM, THICKEST_MM = 1.25, 5.0
CUBE_MM = 0.8
PATCH, CUBE = 48, 40
"""Pixels and voxels; a network sees 32 of a cube's 40, the rest is room to turn and shift it."""
HIT_MM = 5.0
APART_MM = 6.0
"""A false candidate lies so much further from a nodule than its radius, and from the mass."""
WINDOW = Window(low=LOW_HU, high=HIGH_HU)
MASS_MM = 1.5  # grid of Host.ignored


@dataclass(frozen=True)
class Mining:
    """Everything that decides about a file of candidates."""

    host: str = "R01-001"
    propose: str = "propose-fold-1"  # run of a proposal network that left the host out
    segment: str = "segment"  # run of the lung network
    network: str = "int8.onnx"
    split: str = "train"  # of the LIDC patients whose shapes are implanted
    first: int = 1000  # seed of the first scan; calibration and judging have those below
    seeds: int = 24
    top: int = 96  # candidates of a scan: more than a line scores, so that it may choose
    jittered: int = 1  # cuts of each nodule at a jittered centre
    native: float = 0.3  # share of scans on the host's own slices
    mirrored: float = 0.5  # share of scans
    least_scale: float = 0.85  # log-uniform up to `most_scale`
    most_scale: float = 1.2


@dataclass(frozen=True)
class Candidates:
    """n candidates of some scans."""

    patches: U8  # [n, 48, 48], window 0-255, native pixels
    cubes: U8  # [n, 40, 40, 40], window 0-255, CUBE_MM
    labels: U8  # [n]
    found: Bool  # [n] by the proposal network, not put there
    real: Bool  # [n] a marked lesion
    heat: F32  # [n] heat logit; 0 where not found
    diameter: F32  # [n] mm, as proposed; of the truth where not found
    rank: npt.NDArray[np.int32]  # [n] place in the list of its scan, 0 the best; -1 where not found
    nodule: npt.NDArray[np.int32]  # [n] which nodule of its scan; -1 for a false one
    scan: npt.NDArray[np.int32]  # [n]
    truth: npt.NDArray[np.int32]  # [scans] implants a scan
    slice_mm: F32  # [scans]

    def __len__(self) -> int:
        """n."""
        return len(self.labels)

    def pick(self, which: Bool | npt.NDArray[np.intp]) -> Candidates:
        """Some of the candidates, of the same scans."""
        of_scans = {"truth", "slice_mm"}
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Candidates(**{k: v if k in of_scans else v[which] for k, v in fields.items()})


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Several files as one; scans are numbered on."""
    if not parts:
        raise ValueError("no candidates")
    starts = np.cumsum([0, *(len(p.truth) for p in parts[:-1])])
    moved = [replace(p, scan=(p.scan + s).astype(np.int32)) for p, s in zip(parts, starts)]  # noqa: B905
    names = [f.name for f in dataclasses.fields(Candidates)]
    return Candidates(**{n: np.concatenate([getattr(p, n) for p in moved]) for n in names})


@dataclass(frozen=True)
class Scan:
    """An implanted host as another scanner might have shown it; `targets` in mm z y x from the
    outer edge of its first voxel, the implants before the marked lesions."""

    volume: Volume
    targets: tuple[Target, ...]
    implants: int
    unsure: tuple[Target, ...]  # may be nodules: no candidate near one teaches anything
    mass: Bool  # [z, y, x] at MASS_MM * scale
    scale: float


def scan_of(host: Host, shapes: Sequence[Shape], mining: Mining, seed: int) -> Scan:
    """One scan of rule 2."""
    volume, implants = with_implants(host, shapes, seed)
    targets = [Target(i.center_mm, i.diameter_mm) for i in implants] + list(host.lesions)
    unsure = [*host.spots, *host.unsure]
    rng = np.random.default_rng([4021, seed])
    chances, at = rng.random(2), rng.random(2)
    own = volume.spacing[0]
    thickness = own
    if chances[0] >= mining.native:
        thickness = float(THINNEST_MM * (THICKEST_MM / THINNEST_MM) ** at[0])
    mirrored = bool(chances[1] < mining.mirrored)
    span = mining.most_scale / mining.least_scale
    scale = float(mining.least_scale * span ** at[1]) if chances[0] >= mining.native else 1.0
    volume = resliced(volume, thickness, host.noise_hu, rng)
    hu, mass = volume.hu, host.ignored
    if mirrored:
        wide = hu.shape[2] * volume.spacing[2]
        hu, mass = np.ascontiguousarray(hu[:, :, ::-1]), mass[:, :, ::-1]
        targets, unsure = (
            [
                Target((t.center_mm[0], t.center_mm[1], wide - t.center_mm[2]), t.diameter_mm)
                for t in some
            ]
            for some in (targets, unsure)
        )
    z, y, x = (s * scale for s in volume.spacing)
    stretched = Volume(volume.name, hu, (z, y, x), volume.origin)
    moved, doubtful = (
        tuple(
            Target(plan.vector(np.multiply(t.center_mm, scale)), t.diameter_mm * scale)
            for t in some
        )
        for some in (targets, unsure)
    )
    return Scan(stretched, moved, len(implants), doubtful, mass, scale)


def resliced(volume: Volume, thickness: float, noise_hu: float, rng: np.random.Generator) -> Volume:
    """The volume on slices of another thickness, by the line's own rule for z.

    Slices between the host's own are smooth along z; half the host's noise is added to those.
    """
    old = volume.spacing[0]
    if thickness == old:
        return volume
    weights = reference.axis_weights(volume.hu.shape[0], old, thickness)
    flat = weights @ volume.hu.reshape(volume.hu.shape[0], -1)
    hu = flat.reshape(-1, *volume.hu.shape[1:]).astype(np.float32)
    if thickness < old:
        hu += rng.standard_normal(hu.shape, dtype=np.float32) * np.float32(noise_hu / 2)
    x, y, z = volume.origin
    spacing = (thickness, volume.spacing[1], volume.spacing[2])
    return Volume(volume.name, hu, spacing, (x, y, z + (thickness - old) / 2))


def proposed(stack: Stack, backend: Backend, top: int) -> tuple[Candidate, ...]:
    """The line's candidates of a stack, best first."""
    line = bundle.line_model(Calibration(propose=1, classify=0, bias=0, threshold=0.5), top)
    image = backend.prepare(stack, bundle.OPS["segment"], None)
    lungs = segment.mask(backend.infer("segment", image), image, line.segment)
    if not lungs.voxels.any():
        return ()
    box = (lungs.grid, plan.box_of_mask(lungs, bundle.MARGIN_MM))
    image = backend.prepare(stack, bundle.OPS["propose"], box)
    return detect.candidates(backend.infer("propose", image), image, line.propose, lungs)


LEFT_OUT = -2


def labelled(centers: F64, scan: Scan) -> npt.NDArray[np.int32]:
    """Of candidates [n, 3] (mm z y x from the outer edge, best first) the target each one hits,
    -1 where it is false, LEFT_OUT where it is neither (rule 3)."""
    out = np.full(len(centers), -1, np.int32)
    taken: set[int] = set()
    near_mass = dilate(scan.mass, APART_MM / scan.scale, MASS_MM)
    middles = np.array([t.center_mm for t in scan.targets]).reshape(-1, 3)
    radii = np.array([t.diameter_mm / 2 for t in scan.targets])
    doubtful = np.array([t.center_mm for t in scan.unsure]).reshape(-1, 3)
    their_radii = np.array([t.diameter_mm / 2 for t in scan.unsure])
    for i, at in enumerate(centers):
        away = np.linalg.norm(middles - at, axis=1)
        hit = np.flatnonzero(away <= np.maximum(radii, HIT_MM))
        index = np.floor(at / (MASS_MM * scan.scale)).astype(int)
        index = np.clip(index, 0, np.array(near_mass.shape) - 1)
        if len(hit):
            best = int(hit[np.argmin(away[hit])])
            out[i] = LEFT_OUT if best in taken else best
            taken.add(best)
        elif (
            np.any(away <= np.maximum(radii, HIT_MM) + APART_MM)
            or np.any(
                np.linalg.norm(doubtful - at, axis=1) <= np.maximum(their_radii, HIT_MM) + APART_MM
            )
            or near_mass[tuple(index)]
        ):
            out[i] = LEFT_OUT
    return out


def cut(stack: Stack, centers: Sequence[tuple[float, float, float]]) -> tuple[U8, U8]:
    """Patches [n, 48, 48] and cubes [n, 40, 40, 40] around LPS centres, window 0-255."""

    def levels(hu: F32) -> U8:
        windowed = reference.window(hu[:, 0], WINDOW.low, WINDOW.high)
        return np.asarray(np.rint(windowed * 255), np.uint8)

    cubes = reference.cubes(stack, centers, Cube(size=CUBE, spacing_mm=CUBE_MM))
    return levels(reference.patches(stack, centers, PATCH)), levels(cubes)


def mined_of(scan: Scan, backend: Backend, mining: Mining, seed: int) -> Candidates:
    """The candidates of one scan."""
    stack = stack_of(scan.volume)
    found = proposed(stack, backend, mining.top)
    edge = np.array([c.center_lps_mm for c in found]).reshape(-1, 3)
    in_mm = (scan.volume.zyx(edge) + 0.5) * scan.volume.spacing
    verdicts = labelled(in_mm, scan)
    kept = np.flatnonzero(verdicts != LEFT_OUT)
    rng = np.random.default_rng([5003, seed])
    added: list[tuple[int, F64]] = []
    for _ in range(mining.jittered):
        for number, target in enumerate(scan.targets):
            reach = min(0.25 * target.diameter_mm, 3.0)
            at = np.asarray(target.center_mm) + rng.uniform(-reach, reach, 3)
            added.append((number, scan.volume.lps(at / scan.volume.spacing - 0.5)))
    centers = [found[i].center_lps_mm for i in kept] + [plan.vector(at) for _, at in added]
    nodule = np.array([*verdicts[kept], *(n for n, _ in added)], np.int32)
    patches, cubes = cut(stack, centers)
    return Candidates(
        patches=patches,
        cubes=cubes,
        labels=(nodule >= 0).astype(np.uint8),
        found=np.arange(len(centers)) < len(kept),
        real=nodule >= scan.implants,
        heat=np.array([*(found[i].logits["propose"] for i in kept), *(0.0 for _ in added)], "f4"),
        diameter=np.array(
            [
                *(found[i].diameter_mm for i in kept),
                *(scan.targets[n].diameter_mm for n, _ in added),
            ],
            np.float32,
        ),
        rank=np.array([*kept, *(-1 for _ in added)], np.int32),
        nodule=nodule,
        scan=np.zeros(len(centers), np.int32),
        truth=np.array([scan.implants], np.int32),
        slice_mm=np.array([scan.volume.spacing[0]], np.float32),
    )


def mined(host: Host, shapes: Sequence[Shape], backend: Backend, mining: Mining) -> Candidates:
    """The candidates of all scans of one host."""
    seeds = range(mining.first, mining.first + mining.seeds)
    return joined(
        [mined_of(scan_of(host, shapes, mining, seed), backend, mining, seed) for seed in seeds]
    )


def digest(mining: Mining) -> str:
    """Of the knobs, of both networks' files and of who gives no shape: what names a cached file."""
    files = [work_folder(run) / mining.network for run in (mining.segment, mining.propose)]
    known = json.dumps([asdict(mining), KEY], sort_keys=True)
    known += "".join(file_digest(f) for f in files)
    return hashlib.sha256(known.encode()).hexdigest()


def save(path: Path, candidates: Candidates, mining: Mining) -> None:
    """Writes one npz, whole or not at all."""
    arrays = {f.name: getattr(candidates, f.name) for f in dataclasses.fields(candidates)}
    with whole(path) as file:
        np.savez(file, mining=np.array(json.dumps(asdict(mining))), **arrays)


def load(path: Path) -> Candidates:
    """What `save` wrote."""
    with np.load(path) as file:
        return Candidates(**{f.name: file[f.name] for f in dataclasses.fields(Candidates)})


def cached(mining: Mining, threads: int = 1) -> Candidates:
    """The file of these knobs, mined now where there is none.

    DataError for a host that may not be trained on here; RunError names a run that is not there.
    """
    if mining.host not in NODULE_SERIES:
        raise DataError(
            f"{mining.host} may not be trained on; use one of {', '.join(NODULE_SERIES)}"
        )
    runs: dict[bundle.Role, str] = {"segment": mining.segment, "propose": mining.propose}
    files = {role: work_folder(run) / mining.network for role, run in runs.items()}
    if missing := [path for path in files.values() if not path.is_file()]:
        raise RunError(f"{missing[0]}: no such network; train and quantize it first")
    path = work_folder("candidates") / f"{mining.host}-{digest(mining)[:16]}.npz"
    if not path.exists():
        host = load_host(shared_folder(), mining.host, work_folder("cache"))
        shapes = cached_shapes(shared_folder(), work_folder("cache"), mining.split)
        found = mined(host, shapes, onnx_backend(files, threads), mining)
        save(path, found, mining)
        print(
            f"{path.name}: {len(found)} candidates, {int(found.labels.sum())} nodules", flush=True
        )
    return load(path)


def main() -> None:
    """Mines one host."""
    found = cached(knobs_from_command_line(Mining()))
    false = int((found.labels == 0).sum())
    hit = int((found.found & (found.labels == 1) & ~found.real).sum())
    print(f"{hit} of {int(found.truth.sum())} implants found, {false} false candidates")


if __name__ == "__main__":
    command(main)
