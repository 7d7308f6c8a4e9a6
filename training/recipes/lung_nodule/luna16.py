"""LUNA16 as the recipes want it: patches for the classifier, DICOM series for the whole line.

    python -m training.recipes.lung_nodule.luna16 ROOT --patches patches.npz
        [--negatives 20] [--seed 1]
    python -m training.recipes.lung_nodule.luna16 ROOT --series FOLDER [--split val] [--most 32]

`python -m training.run lung-nodule --luna16 ROOT` calls it (`luna16_stages`). ROOT is LUNA16's own
layout: subset0 to subset9 with .mhd and .raw, annotations.csv and candidates.csv or
candidates_V2.csv beside them or in a folder `CSVFILES`; where it has `seg-lungs-LUNA16`, these are
the lungs that the mask of the lungs learns from.

Rules.
1. Splits are those of the study index: LUNA16's subset8 is val, subset9 is test, the rest train. A
   scan is in one split, and so are all of its patches. Scans of `read.left_out` are in none.
2. A patch is what the device cuts: 50 x 50 native pixels of the nearest slice (reference.patches),
   HU -1000..400 as 0..255. Its label is its candidate's class. Candidates of class 0 near a nodule
   are left out: a known lesion is never a negative (readers.negatives).
3. A series is the scan as CT images with `truth.json` of its annotated nodules, for
   training.evaluate. Nothing in it says whose it is: its UIDs are derived from the scan's own.
4. A file or folder appears whole or not at all. With --keep what is there already stays.
5. What is cut says where it comes from (`read.origin`).
6. LUNA16's lungs are two labels without what is dense at the pleura, so they are closed as those of
   `read.lung_truth` are, and kept where the recipes look for lungs (`shared_series.host_lungs`).
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from appliance.preprocess import reference
from training.errors import DataError, command
from training.implant.series import uid_of
from training.read.datasets import SPLITS, Mark, negatives, read, read_annotations, read_candidates
from training.read.files import whole, whole_folder
from training.read.folders import work_folder
from training.read.left_out import KEY, SERIES
from training.read.lung_truth import close
from training.read.origin import FILE as ORIGIN
from training.read.origin import Origin
from training.read.study_index import TEST_FOLD, VAL_FOLD, write_whole
from training.read.volume import HIGH_HU, LOW_HU, Volume, resample, stack_of

PATCH = 50
TABLES = ("", "CSVFILES")
LUNGS, LUNG_LABELS = "seg-lungs-LUNA16", (3, 4)
GRID_MM, CLOSE_MM = 1.5, 9.0
NAME, LICENCE = "LUNA16 (LIDC-IDRI)", "CC BY 4.0"
CANDIDATES = ("candidates_V2.csv", "candidates.csv")


def scans(root: Path) -> Iterator[tuple[str, Path]]:
    """(split, .mhd) of each scan, subset by subset, but for those of `read.left_out`."""
    found = False
    for number in range(10):
        split = {VAL_FOLD: "val", TEST_FOLD: "test"}.get(number, "train")
        for path in sorted((root / f"subset{number}").glob("*.mhd")):
            found = True
            if path.stem not in SERIES:
                yield split, path
    if not found:
        raise DataError(f"{root}: no subset0 to subset9 with .mhd files in it: not LUNA16's layout")


def table(root: Path, *names: str) -> Path:
    """A table of LUNA16 by its first name that is there."""
    for folder in TABLES:
        for name in names:
            if (root / folder / name).is_file():
                return root / folder / name
    raise DataError(f"{root}: no {' or '.join(names)} in it")


def patches(volume: Volume, marks: Sequence[Mark]) -> npt.NDArray[np.uint8]:
    """Patches [n, 50, 50] around marks, HU LOW_HU..HIGH_HU as 0..255 (rule 2)."""
    hu = reference.patches(stack_of(volume), [mark.center_lps_mm for mark in marks], PATCH)[:, 0]
    scaled = reference.window(hu, LOW_HU, HIGH_HU)
    return np.asarray(np.rint(scaled * 255), np.uint8)


def patch_file(root: Path, most_negatives: int, seed: int) -> bytes:
    """The npz that `classify` reads: images and labels of each split that has scans."""
    candidates = read_candidates(table(root, *CANDIDATES))
    nodules = read_annotations(table(root, "annotations.csv"))
    rng = np.random.default_rng(seed)
    found: dict[str, list[tuple[npt.NDArray[np.uint8], int]]] = {}
    for split, path in scans(root):
        ours, marked = candidates.get(path.stem, []), nodules.get(path.stem, [])
        yes = [mark for mark in ours if mark.nodule]
        no = negatives(ours, marked)
        no = [no[i] for i in sorted(rng.permutation(len(no))[:most_negatives])]
        if not yes and not no:
            continue
        cut = patches(read(path), [*yes, *no])
        found.setdefault(split, []).extend(
            (patch, int(i < len(yes))) for i, patch in enumerate(cut)
        )
        print(f"{path.parent.name}/{path.stem}: {len(yes)} nodules, {len(no)} others", flush=True)
    if "train" not in found:
        raise DataError(f"{root}: no candidate in subset0 to subset7 to train on")
    said = Origin(f"{NAME}, patches", LICENCE).text()
    arrays: dict[str, npt.NDArray[Any]] = {"left_out": np.array(KEY), "origin": np.array(said)}
    for split, pairs in found.items():
        arrays[f"{split}_images"] = np.stack([patch for patch, _ in pairs])
        arrays[f"{split}_labels"] = np.array([label for _, label in pairs], np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def ct_image(volume: Volume, number: int, uids: Sequence[str]) -> bytes:
    """Slice `number` of a canonical volume as a CT image (PS3.3 A.3); `uids`: study, series, frame
    of reference."""
    x, y, z = volume.lps(np.array([number, 0, 0]))
    dz, dy, dx = volume.spacing
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid_of(uids[1], number)
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = uids
    image.Modality, image.BodyPartExamined = "CT", "CHEST"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PatientID, image.PatientName, image.PatientIdentityRemoved = uids[0][-16:], "", "YES"
    image.InstanceNumber = number + 1
    image.ImagePositionPatient = [f"{v:.4f}" for v in (x, y, z)]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = [f"{dy:.6f}", f"{dx:.6f}"], f"{dz:.4f}"
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, 0, "HU"
    image.Rows, image.Columns = volume.hu.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.PixelData = np.clip(np.rint(volume.hu[number]), -32768, 32767).astype("<i2").tobytes()
    image["PixelData"].VR = "OW"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    pydicom.dcmwrite(out, image, enforce_file_format=True)
    return out.getvalue()


def chosen(
    every: Sequence[tuple[str, Path]], nodules: Mapping[str, Sequence[Mark]], split: str, most: int
) -> list[Path]:
    """The scans of a split, at most so many (0: all): those with the most nodules first, then in an
    order that nobody chose."""
    paths = [path for of, path in every if of == split]
    paths.sort(
        key=lambda path: (-len(nodules.get(path.stem, [])), sha256(path.stem.encode()).hexdigest())
    )
    return paths[:most] if most else paths


def keep_lungs(root: Path, name: str, cache: Path) -> bool:
    """Keeps LUNA16's lungs of a scan for the recipes (rule 6); False where it has none."""
    path = root / LUNGS / f"{name}.mhd"
    if not path.exists():
        return False
    labels = read(path)
    share = resample(
        np.isin(labels.hu, LUNG_LABELS).astype(np.float32), labels.spacing, [GRID_MM] * 3
    )
    with whole(cache / f"{name}-lungs.npz") as file:
        np.savez_compressed(file, mask=close(share >= 0.5, CLOSE_MM, GRID_MM))
    return True


