"""A synthetic chest CT with nodules at known places.

Rules of this module:

1. Values in, values out: no file, no clock, no global generator. The same arguments give the
   same bytes.
2. Anatomy comes from published tables (`anatomy`), vessels from published growth and radius laws
   (`vessels`), nodules from the screening literature (below). All of it was fixed before any
   detector was trained and is never tuned on one.
3. The image is made as a scanner would see it: surfaces are signed fields turned into partial
   volumes, then blurred by the in-plane point spread and the slice profile, then noise is added
   that is correlated like that of a soft kernel.
4. Axes are [z, y, x] with +z to the head, +y to the back, +x to the left, so that the LPS
   position of voxel (k, j, i) is origin + (i * sx, j * sy, k * sz). HU are int16.
5. The truth is what was asked for: centre and equivalent diameter (that of the sphere of the
   same volume) of each nodule, wherever it lies in the grid.
6. Noise of 20-30 HU is usual for a soft kernel at slices of 1-2 mm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from appliance.phantom import anatomy, tissue, vessels
from appliance.phantom import nodules as lesions
from appliance.phantom.field import Field
from appliance.phantom.kernel import STANDARD, Kernel
from appliance.phantom.nodules import Nodule
from appliance.phantom.raster import Array, Grid, Point

__all__ = ["Nodule", "Phantom", "QuantumNoise", "Scan", "chest"]

TOP_MM: Final = 116.0  # the lungs end near 92 and -190; 2-3 cm more on both sides
BOTTOM_MM: Final = -212.0


@dataclass(frozen=True, slots=True)
class Phantom:
    """A volume [z, y, x] in HU with its geometry in mm (spacing as z, y, x; origin = centre of
    voxel [0, 0, 0] in LPS) and its truth."""

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    origin_lps_mm: Point
    nodules: tuple[Nodule, ...]


def chest(
    seed: int = 1,
    *,
    spacing_mm: tuple[float, float, float] = (1.5, 0.7, 0.7),
    rows: int | None = None,
    noise_hu: float = 25.0,
    nodules: Sequence[Nodule] | None = None,
) -> Phantom:
    """A chest from the neck to below the lungs.

    `spacing_mm` is (z, y, x); `rows` is the side of the square image, by default what covers
    358 mm; `noise_hu` the standard deviation in the middle of the body; `nodules` replaces the
    default set (13 nodules of 4.5-19 mm, twelve of them 6 mm or more, placed by the seed).
    """
    scan = Scan(spacing_mm, rows, noise_hu)
    body, trees = plan(seed)
    if nodules is None:
        nodules = lesions.default_set(body, trees, np.random.default_rng((seed, 76)))
    rng = np.random.default_rng((seed, 79))
    drawn = [Drawn(index, nodule) for index, nodule in enumerate(nodules)]
    return scanned(seed, (body, trees), drawn, scan, texture=rng, noise=rng)


@dataclass(frozen=True, slots=True)
class Scan:
    """How a chest is scanned: `spacing_mm` (z, y, x), the side of the square image (None: what
    covers 358 mm), the noise in the middle of the body and the kernel. ValueError where the spacing
    is not positive and square in plane."""

    spacing_mm: tuple[float, float, float]
    rows: int | None = None
    noise_hu: float = 25.0
    kernel: Kernel = STANDARD

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0 or self.spacing_mm[1] != self.spacing_mm[2]:
            raise ValueError(f"spacing must be positive and square in plane, not {self.spacing_mm}")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A nodule, and the index that its shape comes from: the same one has the same shape."""

    index: int
    nodule: Nodule


