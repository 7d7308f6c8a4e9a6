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

Sources of the nodules: sizes 4-20 mm and their mix after S. G. Armato et al. (LIDC/IDRI), Med.
Phys. 38 (2011) 915, and H. MacMahon et al. (Fleischner), Radiology 284 (2017) 228: most are solid
(0..60 HU), some part-solid or ground glass (about -600 HU), some calcified (above 200 HU:
S. S. Siegelman et al., Radiology 160 (1986) 307). Noise of 20-30 HU and a point spread of about
1.1 mm (full width) are usual for a soft kernel at 1-2 mm slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from appliance.demo import anatomy as a
from appliance.demo import vessels

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]

PSF_SIGMA_MM: Final = 0.45
TOP_MM: Final = 116.0  # the lungs end near 92 and -190; 2-3 cm more on both sides
BOTTOM_MM: Final = -212.0
ARTERY_ENDS: Final = 2100  # both lungs together
VEIN_ENDS: Final = 1500
BRONCHUS_LEAST_MM: Final = 0.9  # lumen radius below which no airway is seen in CT

# The default set: diameter, density, HU, place, surface.
_DEFAULT: Final = (
    (4.5, "solid", 35.0, "isolated", "round"),
    (6.0, "solid", 40.0, "isolated", "round"),
    (6.5, "calcified", 320.0, "isolated", "round"),
    (7.0, "solid", 30.0, "vascular", "lobulated"),
    (7.5, "solid", 45.0, "pleural", "round"),
    (8.0, "solid", 25.0, "isolated", "lobulated"),
    (9.0, "solid", 40.0, "pleural", "lobulated"),
    (10.0, "solid", 35.0, "isolated", "spiculated"),
    (11.0, "ground_glass", -600.0, "isolated", "lobulated"),
    (12.0, "solid", 30.0, "vascular", "spiculated"),
    (14.0, "part_solid", 15.0, "isolated", "lobulated"),
    (16.0, "solid", 40.0, "isolated", "lobulated"),
    (19.0, "solid", 30.0, "pleural", "spiculated"),
)
_SURFACES: Final = ("round", "lobulated", "spiculated")


@dataclass(frozen=True, slots=True)
class Nodule:
    """One nodule: centre (LPS mm), equivalent diameter (mm), density (solid | part_solid |
    ground_glass | calcified) and the HU of its densest part."""

    center_lps_mm: Point
    diameter_mm: float
    density: str
    hu: float


@dataclass(frozen=True, slots=True)
class Phantom:
    """A volume [z, y, x] in HU with its geometry in mm (spacing as z, y, x; origin = centre of
    voxel [0, 0, 0] in LPS) and its truth."""

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    origin_lps_mm: Point
    nodules: tuple[Nodule, ...]


