"""CTs that carry implants: a training scan with its noise, its lesions and its free places.

Rules.
1. Millimetres count from the outer edge of the volume's first voxel, in the order z y x.
2. A host's own lesions and its boxed mass are kept free of implants. Those that too few
   radiologists marked (`unsure`) are no lesson and neither found nor false.
3. The evaluation set of a host is fixed by its seeds, and by the shapes: those of LIDC patients of
   val. An implant that nobody could see (`appliance.quality.implant`, rule 5) is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from appliance.quality.implant import (
    Block,
    Implant,
    Nodule,
    Shape,
    draw_kind,
    implanted,
    pick_shape,
)
from training.implant.nodules import Places, find_places, host_noise
from training.read.shared_series import host_boxes, host_lungs, known_lesions, mass_of_boxes
from training.read.volume import F64, Bool, Volume

SPOTS = {"R01-001": ((95.0, -192.0, -177.0), (-118.0, -172.0, -199.0))}
"""Of a host: spots of 3 to 4 mm that look like nodules in all three planes, seen after networks
that never saw their host had found them; nobody has marked them. LPS mm."""
SPOT_MM = 6.0
"""How far from one it may still be the reason of what is found."""
SIZES_MM = ((4.0, 6.0), (6.0, 8.0), (8.0, 15.0), (15.0, 30.0))


def size_class(diameter_mm: float) -> str:
    """Which of SIZES_MM, or below or above all."""
    for low, high in SIZES_MM:
        if low <= diameter_mm < high:
            return f"{low:g}-{high:g} mm"
    return f"under {SIZES_MM[0][0]:g} mm" if diameter_mm < SIZES_MM[0][0] else "larger"


@dataclass(frozen=True)
class Target:
    """A nodule in a block: centre in mm from the block's outer edge (z y x) and diameter."""

    center_mm: tuple[float, float, float]
    diameter_mm: float
    by_eye: bool = False  # marked by engineers


@dataclass(frozen=True)
class Host:
    """One CT with what the generator needs; mm count from the volume's outer edge, z y x."""

    volume: Volume
    noise_hu: float
    places: Places
    lesions: tuple[Target, ...]
    ignored: Bool  # on the 1.5 mm grid: the boxed mass
    spots: tuple[Target, ...] = ()  # SPOTS: nobody knows whether these are nodules
    unsure: tuple[Target, ...] = ()  # marked by fewer than three radiologists


def load_host(shared: Path, name: str, cache: Path) -> Host:
    """Reads a training CT with its lesions and the places where nodules may go."""
    volume, fine, lungs = host_lungs(shared, name, cache)
    lesions, unsure = list[Target](), list[Target]()
    avoid = mass_of_boxes(volume, host_boxes(shared, name), lungs.shape, 1.5)
    ignored = avoid.copy()
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * 1.5 for n in lungs.shape], indexing="ij"))
    for lesion in known_lesions(shared, name):
        at = (volume.zyx(lesion.center_lps_mm) + 0.5) * volume.spacing
        (unsure if lesion.ignore else lesions).append(
            Target((float(at[0]), float(at[1]), float(at[2])), lesion.diameter_mm, lesion.by_eye)
        )
        far = np.sqrt(((grid - at[:, None, None, None]) ** 2).sum(0))
        avoid |= far < lesion.diameter_mm / 2 + 6
    places = find_places(lungs, fine, 1.5, avoid)
    spots = tuple(
        Target((float(z), float(y), float(x)), 2 * SPOT_MM)
        for at in SPOTS.get(name, ())
        for z, y, x in [(volume.zyx(at) + 0.5) * volume.spacing]
    )
    return Host(
        volume, host_noise(volume.hu), places, tuple(lesions), ignored, spots, tuple(unsure)
    )


def to_lps(volume: Volume, center_mm: Sequence[float]) -> F64:
    """Millimetres from the volume's outer edge (z y x) as LPS millimetres (x y z)."""
    return volume.lps(np.asarray(center_mm) / volume.spacing - 0.5)


def with_implants(
    host: Host, shapes: Sequence[Shape], seed: int, each: int = 3
) -> tuple[Volume, list[Implant]]:
    """The host with `each` implants of every size class of SIZES_MM, fixed by `seed`."""
    rng = np.random.default_rng([977, seed])
    volume = replace(host.volume, hu=host.volume.hu.copy())
    block = Block(volume.hu, volume.spacing, host.noise_hu)
    done: list[Implant] = []
    others = [*host.lesions, *host.unsure]
    for low, high in SIZES_MM * each:
        diameter = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        for _ in range(200):
            place, at = host.places.draw(rng, diameter)
            at = at + rng.uniform(-0.7, 0.7, 3)
            if any(
                np.linalg.norm(at - t.center_mm) <= (diameter + t.diameter_mm) / 2 + 12
                for t in others
            ):
                continue
            shape, kind = pick_shape(rng, shapes, diameter), draw_kind(rng, diameter)
            one = implanted(rng, block, at, Nodule(shape, diameter, kind, place), host.volume.hu)
            if one is None:
                continue
            done.append(one)
            others.append(Target(one.center_mm, diameter))
            break
    return volume, done
