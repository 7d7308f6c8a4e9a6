"""What a bundle says of nodules and of false findings in lungs that are sick.

    python -m training.recipes.lung_nodule.judge_sick BUNDLE [--hosts R01-001 LIDC-IDRI-0005 ...]
        [--seeds 1] [--out sick.json]

Rules.
1. A host's own slices are analysed by the appliance's own steps: as they are, and with each disease
   of CASES painted in. Disease is painted at 1.5 mm, and its difference is added to the slices, so
   the host keeps its noise and its vessels.
2. Each scan also holds nodules (implant.hosts), put in before the disease: the networks learned no
   shape of them. A nodule in disease, or within REACH_MM of it, is counted apart.
3. A finding within the radius of a nodule, of a mark or of the boxed mass of its host is no false
   one. All others count as false, `in disease` where they lie in what was painted or within
   REACH_MM of it. A host as it is has its own false ones, which are counted alike.
4. A finding is sure unless the report says `unsure`; a bundle without a head of disease is sure of
   each. Nothing is chosen here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from appliance.lines.budget import Budget
from appliance.lines.nodules import analyse
from appliance.quality.implant import Shape
from appliance.reasons import Code
from appliance.report import Finding
from training.errors import DataError, command
from training.implant.disease.chest import Chest, chest_of
from training.implant.disease.paint import Sick, Wanted, paint
from training.implant.donors import cached_shapes
from training.implant.hosts import Host, load_host, to_lps, with_implants
from training.judge.opened import Opened, open_bundle
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import NODULE_SERIES, host_lungs
from training.read.volume import Bool, Volume, resample, stack_of

PAINTED_MM = 1.5
REACH_MM = 6.0
HOSTS = ("R01-001", "LIDC-IDRI-0004", "LIDC-IDRI-0005")
"""Slices up to 2.5 mm. Of these the lung network of a bundle may have learned: see its card."""
CASES: Mapping[str, tuple[Wanted, ...]] = {
    "healthy": (),
    "pneumonia, 60 ml": (Wanted("consolidation", 60),),
    "pneumonia, 250 ml": (Wanted("consolidation", 250),),
    "pneumonia, 600 ml": (Wanted("consolidation", 600),),
    "ground glass, 300 ml": (Wanted("ground_glass", 300),),
    "many small opacities, 150 ml": (Wanted("multifocal", 150),),
    "fluid, 300 ml": (Wanted("effusion", 300),),
    "collapse, 200 ml": (Wanted("atelectasis", 200),),
    "emphysema, 400 ml": (Wanted("emphysema", 400),),
}


@dataclass(frozen=True)
class Counts:
    """What is said of one scan."""

    nodules: tuple[int, int, int]
    """Outside disease: put in, found, found and sure."""
    in_disease: tuple[int, int, int]
    """The same of nodules in or near disease."""
    false: tuple[int, int]
    """False findings outside disease: all, and sure ones."""
    false_in_disease: tuple[int, int]
    diffuse: bool
    """Whether `diffuse_disease` stands."""

    def row(self) -> dict[str, Any]:
        """As a line of the table."""
        return {
            "nodules_put_found_sure": self.nodules,
            "nodules_in_disease_put_found_sure": self.in_disease,
            "false_all_sure": self.false,
            "false_in_disease_all_sure": self.false_in_disease,
            "diffuse_disease": self.diffuse,
        }


def painted(volume: Volume, chest: Chest, sick: Sick) -> tuple[Volume, Bool]:
    """The volume with the disease of its chest (rule 1), and where on the chest's grid it is."""
    added = resample(sick.hu - chest.frame.turned(chest.hu), [PAINTED_MM] * 3, volume.spacing)
    hu = volume.hu.copy()
    part = tuple(slice(0, min(a, b)) for a, b in zip(hu.shape, added.shape, strict=True))
    hu[part] += added[part]
    here = np.zeros(sick.hu.shape, np.bool_)
    for mask in sick.masks.values():
        here |= mask
    return Volume(volume.name, hu, volume.spacing, volume.origin), here


def near(where: Bool) -> Bool:
    """What is diseased or within REACH_MM of it."""
    if not where.any():
        return where
    return np.asarray(ndimage.distance_transform_edt(~where, PAINTED_MM) <= REACH_MM, np.bool_)


