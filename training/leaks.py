"""The leak check: no patient and no picture in two splits.

    python -m training.leaks index.csv      # of training.read.study_index
    python -m training.leaks images.npz     # MedMNIST's layout
    python -m training.leaks patches.npz --hosts R01-001 A0001   # LUNA16's, and in these shared CTs

Rules. A leak is one line that names both sides; any leak ends the command with exit code 1. Three
things are compared between splits: the patient, the exact pixels, and the fingerprint, which sees
near-duplicates: noise, another kernel, mirrored and turned copies (which it names). Within one
split nothing is compared. Images of an npz carry no patient: no claim is made about it, and the
last line says so. Patches that tell who they are of (`luna_row`) are looked at without those that
`read.left_out` names, as the recipes read them; with `--hosts` each is also searched in every slice
of these CTs (`read.patch_search`), which takes minutes a CT.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.errors import DataError, command
from training.read.datasets import SPLITS, read_medmnist
from training.read.fingerprint import LIKE, of_image, views
from training.read.folders import shared_folder
from training.read.left_out import kept_rows
from training.read.patch_search import places_of
from training.read.shared_series import training_series
from training.read.study_index import read_index
from training.read.volume import F32, Volume

SHOWN = 20
_CHUNK = 512


@dataclass(frozen=True)
class Item:
    """A scan or an image that belongs to a split."""

    name: str
    split: str
    patient: str  # "" where it is not known
    digest: str
    fingerprint: F32


class Leaks(DataError):
    """The splits are not apart; `lines` has one line a leak."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(f"{len(lines)} leaks between splits, the first: {lines[0]}")
        self.lines = tuple(lines)


def check(items: Sequence[Item], like: float = LIKE) -> None:
    """Raises Leaks where two splits share a patient or a picture."""
    lines = [*_shared(items), *_near(items, like)]
    if lines:
        raise Leaks(lines)


def _shared(items: Sequence[Item]) -> Iterator[str]:
    """The same patient or the very same pixels: the first of each split stands for all."""
    for what in ("patient", "digest"):
        first: dict[str, dict[str, Item]] = {}
        for item in items:
            if value := getattr(item, what):
                first.setdefault(value, {}).setdefault(item.split, item)
        for value, splits in first.items():
            for a, b in itertools.combinations(splits.values(), 2):
                how = f"of one patient ({value})" if what == "patient" else "the same pixels"
                yield f"{_name(a)} and {_name(b)} are {how}"


def _name(item: Item) -> str:
    return f"{item.name} ({item.split})"


def _near(items: Sequence[Item], like: float) -> Iterator[str]:
    """Near-duplicates between splits, each pair once, by its most similar view."""
    by_split = [[i for i in items if i.split == split] for split in dict.fromkeys(SPLITS)]
    for left, right in itertools.combinations([s for s in by_split if s], 2):
        turned = [
            (how, np.ascontiguousarray(v).reshape(len(right), -1))
            for how, v in views(np.stack([i.fingerprint for i in right]))
        ]
        for start in range(0, len(left), _CHUNK):
            some = left[start : start + _CHUNK]
            flat = np.stack([i.fingerprint for i in some]).reshape(len(some), -1)
            alike = np.stack([flat @ v.T for _, v in turned])  # [view, left, right]
            view, best = alike.argmax(0), alike.max(0)
            for a, b in np.argwhere(best >= like):
                if some[a].digest == right[b].digest:
                    continue
                how = turned[view[a, b]][0]
                yield (
                    f"{_name(some[a])} and {_name(right[b])} are near-duplicates: "
                    f"similarity {best[a, b]:.3f}{', ' * bool(how)}{how}"
                )


def of_index(path: Path) -> list[Item]:
    """The scans of a study index."""
    return [Item(s.path, s.split, s.patient, s.digest, s.fingerprint) for s in read_index(path)]


def of_npz(path: Path) -> list[Item]:
    """The images of an npz in MedMNIST's layout; they name no patient."""
    return [
        Item(
            f"{split}_images[{index}]",
            split,
            "",
            hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(),
            of_image(image),
        )
        for split, (numbers, images) in learned(path).items()
        for index, image in zip(numbers, images, strict=True)
    ]


def learned(path: Path) -> dict[str, tuple[list[int], npt.NDArray[np.uint8]]]:
    """The images of each split of an npz with their numbers, but for those of `read.left_out`."""
    found, images = {}, read_medmnist(path)
    with np.load(path) as file:
        rows = {name: file[name] for name in file if name.endswith("_luna_row")}
    for split, of_split in images.items():
        kept = np.ones(len(of_split.images), np.bool_)
        if f"{split}_luna_row" in rows:
            kept = kept_rows(rows[f"{split}_luna_row"])
        found[split] = np.flatnonzero(kept).tolist(), of_split.images[kept]
    return found


def in_hosts(path: Path, volumes: Iterable[Volume]) -> Iterator[str]:
    """A line for each patch of an npz that was cut from one of these CTs."""
    images = learned(path)
    for volume in volumes:
        for split, (numbers, patches) in images.items():
            for place in places_of(patches, volume):
                yield (
                    f"{split}_images[{numbers[place.patch]}] was cut from {volume.name}, slice "
                    f"{place.slice}: similarity {place.similarity:.3f}{', ' * bool(place.how)}"
                    f"{place.how}"
                )


def main() -> None:
    """Checks an index or an npz; 0 without leaks, 1 with them, 2 where it cannot be read."""
    parser = argparse.ArgumentParser(description="Check that splits share no patient or picture.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--like", type=float, default=LIKE, help=f"least similarity ({LIKE})")
    parser.add_argument("--hosts", nargs="*", default=[], help="shared CTs to search patches in")
    given = parser.parse_args()
    if given.hosts and given.data.suffix != ".npz":
        parser.error("--hosts wants an npz of patches")
    try:
        items = of_npz(given.data) if given.data.suffix == ".npz" else of_index(given.data)
        check(items, given.like)
        series = (training_series(shared_folder(), name) for name in given.hosts)
        if given.hosts and (lines := list(in_hosts(given.data, series))):
            raise Leaks(lines)
    except Leaks as found:
        for line in found.lines[:SHOWN]:
            print(f"leak: {line}")
        if len(found.lines) > SHOWN:
            print(f"leak: and {len(found.lines) - SHOWN} more")
        raise SystemExit(1) from None
    except DataError as wrong:
        parser.exit(2, f"error: {wrong}\n")
    patients = len({i.patient for i in items if i.patient})
    whose = f"{patients} patients" if patients else "patients not known, no claim about them"
    searched = f", none of them cut from {', '.join(given.hosts)}" if given.hosts else ""
    print(f"no leak: {len(items)} items, {whose}{searched}")


if __name__ == "__main__":
    command(main)