def write_series(path: Path, nodules: Sequence[Mark], out: Path, split: str) -> int:
    """One scan as a folder of CT images with truth.json and origin.json (rules 3 to 5); how many
    slices."""
    volume = read(path)
    kinds = "study", "series", "frame of reference"
    uids = [uid_of("scanside.luna16", kind, path.stem) for kind in kinds]
    with whole_folder(out, "--series") as part:
        for number in range(len(volume.hu)):
            (part / f"{number:04d}.dcm").write_bytes(ct_image(volume, number, uids))
        truth = [{"center_lps_mm": m.center_lps_mm, "diameter_mm": m.diameter_mm} for m in nodules]
        (part / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
        said = Origin(f"{NAME}, scans of {split}", LICENCE, split)
        (part / ORIGIN).write_text(said.text() + "\n")
    return len(volume.hu)


def main() -> None:
    """Patches or series, or one line that says why not."""
    parser = argparse.ArgumentParser(description="LUNA16 for the recipes.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--patches", type=Path, help="npz to write")
    parser.add_argument("--series", type=Path, help="folder to write a sub-folder a scan into")
    parser.add_argument("--split", choices=SPLITS, default="val", help="of the series (val)")
    parser.add_argument("--negatives", type=int, default=20, help="most of a scan (20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=0, help="scans of the split; 0: all (0)")
    parser.add_argument("--keep", action="store_true", help="leave what is there as it is")
    given = parser.parse_args()
    if (given.patches is None) == (given.series is None):
        parser.error("name --patches or --series")
    if given.patches is not None:
        if given.keep and given.patches.exists():
            print(f"{given.patches} is there already")
            return
        write_whole(given.patches, patch_file(given.root, given.negatives, given.seed))
        print(given.patches)
        return
    nodules = read_annotations(table(given.root, "annotations.csv"))
    for path in chosen(list(scans(given.root)), nodules, given.split, given.most):
        out = given.series / path.stem
        if not (given.keep and out.exists()):
            slices = write_series(path, nodules.get(path.stem, []), out, given.split)
            drawn = keep_lungs(given.root, path.stem, work_folder("cache"))
            print(f"{out}: {slices} slices{', lungs of its own' if drawn else ''}", flush=True)


if __name__ == "__main__":
    command(main)