def counted(
    host: Host, put: Sequence[tuple[Sequence[float], float]], sick: Bool, said: Sequence[Finding]
) -> tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int], tuple[int, int]]:
    """Rules 3 and 4. `put`: centre (mm from the outer edge, z y x) and diameter of each nodule;
    `sick`: `near` of the disease."""
    volume = host.volume
    places = [np.asarray(f.place_lps_mm) for f in said]
    sure = np.array([f.certainty != "unsure" for f in said], bool)
    taken = np.zeros(len(said), bool)

    def hits(center_mm: Sequence[float], diameter: float) -> Bool:
        at = to_lps(volume, center_mm)
        away = np.array([np.linalg.norm(p - at) for p in places]).reshape(-1)
        return np.asarray(away <= max(diameter / 2, 4.0), np.bool_)

    def inside(center_mm: Sequence[float]) -> bool:
        at = (np.asarray(center_mm) / PAINTED_MM).astype(int)
        return bool(sick[tuple(np.clip(at, 0, np.subtract(sick.shape, 1)))])

    nodules = np.zeros((2, 3), int)
    for center, diameter in put:
        hit = hits(center, diameter)
        taken |= hit
        nodules[int(inside(center))] += [1, bool(hit.any()), bool((hit & sure).any())]
    for target in (*host.lesions, *host.unsure, *host.spots):
        taken |= hits(target.center_mm, target.diameter_mm)
    false = np.zeros((2, 2), int)
    for i in np.flatnonzero(~taken):
        at = (volume.zyx(places[i]) + 0.5) * volume.spacing
        cell = tuple(np.clip((at / PAINTED_MM).astype(int), 0, np.subtract(sick.shape, 1)))
        if not host.ignored[cell]:
            false[int(sick[cell])] += [1, bool(sure[i])]
    healthy, ill = (tuple(map(int, row)) for row in nodules)
    beside, within = (tuple(map(int, row)) for row in false)
    return healthy, ill, beside, within  # type: ignore[return-value]


def scans_of(
    name: str, opened: Opened, shapes: Sequence[Shape], seeds: int
) -> Iterator[tuple[str, Counts]]:
    """Each case of a host, so many times, with what is said of it."""
    shared, cache = shared_folder(), work_folder("cache")
    host = load_host(shared, name, cache)
    volume, _, lungs = host_lungs(shared, name, cache)
    chest = chest_of(volume, lungs, PAINTED_MM)
    for seed in range(seeds):
        holding, implants = with_implants(host, shapes, seed, each=2)
        put = [(one.center_mm, one.diameter_mm) for one in implants]
        for number, (case, wanted) in enumerate(CASES.items()):
            rng = np.random.default_rng([913, number, seed, *name.encode()])
            scan, where = painted(holding, chest, paint(rng, chest, wanted))
            stack = stack_of(scan)
            result = analyse(stack, opened.bundle.manifest, opened.backend, Budget(0))
            if result.coverage is None:
                raise DataError(f"{name}, {case}: not analysed: {result.reasons}")
            found = counted(host, put, near(where), result.findings)
            diffuse = any(r.code is Code.DIFFUSE_DISEASE for r in result.limitations)
            yield case, Counts(*found, diffuse)


def total(every: Sequence[Counts]) -> dict[str, Any]:
    """The sums over scans of one case."""

    def of(name: str) -> list[int]:
        return [int(n) for n in np.sum([getattr(c, name) for c in every], axis=0)]

    return {
        "scans": len(every),
        "nodules_put_found_sure": of("nodules"),
        "nodules_in_disease_put_found_sure": of("in_disease"),
        "false_all_sure": of("false"),
        "false_in_disease_all_sure": of("false_in_disease"),
        "diffuse_disease": sum(c.diffuse for c in every),
    }


def main() -> None:
    """A line a scan, then the sums of each case."""
    parser = argparse.ArgumentParser(description="Findings of a bundle in painted lungs.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--hosts", nargs="+", default=HOSTS, choices=NODULE_SERIES)
    parser.add_argument("--seeds", type=int, default=1, help="scans of each case and host (1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    opened = open_bundle(given.bundle, given.threads)
    shapes = cached_shapes(shared_folder(), work_folder("cache"), "val")
    every: dict[str, list[Counts]] = {}
    for name in given.hosts:
        for case, one in scans_of(name, opened, shapes, given.seeds):
            print(json.dumps({"host": name, "case": case, **one.row()}), flush=True)
            every.setdefault(case, []).append(one)
    found = {case: total(counts) for case, counts in every.items()}
    print(json.dumps(found, indent=1))
    if given.out:
        said = {"bundle": opened.bundle.ref.model_dump(mode="json"), "hosts": given.hosts}
        given.out.write_text(json.dumps({**said, "cases": found}, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
