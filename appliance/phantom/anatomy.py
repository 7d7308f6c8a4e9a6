"""The reference adult of the phantom: shapes as signed fields over patient millimetres.

Rules of this module:

1. Frame: LPS millimetres (x left, y posterior, z superior); the carina is at z = 0 and the
   midline at x = 0. All tables are those of one reference adult, scaled by `Anatomy.scale`.
2. A field is positive inside a structure, zero on its surface and close to the signed distance
   in millimetres near the surface, so that one linear ramp turns it into an occupancy.
3. Fields broadcast: x, y, z may be open grids or lists of points. Nothing is random here but
   the phases of a low surface waviness, which come with the instance.
4. Every number is from published anatomy or chosen inside its published range, and was fixed
   before any detector was trained. None is tuned on a detector.

Sources:
  [ICRP89]    ICRP Publication 89 (2002), reference organ sizes; total lung capacity 5.0-7.0 l
  [ICRP110]   ICRP Publications 110 (2009) and 133 (2016), reference voxel phantoms: trunk breadth
              and depth, organ positions
  [Weibel]    E. R. Weibel, Morphometry of the Human Lung (1963): diameters of trachea 18 mm,
              main bronchi 12.2, lobar 8.3, segmental 5.6 mm
  [Schneider] U. Schneider et al., Phys. Med. Biol. 41 (1996) 111 and W. Schneider et al.,
              Phys. Med. Biol. 45 (2000) 459: CT numbers of tissues
  [Hansell]   D. M. Hansell et al., Fleischner glossary, Radiology 246 (2008) 697: fissures,
              ground glass, nodules
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]
Place = tuple[Array, Array, Array]
"""x, y, z that broadcast: an open grid or lists of points."""

# CT numbers in HU, unenhanced [Schneider]; lung in inspiration is about 0.15 g/ml.
AIR: Final = -1000.0
LUNG: Final = -855.0
FAT: Final = -100.0
SKIN: Final = 5.0
MUSCLE: Final = 52.0
BLOOD: Final = 44.0
HEART: Final = 42.0
LIVER: Final = 58.0
SPLEEN: Final = 50.0
STOMACH: Final = 25.0
CARTILAGE: Final = 110.0
DISC: Final = 75.0
SPONGIOSA: Final = 190.0
CORTEX: Final = 720.0
CORD: Final = 30.0
TABLE: Final = -60.0

# Inner thorax by height: z, centre of each half x, half breadth a, half depth b, centre y
# fmt: off
# [ICRP110]; at the top the section splits into the two apices.
_LUNG_ROWS: Final = (
    (92, 44, 1, 1, 27), (86, 44, 15, 17, 26), (76, 44, 27, 31, 23), (60, 41, 41, 45, 17),
    (40, 35, 62, 56, 11), (20, 24, 84, 65, 6), (0, 12, 105, 73, 3), (-30, 0, 124, 80, 0),
    (-60, 0, 130, 84, 0), (-100, 0, 133, 88, 0), (-150, 0, 134, 89, 0), (-260, 0, 129, 86, 0),
)
# Inner surface of the rib cage: z, half breadth, half depth, centre y; convex over both apices.
_CAGE_ROWS: Final = (
    (130, 40, 24, 24), (100, 56, 34, 23), (86, 68, 42, 21), (76, 77, 47, 19), (60, 87, 55, 15),
    (40, 99, 60, 10), (20, 109, 66, 6), (0, 117, 73, 3), (-30, 125, 80, 0), (-60, 130, 84, 0),
    (-100, 133, 88, 0), (-150, 134, 89, 0), (-260, 129, 86, 0),
)
# Skin: z, half breadth, half depth, centre y; arms raised, so broad shoulders at the top.
_BODY_ROWS: Final = (
    (130, 168, 80, 28), (100, 171, 84, 24), (80, 171, 90, 20), (40, 170, 103, 12),
    (0, 168, 110, 8), (-50, 163, 115, 6), (-100, 159, 118, 5), (-160, 157, 118, 5),
    (-260, 154, 115, 5),
)
# Front wall of the vertebral bodies (kyphosis): z, centre y, half breadth, half depth.
_SPINE_ROWS: Final = (
    (130, 28, 14, 10), (80, 38, 15.5, 12), (40, 47, 16.5, 14), (0, 53, 17.5, 15),
    (-60, 56, 19, 16), (-120, 54, 21, 17), (-180, 48, 23, 18), (-260, 40, 24, 18),
)
VERTEBRA_TOP: Final = 80.0  # centre of T1
VERTEBRA_PITCH: Final = 22.5
RIB_PITCH: Final = 22.5

# Heart chambers as rotated ellipsoids: centre, half axes, direction of the first axis.
_CHAMBERS: Final[tuple[tuple[Point, Point, Point], ...]] = (
    ((36.0, -28.0, -90.0), (53.0, 37.0, 38.0), (0.74, -0.50, -0.45)),
    ((4.0, -48.0, -86.0), (48.0, 30.0, 40.0), (0.88, -0.20, -0.43)),
    ((-23.0, -20.0, -76.0), (29.0, 32.0, 44.0), (1.0, 0.0, 0.0)),
    ((4.0, 9.0, -56.0), (37.0, 19.0, 26.0), (1.0, 0.0, 0.0)),
)
# fmt: on
# Great vessels as chains of capsules: points (x, y, z) and one radius.
_VESSELS: Final[tuple[tuple[float, tuple[Point, ...]], ...]] = (
    (16.0, ((-2, -22, -52), (-12, -25, -25), (-13, -24, 2), (-4, -12, 21))),
    (
        13.5,
        (
            (-4, -12, 21),
            (10, 8, 26),
            (20, 26, 16),
            (25, 35, 0),
            (26, 38, -60),
            (23, 36, -120),
            (12, 28, -170),
            (6, 18, -260),
        ),
    ),
    (9.0, ((-22, -8, 40), (-25, -10, 10), (-25, -12, -45))),
    (13.0, ((12, -42, -52), (16, -34, -30), (17, -18, -14))),
    (10.5, ((17, -18, -14), (28, 2, -10), (38, 14, -12))),
    (10.0, ((17, -18, -16), (2, -6, -20), (-20, 0, -20), (-36, 4, -22))),
    (7.5, ((4, 20, -52), (30, 20, -46), (40, 16, -44))),
    (7.5, ((4, 20, -52), (-26, 18, -48), (-37, 14, -46))),
    (6.5, ((-4, -12, 24), (-9, -9, 50), (-20, 0, 80), (-26, 4, 130))),
    (4.5, ((4, -2, 27), (13, 3, 55), (20, 10, 90), (22, 12, 130))),
    (4.5, ((12, 10, 27), (21, 18, 50), (26, 22, 75), (45, 14, 92))),
    (7.0, ((-22, -8, 40), (-24, -10, 62), (-30, -8, 92), (-32, -6, 130))),
    (6.0, ((-22, -10, 40), (2, -24, 50), (24, -18, 68), (30, -10, 92))),
    (9.0, ((-22, 4, -118), (-22, 10, -150), (-20, 12, -260))),
)
# Central airways, inner radius [Weibel]: trachea, main, intermediate and lobar bronchi.
_AIRWAYS: Final[tuple[tuple[float, tuple[Point, ...]], ...]] = (
    (9.0, ((0, 0, 130), (0, 6, 60), (1, 15, 6))),
    (6.6, ((1, 16, 4), (-16, 19, -14), (-24, 20, -22))),
    (6.1, ((1, 16, 4), (16, 20, -14), (38, 23, -28))),
    (4.6, ((-22, 21, -18), (-40, 17, -16))),
    (5.2, ((-24, 21, -22), (-30, 22, -44))),
    (4.2, ((38, 23, -28), (47, 12, -24))),
    (4.4, ((38, 23, -28), (45, 30, -46))),
)
# Lobes: name -> artery root, vein root, bronchus root (hilum, medial face of the lung).
LOBES: Final[dict[str, tuple[Point, Point, Point]]] = {
    "RU": ((-36, 4, -16), (-34, 4, -28), (-40, 17, -16)),
    "RM": ((-38, 6, -32), (-36, 6, -46), (-34, 16, -44)),
    "RL": ((-38, 20, -36), (-32, 20, -56), (-32, 24, -46)),
    "LU": ((40, 10, -12), (42, 4, -32), (47, 12, -24)),
    "LL": ((43, 28, -26), (38, 22, -50), (45, 30, -46)),
}


@cache
def _profile(rows: tuple[tuple[float, ...], ...]) -> tuple[Array, Array]:
    """Rows by height -> a 1 mm table [height, column], smoothed so that no kink shows."""
    table = np.array(sorted(rows), dtype=np.float64)
    z = np.arange(-270.0, 141.0)
    taps = np.exp(-0.5 * (np.arange(-18, 19) / 6.0) ** 2)
    taps /= taps.sum()
    columns = []
    for k in range(1, table.shape[1]):
        column = np.pad(np.interp(z, table[:, 0], table[:, k]), 18, mode="edge")
        columns.append(np.convolve(column, taps, mode="valid"))
    return z.astype(np.float32), np.stack(columns).astype(np.float32)


def _at(rows: tuple[tuple[float, ...], ...], z: Array) -> list[Array]:
    grid, columns = _profile(rows)
    return [np.interp(z, grid, column).astype(np.float32) for column in columns]


def smin(a: Array, b: Array, k: float) -> Array:
    """Smooth minimum: intersection of two fields with a fillet of about k mm."""
    h = np.maximum(np.float32(k) - np.abs(a - b), np.float32(0))
    field: Array = np.minimum(a, b) - h * h * np.float32(0.25 / k)
    return field


def smax(a: Array, b: Array, k: float) -> Array:
    """Smooth maximum: union of two fields with a fillet of about k mm."""
    return -smin(-a, -b, k)


def section(x: Array, y: Array, a: Array, b: Array, n: float = 2.0) -> Array:
    """Field of a superellipse of half axes a, b and exponent n, in mm."""
    u, v = np.abs(x) / a, np.abs(y) / b
    if n == 2.0:
        f = np.sqrt(u * u + v * v) + np.float32(1e-6)
        slope = np.sqrt((u / a) ** 2 + (v / b) ** 2) / f
    else:
        pu, pv = u ** np.float32(n - 1), v ** np.float32(n - 1)
        f = (pu * u + pv * v + np.float32(1e-9)) ** np.float32(1 / n)
        slope = np.sqrt((pu / a) ** 2 + (pv / b) ** 2) / f ** np.float32(n - 1)
    field: Array = (1 - f) / np.maximum(slope, np.float32(1e-3))
    return field


def capsule(at: Place, p: Point, q: Point, r: float, s: float) -> Array:
    """Field of the capsule from p to q whose radius goes from r to s, in mm."""
    d = [q[i] - p[i] for i in range(3)]
    length2 = max(d[0] ** 2 + d[1] ** 2 + d[2] ** 2, 1e-6)
    rx, ry, rz = (at[i] - np.float32(p[i]) for i in range(3))
    dx, dy, dz = (np.float32(v) for v in d)
    t = np.clip((rx * dx + ry * dy + rz * dz) / np.float32(length2), 0, 1)
    ex, ey, ez = rx - t * dx, ry - t * dy, rz - t * dz
    radius: Array = np.float32(r) + t * np.float32(s - r)
    field: Array = radius - np.sqrt(ex * ex + ey * ey + ez * ez)
    return field


def _chain(at: Place, chains: Sequence[tuple[float, tuple[Point, ...]]]) -> Array:
    """Union of chains of capsules; each is computed only where z is near it."""
    x, y, z = at
    shape = np.broadcast_shapes(x.shape, y.shape, z.shape)
    out = np.full(shape, -60.0, np.float32)
    slabs = len(shape) == 3 and z.shape == (shape[0], 1, 1)
    for radius, points in chains:
        for p, q in pairwise(points):
            r = radius
            if slabs:
                near = np.flatnonzero(
                    (z.ravel() > min(p[2], q[2]) - r - 25) & (z.ravel() < max(p[2], q[2]) + r + 25)
                )
                if near.size:
                    cut = slice(int(near[0]), int(near[-1]) + 1)
                    field = capsule((x, y, z[cut]), p, q, r, r)
                    out[cut] = smax(out[cut], field, 3.0)
            else:
                out = smax(out, capsule(at, p, q, r, r), 3.0)
    return out


def _ellipsoid(at: Place, c: Point, r: Point, axis: Point) -> Array:
    """Field of an ellipsoid whose first half axis lies along `axis`, the second near -y."""
    e0 = np.array(axis) / np.linalg.norm(axis)
    e2 = np.cross(e0, (0.0, 1.0, 0.0))
    e2 /= np.linalg.norm(e2)
    e1 = np.cross(e2, e0)
    rx, ry, rz = (at[i] - np.float32(c[i]) for i in range(3))
    k0 = k1 = np.float32(0) * rx
    for e, half in zip((e0, e1, e2), r, strict=True):
        ux, uy, uz = (np.float32(v / half) for v in e)
        w = rx * ux + ry * uy + rz * uz
        k0 = k0 + w * w
        k1 = k1 + (w / np.float32(half)) ** 2
    root: Array = np.sqrt(k0)
    field: Array = root * (1 - root) / np.maximum(np.sqrt(k1), np.float32(1e-4))
    return field


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One adult: the reference scaled by `scale`, surfaces waved by `phases` (6 values)."""

    scale: float
    phases: tuple[float, ...]

    def _unit(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        s = np.float32(1 / self.scale)
        return x * s, y * s, z * s

    def _wave(self, x: Array, y: Array, z: Array, amplitude: float) -> Array:
        p = self.phases
        wave: Array = (
            np.sin(x / 17 + np.float32(p[0])) * np.sin(y / 21 + np.float32(p[1]))
            + np.sin(z / 15 + np.float32(p[2])) * np.sin(y / 14 + np.float32(p[3]))
            + np.sin(x / 27 + np.float32(p[4])) * np.sin(z / 29 + np.float32(p[5]))
        )
        field: Array = wave * np.float32(amplitude / 1.5)
        return field

    def body(self, x: Array, y: Array, z: Array) -> Array:
        """The skin."""
        x, y, z = self._unit(x, y, z)
        a, b, yc = _at(_BODY_ROWS, z)
        # the back is flatter (it lies on the table) and has a shallow groove over the spine
        dy = y - yc
        dy = np.where(dy > 0, dy * (1 + np.float32(0.06) * np.exp(-((x / 20) ** 2))), dy)
        field: Array = section(x, dy, a, b, 2.35) * np.float32(self.scale)
        return field

    def cage(self, x: Array, y: Array, z: Array) -> Array:
        """The inner surface of the rib cage; below 0 lies the chest wall."""
        x, y, z = self._unit(x, y, z)
        a, b, yc = _at(_CAGE_ROWS, z)
        field: Array = section(x, y - yc, a, b, 2.15) * np.float32(self.scale)
        return field

    def diaphragm(self, x: Array, y: Array, z: Array) -> Array:
        """Positive above the two domes; the right one is higher."""
        x, y, z = self._unit(x, y, z)
        tops = []
        for x0, top, half in ((-68.0, -98.0, 66.0), (68.0, -113.0, 64.0)):
            dy = y + np.float32(14)
            q = ((x - np.float32(x0)) / np.float32(half)) ** 2 + np.where(
                dy > 0, (dy / 96) ** 2, (dy / 112) ** 2
            )
            tops.append(np.float32(top) - np.float32(74) * q)
        height = smax(tops[0].astype(np.float32), tops[1].astype(np.float32), 12.0)
        slope = np.minimum(np.sqrt(1 + (np.abs(height + 98) / 45)), np.float32(1.9))
        field: Array = ((z - height) / slope + self._wave(x, y, z, 0.8)) * np.float32(self.scale)
        return field

    def heart(self, x: Array, y: Array, z: Array) -> Array:
        """The four chambers with their walls."""
        x, y, z = self._unit(x, y, z)
        first, *others = (_ellipsoid((x, y, z), *chamber) for chamber in _CHAMBERS)
        out = first
        for field in others:
            out = smax(out, field, 10.0)
        whole: Array = out * np.float32(self.scale)
        return whole

    def vessels(self, x: Array, y: Array, z: Array) -> Array:
        """Aorta, pulmonary trunk, cavae and the branches of the arch."""
        x, y, z = self._unit(x, y, z)
        field: Array = _chain((x, y, z), _VESSELS) * np.float32(self.scale)
        return field

    def airways(self, x: Array, y: Array, z: Array) -> Array:
        """The lumen of trachea and central bronchi; the wall is 1.5 mm outside."""
        x, y, z = self._unit(x, y, z)
        field: Array = _chain((x, y, z), _AIRWAYS) * np.float32(self.scale)
        return field

    def oesophagus(self, x: Array, y: Array, z: Array) -> Array:
        """A collapsed tube behind trachea and left atrium."""
        x, y, z = self._unit(x, y, z)
        (yc, _, depth) = _at(_SPINE_ROWS, z)
        front = yc - depth - np.float32(8.5)
        a, b = np.float32(9) + 0 * z, np.float32(6.3) + 0 * z
        field: Array = section(x - 5, y - front, a, b) * np.float32(self.scale)
        return field

    def _mediastinum(
        self, at: Place, heart: Array, vessels: Array, tubes: tuple[Array, Array]
    ) -> Array:
        """What the lungs leave free: organs with their fat, and the midline septum."""
        x, y, z = self._unit(*at)
        airways, oesophagus = tubes
        out = smax(heart + 3, vessels + 2, 12.0)
        out = smax(out, airways + 3, 6.0)
        out = smax(out, oesophagus + 3, 10.0)
        half = np.float32(3.5) + np.float32(22) / (1 + np.exp(-(z - 42) / 9))
        half = half + np.float32(14) * np.exp(-(((z + 112) / 45) ** 2))
        front = smin(half - np.abs(x - 3), np.float32(30) - y, 6.0)
        return smax(out, front * np.float32(self.scale), 14.0)

    def spine(self, x: Array, y: Array, z: Array) -> dict[str, Array]:
        """Fields of `body` (the column of vertebral bodies), `level` (distance to the nearest end
        plate), `canal`, `arch`, and `soft` (column and the muscle around its processes)."""
        x, y, z = self._unit(x, y, z)
        yc, a, b = _at(_SPINE_ROWS, z)
        # bodies are waisted between the end plates
        level = (z - np.float32(VERTEBRA_TOP)) / np.float32(VERTEBRA_PITCH)
        dz = (level - np.round(level)) * np.float32(VERTEBRA_PITCH)
        waist = 1 - np.float32(0.07) * np.cos(dz * np.float32(2 * np.pi / VERTEBRA_PITCH))
        body = section(x, y - yc, a * waist, b * waist)
        canal = section(x, y - yc - b - 8, np.float32(8.5) + 0 * z, np.float32(7.5) + 0 * z)
        ring = smin(canal + np.float32(5.5), -canal, 1.0)
        back = yc + b + 14
        spinous = capsule((x, y - back, dz + 0 * y), (0, 0, 2), (0, 26, -9), 4.0, 3.4)
        side = np.abs(x)
        process = capsule((side, y - yc - b - 9, dz + 0 * y), (9, 0, 2), (32, 9, 4), 5.0, 4.0)
        arch = np.maximum(smax(ring - np.abs(dz) * np.float32(0.15), spinous, 2.0), process)
        soft = smax(body + 1, canal + 7, 6.0)
        gutter = capsule((side, y - yc - b - 6, 0 * z), (0, 4, 0), (26, 14, 0), 9.0, 8.0)
        s = np.float32(self.scale)
        return {
            "body": body * s,
            "level": (np.float32(VERTEBRA_PITCH / 2 - 2.4) - np.abs(dz)) * s,
            "canal": canal * s,
            "arch": arch * s,
            "soft": smax(soft, gutter, 8.0) * s,
        }

    def rib_order(self, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
        """Continuous rib number (integers on the centre lines) and the angle round the cage,
        0 at the spine and pi at the sternum."""
        x, y, z = self._unit(x, y, z)
        angle = np.arctan2(np.abs(x), y - 5)
        fall = np.float32(40) + np.float32(48) * np.clip((70 - z) / 110, 0, 1)
        drop = fall * (np.float32(0.5) - np.float32(0.5) * np.cos(angle * np.float32(0.92)))
        order = 1 + (np.float32(VERTEBRA_TOP + 4) - z - drop) / np.float32(RIB_PITCH)
        return order.astype(np.float32), angle

    def fissures(self, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
        """Signed distances to the oblique and the horizontal fissure (positive above). The latter
        only means something on the right and in front of the oblique one [Hansell]."""
        x, y, z = self._unit(x, y, z)
        shift = np.where(x > 0, np.float32(10), np.float32(0))
        bow = 7 * np.sin(y / 30 + np.float32(self.phases[0])) + 5 * np.cos(x / 33)
        oblique = z - (np.float32(24) + shift - (70 - y) * np.float32(1.15) + bow)
        flat = z - (np.float32(-30) + 6 * np.sin(x / 26) - (y + 20) * np.float32(0.12))
        return (oblique * np.float32(self.scale / 1.52)).astype(np.float32), (
            flat * np.float32(self.scale)
        ).astype(np.float32)

    def lungs(self, x: Array, y: Array, z: Array) -> dict[str, Array]:
        """Fields of `lungs` (both), `wall` (distance to the costal surface alone),
        `mediastinum` and its parts, `diaphragm`."""
        heart, vessels = self.heart(x, y, z), self.vessels(x, y, z)
        airways, oesophagus = self.airways(x, y, z), self.oesophagus(x, y, z)
        middle = self._mediastinum((x, y, z), heart, vessels, (airways, oesophagus))
        above = self.diaphragm(x, y, z)
        soft = self.spine(x, y, z)["soft"]
        ux, uy, uz = self._unit(x, y, z)
        xc, a, b, yc = _at(_LUNG_ROWS, uz)
        wall = section(np.abs(ux) - xc, uy - yc, np.maximum(a, 1), np.maximum(b, 1), 2.15)
        wall = (wall + self._wave(ux, uy, uz, 1.0)) * np.float32(self.scale)
        # the hila are tied to the mediastinum, so the fillet there is wide
        lungs = smin(smin(smin(wall, above, 5.0), -middle, 7.0), -soft, 6.0)
        return {
            "lungs": lungs,
            "wall": wall,
            "mediastinum": middle,
            "diaphragm": above,
            "heart": heart,
            "vessels": vessels,
            "airways": airways,
            "oesophagus": oesophagus,
        }

    def lobe(self, x: Array, y: Array, z: Array) -> npt.NDArray[np.str_]:
        """Which lobe each point belongs to, were it in a lung."""
        oblique, flat = self.fissures(x, y, z)
        right = np.where(oblique < 0, "RL", np.where(flat > 0, "RU", "RM"))
        return np.where(x < 0, right, np.where(oblique < 0, "LL", "LU"))