@dataclass(frozen=True, slots=True)
class _Grid:
    """The drawn grid: fine slices (several may be averaged into one) of rows x rows pixels."""

    slices: int
    rows: int
    step_mm: tuple[float, float, float]
    origin: Point

    def axis(self, k: int) -> Array:
        n = self.slices if k == 0 else self.rows
        return (np.arange(n) * self.step_mm[k] + self.origin[2 - k]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Patch:
    """A drawn nodule: where it starts in the grid, its occupancy, its HU, and whether it only
    adds density (ground glass, through which vessels are seen)."""

    start: tuple[int, int, int]
    occupancy: Array
    hu: float
    veil: bool


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
    if min(spacing_mm) <= 0 or spacing_mm[1] != spacing_mm[2]:
        raise ValueError(f"spacing must be positive and square in plane, not {spacing_mm}")
    rng = np.random.default_rng(seed)
    body = a.Anatomy(
        scale=float(rng.uniform(0.96, 1.03)),
        phases=tuple(float(v) for v in rng.uniform(0, 2 * np.pi, 6)),
    )
    trees = _trees(body, rng)
    nodules = tuple(nodules) if nodules is not None else _default_nodules(body, trees, rng)
    surfaces = [row[4] for row in _DEFAULT]
    dz, dy, dx = spacing_mm
    side = rows if rows is not None else round(358.4 / dy)
    count = int((TOP_MM - BOTTOM_MM) / dz)
    per = max(1, round(dz / 1.6))
    origin = (-(side - 1) / 2 * dx, -(side - 1) / 2 * dy + 4.0, BOTTOM_MM)
    fine = _Grid(count * per, side, (dz / per, dy, dx),
                 (origin[0], origin[1], BOTTOM_MM - dz / 2 + dz / per / 2))
    patches = []
    for index, nodule in enumerate(nodules):
        surface = surfaces[index] if len(nodules) == len(surfaces) else _SURFACES[index % 3]
        shape = np.random.default_rng((seed, index, 77))
        patches += _draw_nodule(fine, nodule, surface, shape)
    blood, lumen = _draw_trees(fine, trees)
    out = np.empty((count, side, side), np.int16)
    clean = _profile(_slices(body, fine, blood, lumen, patches, rng), per)
    noise = _Noise(spacing_mm, noise_hu, rng)
    for k, (image, depth) in enumerate(clean):
        np.clip(np.rint(image + noise.field(depth)), -1024, 3071, out=image)
        out[k] = image.astype(np.int16)
    return Phantom(out, (dz, dy, dx), origin, tuple(nodules))


# --- vessels and airways -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Trees:
    blood: npt.NDArray[np.float64]  # segments [m, 8]: arteries, veins
    wall: npt.NDArray[np.float64]  # outer surface of the bronchi
    lumen: npt.NDArray[np.float64]


def _spread(n: int, shift: float) -> Array:
    """n points that fill the box of the lungs evenly (additive recurrence), [n, 3] in mm."""
    steps = 1 / np.power(1.2207440846057596, np.arange(1, 4))
    unit = (shift + np.arange(1, n + 1)[:, None] * steps) % 1
    low, high = np.array([-150.0, -110.0, -200.0]), np.array([150.0, 110.0, 96.0])
    return (low + unit * (high - low)).astype(np.float32)


def _trees(body: a.Anatomy, rng: np.random.Generator) -> _Trees:
    blood, wall, lumen = [], [], []
    for kind, ends in (("artery", ARTERY_ENDS), ("vein", VEIN_ENDS)):
        points = _spread(int(ends * 3.6), float(rng.uniform()))
        x, y, z = points.T
        field = body.lungs(x, y, z)["lungs"]
        oblique, flat = body.fissures(x, y, z)
        # vessels thin out towards pleura and fissures
        near = np.minimum(np.abs(oblique), np.where((x < 0) & (oblique > 0), np.abs(flat), 99))
        inside = (field > 3.0) & (near > 2.0)
        lobes = body.lobe(x, y, z)
        radii = rng.uniform(0.40, 0.68, len(points))
        jitter = rng.normal(0, 2.0, (len(points), 3))
        for name, (artery, vein, bronchus) in a.LOBES.items():
            mine = inside & (lobes == name)
            stops = points[mine] + np.clip(jitter[mine], -2.5, 2.5)
            root = artery if kind == "artery" else vein
            tree = vessels.grow(_scaled(root, body.scale), stops, radii[mine])
            blood.append(tree)
            if kind == "artery":
                w, inner = _bronchi(tree, bronchus, body.scale)
                wall.append(w)
                lumen.append(inner)
    return _Trees(np.concatenate(blood), np.concatenate(wall), np.concatenate(lumen))


def _scaled(p: Point, s: float) -> Point:
    return (p[0] * s, p[1] * s, p[2] * s)


def _bronchi(
    tree: npt.NDArray[np.float64], root: Point, scale: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The bronchus that runs beside each artery: its lumen is a little narrower than the artery,
    its wall about a fifth of its diameter (Weibel; Hansell)."""
    lumen = 0.80 * tree[:, 6:8]
    outer = lumen + np.maximum(0.45, 0.28 * lumen)
    keep = lumen[:, 1] > BRONCHUS_LEAST_MM
    offset = (tree[:, 6:8] + outer)[:, :, None] * np.array([0.25, 0.62, -0.74])
    rows = tree.copy()
    rows[:, 0:3] += offset[:, 0]
    rows[:, 3:6] += offset[:, 1]
    if len(rows):
        rows[0, 0:3] = _scaled(root, scale)
    inner, shell = rows.copy(), rows.copy()
    inner[:, 6:8], shell[:, 6:8] = lumen, outer
    return shell[keep], inner[keep]


def _draw_trees(
    grid: _Grid, trees: _Trees
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    shape = (grid.slices, grid.rows, grid.rows)
    blood, lumen = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    blur = max(0.7, grid.step_mm[1])
    for target, segments in ((blood, trees.blood), (blood, trees.wall), (lumen, trees.lumen)):
        # what is far thinner than a pixel would not be seen: it is left out
        seen = segments[segments[:, 6] > 0.3 * blur]
        vessels.draw(target, seen, grid.step_mm, grid.origin, blur)
    return blood, lumen


# --- nodules -------------------------------------------------------------------------------


def _default_nodules(
    body: a.Anatomy, trees: _Trees, rng: np.random.Generator
) -> tuple[Nodule, ...]:
    """The default set at places drawn by the seed: in the lung, apart from each other, and
    isolated, at the costal pleura or beside a vessel as the set says."""
    points = _spread(6000, float(rng.uniform()))
    rng.shuffle(points)
    x, y, z = points.T
    fields = body.lungs(x, y, z)
    inside, wall = fields["lungs"], fields["wall"]
    big = trees.blood[trees.blood[:, 7] > 1.0]
    middle = (big[:, 0:3] + big[:, 3:6]) / 2
    taken: list[tuple[Point, float]] = []
    out = []
    for diameter, density, hu, place, _ in reversed(_DEFAULT):
        r = diameter / 2
        want_left = len(out) % 2 == 0
        for index in range(len(points)):
            p = points[index].astype(np.float64)
            if (p[0] > 0) != want_left:
                continue
            if any(float(np.linalg.norm(p - q)) < 26 + r + s for q, s in taken):
                continue
            if place == "pleural":
                fits = 0.45 * r < inside[index] < 0.75 * r and abs(wall[index] - inside[index]) < 0.5
            elif place == "vascular":
                # at most a fillet of the vessel in the nodule: its axis near the surface
                gap = np.linalg.norm(middle - p, axis=1) - big[:, 6]
                nearest = int(np.argmin(gap))
                fits = inside[index] > r + 8 and 0.3 * r < gap[nearest] < 0.9 * r
            else:
                gap = np.linalg.norm(middle - p, axis=1) - big[:, 6]
                fits = inside[index] > r + 5 and float(gap.min()) > r + 2.0
            if fits:
                at = (round(float(p[0]), 2), round(float(p[1]), 2), round(float(p[2]), 2))
                taken.append((at, r))
                out.append(Nodule(at, diameter, density, hu))
                break
        else:
            raise RuntimeError(f"no place for a {place} nodule of {diameter} mm")
    return tuple(reversed(out))


def _draw_nodule(
    grid: _Grid, nodule: Nodule, surface: str, rng: np.random.Generator
) -> list[_Patch]:
    """Occupancies of a nodule in its bounding box; part-solid ones have a core of half the
    diameter in a ground-glass halo."""
    r = nodule.diameter_mm / 2
    c = np.array(nodule.center_lps_mm)
    reach = r * 1.6 + 4.0
    cut = []
    axes = []
    for k in range(3):
        line = grid.axis(k) - np.float32(c[2 - k])
        near = np.flatnonzero(np.abs(line) <= reach)
        if not near.size:
            return []
        cut.append(int(near[0]))
        axes.append(line[near[0] : near[-1] + 1])
    z, y, x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    distance = np.sqrt(x * x + y * y + z * z) + np.float32(1e-4)
    lobes = 0 if surface == "round" else int(rng.integers(4, 8))
    where = rng.normal(size=(lobes + 3, 3))
    where /= np.linalg.norm(where, axis=1, keepdims=True)
    size = np.concatenate([rng.uniform(0.10, 0.24, lobes), rng.uniform(-0.05, 0.05, 3)])
    width = np.concatenate([rng.uniform(6, 11, lobes), np.full(3, 1.5)])

    def radius(ux: Array, uy: Array, uz: Array) -> Array:
        total = np.ones(np.broadcast_shapes(ux.shape, uy.shape, uz.shape), np.float32)
        for n, h, w in zip(where.astype(np.float32), size, width, strict=True):
            total += np.float32(h) * np.exp(np.float32(w) * (ux * n[0] + uy * n[1] + uz * n[2] - 1))
        return total

    # the mean of r^3 over the sphere is set to that of the equivalent sphere
    t = np.arange(400) + 0.5
    polar, turn = np.arccos(1 - 2 * t / 400), np.pi * (1 + 5**0.5) * t
    sphere = radius(*(v.astype(np.float32) for v in (
        np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar))))
    norm = np.float32(r / np.mean(sphere.astype(np.float64) ** 3) ** (1 / 3))
    edge = norm * radius(x / distance, y / distance, z / distance) - distance
    blur = np.float32(max(0.8, grid.step_mm[1]))
    solid = np.clip(edge / blur + np.float32(0.5), 0, 1)
    start = (cut[0], cut[1], cut[2])
    if nodule.density in ("ground_glass", "part_solid"):
        # ground glass has no sharp border and an uneven inside
        veil = np.clip(edge / np.float32(2.2) + np.float32(0.5), 0, 1)
        uneven = cv2.GaussianBlur(rng.standard_normal((z.size, y.size * x.size)).astype(np.float32),
                                  (0, 0), 1.2).reshape(veil.shape)
        veil *= 1 + np.float32(0.12) * np.clip(uneven, -2, 2)
        glass = nodule.hu if nodule.density == "ground_glass" else -600.0
        out = [_Patch(start, np.clip(veil, 0, 1), glass, True)]
        if nodule.density == "part_solid":
            core = np.clip((edge - norm * np.float32(0.5)) / blur + np.float32(0.5), 0, 1)
            out.append(_Patch(start, core, nodule.hu, False))
        return out
    if surface == "spiculated":
        for _ in range(int(rng.integers(12, 20))):
            u = rng.normal(size=3)
            u /= np.linalg.norm(u)
            tip = u * (r + rng.uniform(1.5, min(6.0, 0.8 * r + 2)))
            p = (float(u[0] * r * 0.7), float(u[1] * r * 0.7), float(u[2] * r * 0.7))
            q = (float(tip[0]), float(tip[1]), float(tip[2]))
            spike = a.capsule(x, y, z, p, q, min(1.1, 0.2 * r), 0.25)
            solid = np.maximum(solid, np.clip(spike / blur + np.float32(0.5), 0, 1))
    return [_Patch(start, solid, nodule.hu, False)]


# --- the image -----------------------------------------------------------------------------


def _ramp(field: Array, width: float) -> Array:
    out: Array = field * np.float32(1 / width) + np.float32(0.5)
    return np.clip(out, 0, 1, out=out)


def _over(image: Array, field: Array, hu: float | Array, width: float) -> None:
    """Paint what lies where `field` is positive."""
    image += _ramp(field, width) * (hu - image)


def _slices(
    body: a.Anatomy,
    grid: _Grid,
    blood: npt.NDArray[np.uint8],
    lumen: npt.NDArray[np.uint8],
    patches: Sequence[_Patch],
    rng: np.random.Generator,
) -> Iterator[tuple[Array, Array]]:
    """Noise-free fine slices from the feet up, each with the depth below the skin (mm)."""
    sy = grid.step_mm[1]
    width = max(0.8, sy)
    psf = max(PSF_SIGMA_MM / sy, 0.25)
    n = grid.rows
    small = max(16, round(n * sy / max(2.4, 1.7 * sy)))
    cell = n * sy / small
    low_y = grid.origin[1] - sy / 2 + cell / 2
    low_x = grid.origin[0] - sy / 2 + cell / 2
    fine_z = grid.axis(0)
    dz = max(3.0, 1.5 * sy)
    zs = np.arange(float(fine_z[0]), float(fine_z[-1]) + dz, dz, dtype=np.float32)
    cx = (np.arange(small) * cell + low_x).astype(np.float32)[None, None, :]
    cy = (np.arange(small) * cell + low_y).astype(np.float32)[None, :, None]
    cz = zs[:, None, None]
    coarse = body.lungs(cx, cy, cz)
    coarse["body"] = body.body(cx, cy, cz)
    coarse["cage"] = body.cage(cx, cy, cz)
    coarse["order"], coarse["angle"] = body.rib_order(cx, cy, cz)
    coarse["oblique"], coarse["flat"] = body.fissures(cx, cy, cz)
    coarse["soft"] = body.spine(cx, cy, cz)["soft"]
    del coarse["wall"]
    texture = rng.standard_normal((len(zs), small, small), dtype=np.float32)
    coarse["texture"] = np.stack([cv2.GaussianBlur(t, (0, 0), 4.5 / cell) for t in texture])
    coarse["texture"] /= np.float32(max(float(coarse["texture"].std()), 1e-6))
    coarse = {name: np.broadcast_to(f, texture.shape) for name, f in coarse.items()}
    px, py = grid.axis(2), grid.axis(1)
    x, y = px[None, :], py[:, None]
    grain = max(0.8 / sy, 0.3)
    for k in range(grid.slices):
        at = (float(fine_z[k]) - float(zs[0])) / dz
        lower = min(int(at), len(zs) - 2)
        part = np.float32(at - lower)

        def full(name: str, lower: int = lower, part: np.float32 = part) -> Array:
            flat = coarse[name][lower] * (1 - part) + coarse[name][lower + 1] * part
            return cv2.resize(flat, (n, n), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]

        z = fine_z[k : k + 1]
        skin, cage, texture_k = full("body"), full("cage"), full("texture")
        image = _surroundings(x, y, skin, width)
        _chest_wall(image, body, skin, cage, full("order"), full("angle"), x, y, z, width, texture_k)
        _organs(image, full, cage, x, y, float(fine_z[k]) / body.scale, width, texture_k)
        lungs = full("lungs")
        _lungs(image, lungs, full, x, y, texture_k, rng, grain, width)
        drawn = blood[k].astype(np.float32) * np.float32(1 / 255)
        image += drawn * (np.float32(a.BLOOD) - np.minimum(image, a.BLOOD))
        hollow = lumen[k].astype(np.float32) * np.float32(0.97 / 255)
        image += hollow * (np.float32(a.AIR) - image)
        central = full("airways")
        image += _ramp(central + np.float32(1.5), width) * (np.float32(30) - image) * (image < -300)
        _over(image, central, a.AIR, width)
        for patch in patches:
            _stamp(image, patch, k)
        _spine(image, body, px, py, z, width)
        blurred = cv2.GaussianBlur(image, (0, 0), psf)
        yield blurred, skin  # type: ignore[misc]


def _surroundings(x: Array, y: Array, skin: Array, width: float) -> Array:
    """Room air and the curved top of the table, a thin shell over foam."""
    image = np.full(skin.shape, a.AIR, np.float32)
    top = np.float32(139) - x * x * np.float32(1 / 1050)
    image += _ramp(np.float32(0.7) - np.abs(y - top), width) * np.float32(a.TABLE - a.AIR)
    under = np.float32(166) - x * x * np.float32(1 / 700)
    image += _ramp(np.float32(0.8) - np.abs(y - under), width) * np.float32(a.TABLE - a.AIR)
    image += _ramp(np.minimum(y - top, under - y), width) * np.float32(45)
    return image


def _chest_wall(
    image: Array, body: a.Anatomy, skin: Array, cage: Array, order: Array, angle: Array,
    x: Array, y: Array, z: Array, width: float, texture: Array,
) -> None:
    """Skin, fat, muscle layers, ribs with cartilage, sternum, scapulae, clavicles."""
    _over(image, skin, a.SKIN, width)
    _over(image, skin - np.float32(1.8), a.FAT + 6 * texture, width)
    height = float(z[0]) / body.scale
    muscle = np.float32(a.MUSCLE) + 7 * texture
    out = -cage  # depth outside the cage
    deep = skin - np.float32(9)  # below the fat of the skin
    layer = np.minimum(out + np.float32(2), np.float32(12.5) - out)
    side = np.abs(x)
    # girdle: chest muscles in front, shoulder blade and broad muscles at the back
    girdle = np.minimum(np.minimum(out - np.float32(13.5), deep - np.float32(4)),
                        np.float32(34) - out)
    if height < 40:
        front = np.minimum(np.float32(-30) - y + np.float32(0.3) * side, side - np.float32(14))
        front = np.minimum(front, np.float32((height + 62) * 0.5))
        back = np.minimum(y + np.float32(42), side - np.float32(52))
        back = np.minimum(back, np.float32((height + 150) * 0.4))
        girdle = np.minimum(girdle, np.maximum(front, back))
    gutter = np.minimum(np.minimum(deep, y - np.float32(66)), np.float32(58) - side)
    gutter = np.minimum(gutter, np.float32(6) + side - 4)
    for field in (layer, girdle, gutter):
        _over(image, np.minimum(field, deep), muscle, width * 1.6)
    # fat between the muscle layers
    seam = np.float32(1.1) - np.abs(out - np.float32(23) - 2 * texture)
    image += _ramp(np.minimum(seam, deep - 5), width) * (np.float32(-60) - image) * np.float32(0.8)
    number = np.rint(order)
    along = (order - number) * np.float32(a.RIB_PITCH * 0.86 * body.scale)
    bone = np.float32(1) - np.sqrt(((out - np.float32(5.6)) / np.float32(3.9)) ** 2
                                   + (along / np.float32(6.6)) ** 2)
    bone *= np.float32(4.4)
    present = (number >= 1) & (number <= 12) & (angle > 0.28)
    present &= ~((number >= 11) & (angle > 1.75))
    bone = np.where(present, bone, np.float32(-9))
    ossified = np.float32(26) * (np.float32(2.42) - angle)
    costal = np.minimum(bone, -ossified)
    _over(image, np.where(number <= 9, costal, np.float32(-9)), a.CARTILAGE, width)
    _bone(image, np.minimum(bone, ossified), 1.3, width)
    if -115 < height < 52:
        half = 24.0 if height > 12 else 15.0 + 4.0 * float(np.cos(height / 9.0))
        plate = np.minimum(np.float32(half) - side, np.float32(5.5) - np.abs(out - np.float32(7)))
        plate = np.minimum(np.where(y < 0, plate, np.float32(-9)), np.float32(min(height + 115,
                           52 - height)))
        _bone(image, plate, 1.2, width)
    if -72 < height < 96:
        # a thin blade that stands off the ribs, thicker at its outer border
        outer = (angle - np.float32(1.02 + 0.0022 * (height + 72))) * np.float32(120)
        border = np.float32(0.5 * (1 - np.cos(np.clip((height + 72) / 60, 0, 1) * np.pi)))
        reach = np.minimum(outer + np.float32(62) * border, np.float32(4) - outer)
        thick = np.float32(1.9) + np.float32(2.6) * np.exp(-((outer - 2) / 9) ** 2)
        blade = np.minimum(thick - np.abs(out - np.float32(20) - np.float32(0.03) * outer), reach)
        _bone(image, np.minimum(blade, deep), 1.1, width)
    if height > 22:
        p, q = (13.0, -66.0, 44.0), (128.0, -18.0, 98.0)
        clavicle = a.capsule(np.abs(x), y, np.full((1, 1), height, np.float32), p, q, 7.5, 6.0)
        _bone(image, clavicle, 1.8, width)


def _bone(image: Array, field: Array, cortex_mm: float, width: float) -> None:
    """A shell of cortical bone around spongiosa."""
    if float(field.max()) < -width:
        return
    _over(image, field, a.CORTEX, width)
    _over(image, field - np.float32(cortex_mm), a.SPONGIOSA, width)


def _organs(
    image: Array, full: _Full, cage: Array, x: Array, y: Array, height: float, width: float,
    texture: Array,
) -> None:
    """What lies inside the rib cage and is not lung: fat first, then organs from the back."""
    inside = cage - np.float32(1)
    _over(image, inside, a.FAT + 8 + 6 * texture, width)
    if height < -60:
        below = -full("diaphragm")
        belly = np.minimum(below, inside)
        _over(image, belly, a.MUSCLE, width)  # the diaphragm itself, 3 mm
        belly = belly - np.float32(3)
        _over(image, belly, a.FAT + 6 * texture, width)
        # liver: the right half, and in front across the midline
        edge = np.float32(18) - np.float32(0.75) * y - x + np.float32(0.25 * (height + 110))
        liver = np.minimum(belly - np.float32(0.5), edge * np.float32(0.8))
        _over(image, liver, a.LIVER + 5 * texture, width)
        spleen = 26 - np.sqrt(((x - 92) / 1.1) ** 2 + ((y - 52) / 1.25) ** 2
                              + np.float32(((height + 168) / 1.5) ** 2))
        _over(image, np.minimum(spleen, belly - 1), a.SPLEEN + 4 * texture, width)
        stomach = 38 - np.sqrt(((x - 70) / 1.05) ** 2 + ((y + 14) / 1.25) ** 2
                               + np.float32(((height + 158) / 1.1) ** 2))
        stomach = np.minimum(stomach, belly - 1)
        _over(image, stomach, a.STOMACH + 4 * texture, width)
        gas = np.minimum(stomach - np.float32(4), np.float32(-16) - y)
        _over(image, gas, -960.0, width)
    _over(image, full("soft"), a.MUSCLE + 5 * texture, width)
    _over(image, full("oesophagus"), 38.0, width)
    heart = full("heart")
    _over(image, heart, a.HEART + 4 * texture, width)
    _over(image, full("vessels"), a.BLOOD + 2 * texture, width)


def _lungs(
    image: Array, lungs: Array, full: _Full, x: Array, y: Array, texture: Array,
    rng: np.random.Generator, grain: float, width: float,
) -> None:
    """Parenchyma: denser towards the back (gravity), a slow unevenness, a fine grain of what is
    too small to be drawn, and the fissures as faint thin lines."""
    fine = cv2.GaussianBlur(rng.standard_normal(lungs.shape, dtype=np.float32), (0, 0), grain)
    fine *= np.float32(2 * np.sqrt(np.pi) * max(grain, 0.3))
    air = np.float32(a.LUNG) + np.float32(0.16) * y + 9 * texture + 13 * fine
    oblique, flat = full("oblique"), full("flat")
    line = np.exp(-((oblique / np.float32(0.75)) ** 2))
    right = (x < 0) & (oblique > 0)
    line = np.maximum(line, np.where(right, np.exp(-((flat / np.float32(0.75)) ** 2)), 0))
    air += line * np.float32(110) * np.clip(np.float32(0.75) + np.float32(0.3) * texture, 0.1, 1.1)
    _over(image, lungs, air, width)


def _stamp(image: Array, patch: _Patch, k: int) -> None:
    z, y, x = patch.start
    if not 0 <= k - z < len(patch.occupancy):
        return
    occupancy = patch.occupancy[k - z]
    box = image[y : y + occupancy.shape[0], x : x + occupancy.shape[1]]
    lift = np.float32(patch.hu) - box
    # a nodule never thins what is denser than it (chest wall, vessel)
    box += occupancy * np.maximum(lift, 0)


def _spine(image: Array, body: a.Anatomy, px: Array, py: Array, z: Array, width: float) -> None:
    """Vertebrae with end plates, discs, canal and processes, in the box around them."""
    i = np.flatnonzero(np.abs(px) < 52)
    j = np.flatnonzero((py > 15) & (py < 125))
    box = image[j[0] : j[-1] + 1, i[0] : i[-1] + 1]
    parts = body.spine(px[None, i], py[j, None], z[:, None])
    level = np.broadcast_to(parts["level"], box.shape)
    _over(box, parts["body"], a.DISC, width)
    _bone(box, np.minimum(parts["body"], level), 1.0, width)
    _bone(box, parts["arch"], 1.2, width)
    _over(box, parts["canal"], a.CORD, width)


class _Full:
    """The type of the function that brings a coarse field to full size."""

    def __call__(self, name: str) -> Array:
        raise NotImplementedError


def _profile(
    fine: Iterator[tuple[Array, Array]], per: int
) -> Iterator[tuple[Array, Array]]:
    """Slices as thick as their distance: `per` fine ones are averaged; a single one is weighted
    with its neighbours 1 : 6 : 1, for the profile of a slice is never a box."""
    if per > 1:
        while True:
            group = [item for _, item in zip(range(per), fine)]
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


class _Noise:
    """Quantum noise after a soft kernel: white noise through a band pass, about `hu` strong in
    the middle of the body and weaker towards the skin."""

    def __init__(self, spacing_mm: tuple[float, float, float], hu: float,
                 rng: np.random.Generator) -> None:
        self._rng = rng
        self._hu = hu
        self._near = max(0.42 / spacing_mm[1], 0.2)
        self._far = 3.2 * self._near
        impulse = np.zeros((65, 65), np.float32)
        impulse[32, 32] = 1
        self._gain = 1 / float(np.sqrt((self._shape(impulse).astype(np.float64) ** 2).sum()))

    def _shape(self, white: Array) -> Array:
        near = cv2.GaussianBlur(white, (0, 0), self._near)
        far = cv2.GaussianBlur(white, (0, 0), self._far)
        return near - np.float32(0.6) * far  # type: ignore[no-any-return]

    def field(self, depth: Array) -> Array:
        white = self._rng.standard_normal(depth.shape, dtype=np.float32)
        strength = np.clip(depth * np.float32(1 / 105), -0.25, 1) * np.float32(0.45)
        return self._shape(white) * (strength + np.float32(0.55)) * np.float32(
            self._hu * self._gain
        )
