"""The leak check: no patient and no picture in two splits.

    python -m training.leaks index.csv      # of training.read.study_index
    python -m training.leaks images.npz     # MedMNIST's layout

Rules. A leak is one line that names both sides; any leak ends the command with exit code 1. Three
things are compared between splits: the patient, the exact pixels, and the fingerprint, which sees
near-duplicates: noise, another kernel, mirrored and turned copies (which it names). Within one
split nothing is compared. Images of an npz carry no patient: no claim is made about it, and the
last line says so.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.errors import DataError, command
from training.read.datasets import SPLITS, read_medmnist
from training.read.fingerprint import LIKE, of_image, views
from training.read.study_index import read_index
from training.read.volume import F32

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
        for split, of_split in read_medmnist(path).items()
        for index, image in enumerate(of_split.images)
    ]


def main() -> None:
    """Checks an index or an npz; 0 without leaks, 1 with them, 2 where it cannot be read."""
    parser = argparse.ArgumentParser(description="Check that splits share no patient or picture.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--like", type=float, default=LIKE, help=f"least similarity ({LIKE})")
    given = parser.parse_args()
    try:
        items = of_npz(given.data) if given.data.suffix == ".npz" else of_index(given.data)
        check(items, given.like)
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
    print(f"no leak: {len(items)} items, {whose}")


if __name__ == "__main__":
    command(main)