def scanned(
    seed: int,
    person: tuple[anatomy.Anatomy, vessels.Trees],
    nodules: Sequence[Drawn],
    scan: Scan,
    *,
    texture: np.random.Generator,
    noise: np.random.Generator,
    field: Field | None = None,
) -> Phantom:
    """One scan of one person (`plan`), whose shapes and twigs come from `seed`.

    `field` says from where in the person each point of the image is drawn; the centres of `nodules`
    are in the image, trees and twigs in the person. `texture` makes the slow unevenness of tissues,
    `noise` the grain of the lung and the noise of the image.
    """
    body, trees = person
    dz, dy, dx = scan.spacing_mm
    side = scan.rows if scan.rows is not None else round(358.4 / dy)
    count = int((TOP_MM - BOTTOM_MM) / dz)
    per = max(1, round(dz / 2.4))
    origin = (-(side - 1) / 2 * dx, -(side - 1) / 2 * dy + 4.0, BOTTOM_MM)
    fine = Grid(
        count * per,
        side,
        (dz / per, dy, dx),
        (origin[0], origin[1], BOTTOM_MM - dz / 2 + dz / per / 2),
    )
    patches = []
    for one in nodules:
        shape = np.random.default_rng((seed, one.index, 77))
        patches += lesions.draw(fine, one.nodule, lesions.surface(one.index), shape)
    twigs = None
    if dx <= vessels.TWIG_SEEN_MM:
        twigs = vessels.twigs(body, trees.blood, np.random.default_rng((seed, 78)))
    if field is not None:
        trees = trees.moved(field)
        twigs = None if twigs is None else vessels.moved(twigs, field)
    blood, lumen = vessels.draw_trees(fine, trees)
    if twigs is not None:
        vessels.draw(blood, twigs, fine.step_mm, fine.origin, max(0.7, dx))
    out = np.empty((count, side, side), np.int16)
    painted = tissue.slices(
        body, fine, (blood, lumen), patches, texture, noise, scan.kernel.psf_mm, field
    )
    quantum = QuantumNoise(scan, noise)
    for k, (image, depth) in enumerate(_profile(painted, per)):
        sharp = scan.kernel.enhanced(image, dy)
        np.clip(np.rint(sharp + quantum.field(depth)), -1024, 3071, out=sharp)
        out[k] = sharp.astype(np.int16)
    return Phantom(out, (dz, dy, dx), origin, tuple(one.nodule for one in nodules))


@lru_cache(maxsize=4)
def plan(seed: int, *, varied: bool = False) -> tuple[anatomy.Anatomy, vessels.Trees]:
    """What does not depend on the grid: the adult and the trees (a second's work, so kept). The
    trees of all seeds branch alike, for their lobes are filled alike, unless they are `varied`."""
    rng = np.random.default_rng(seed)
    body = anatomy.Anatomy(
        scale=float(rng.uniform(0.96, 1.03)),
        phases=tuple(float(v) for v in rng.uniform(0, 2 * np.pi, 6)),
    )
    return body, vessels.plant(body, rng, varied=varied)


def _profile(fine: Iterator[tuple[Array, Array]], per: int) -> Iterator[tuple[Array, Array]]:
    """Slices as thick as their distance: `per` fine ones are averaged; a single one is weighted
    with its neighbours 1 : 6 : 1, for the profile of a slice is never a box."""
    if per > 1:
        while True:
            group = list(islice(fine, per))
            if not group:
                return
            yield np.mean([g[0] for g in group], axis=0, dtype=np.float32), group[0][1]
    before: Array | None = None
    now: tuple[Array, Array] | None = None
    for image, depth in fine:
        if now is not None:
            start = before if before is not None else now[0]
            yield (start + image + 6 * now[0]) * np.float32(0.125), now[1]
            before = now[0]
        now = (image, depth)
    if now is not None:
        yield now[0].copy(), now[1]


class QuantumNoise:
    """Quantum noise after a soft kernel: white noise through a band pass, about `scan.noise_hu`
    strong in the middle of the body and weaker towards the skin."""

    def __init__(self, scan: Scan, rng: np.random.Generator) -> None:
        self._rng = rng
        self._hu = scan.noise_hu
        self._near = max(scan.kernel.grain_mm / scan.spacing_mm[1], 0.2)
        self._far = 3.2 * self._near
        impulse = np.zeros((65, 65), np.float32)
        impulse[32, 32] = 1
        self._gain = 1 / float(np.sqrt((self._shape(impulse).astype(np.float64) ** 2).sum()))

    def _shape(self, white: Array) -> Array:
        near = cv2.GaussianBlur(white, (0, 0), self._near)
        far = cv2.GaussianBlur(white, (0, 0), self._far)
        shaped: Array = near - np.float32(0.6) * far
        return shaped

    def field(self, depth: Array) -> Array:
        """One slice of it, HU. depth: how far below the skin each pixel lies, mm, [y, x]."""
        white = self._rng.standard_normal(depth.shape, dtype=np.float32)
        strength = np.clip(depth * np.float32(1 / 105), -0.25, 1) * np.float32(0.45)
        scaled: Array = self._shape(white) * (strength + np.float32(0.55))
        scaled *= np.float32(self._hu * self._gain)
        return scaled
