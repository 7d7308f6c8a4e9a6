"""Pulmonary vessels and bronchi of the phantom: trees that fill a lobe, drawn as soft capsules.

Rules of this module:

1. A tree is grown from its root into given end points by volume filling: a branch goes part of
   the way to the centre of the points it feeds, the points are split by a plane, and so on until
   one point is left (M. H. Tawhai et al., Ann. Biomed. Eng. 28 (2000) 793).
2. Radii obey Murray's law, r_parent^3 = sum r_child^3 (C. D. Murray, PNAS 12 (1926) 207), from
   end vessels of 0.4-0.7 mm (W. Huang et al., J. Appl. Physiol. 81 (1996) 2123, orders 10-11).
3. Segments are plain rows of numbers: start xyz, end xyz, start radius, end radius (mm).
4. Same points, same tree; what is random comes from the generator that is passed in.
5. Each lobe has its own artery, vein and bronchus, and no vessel lies on a fissure. A bronchus
   runs beside each artery, as wide as the artery or a little less (Weibel, Morphometry of the
   Human Lung, 1963).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from appliance.phantom import anatomy as a
from appliance.phantom.field import Field
from appliance.phantom.raster import Grid, Point

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

ARTERY_ENDS: Final = 3600  # both lungs together
VEIN_ENDS: Final = 2800
TWIGS: Final = 13000  # the smallest vessels seen, side branches of the trees
TWIG_SEEN_MM: Final = 1.3  # pixels above which twigs vanish in the partial volume
DRAWN_MM: Final = 0.02  # nobody sees a vessel that is off by this
BRONCHUS_LEAST_MM: Final = 1.25  # lumen radius below which no airway is seen in CT
STEP: Final = 0.42  # part of the way to the centre of the fed points, after Tawhai
UNEVEN: Final = 7.2  # points to choose unevenly from, of each end
STEPS: Final = (0.26, 0.58)  # of a tree that is grown by a whim
SHARES: Final = (0.24, 0.76)  # of the fed points, what the first of two branches feeds
PIECE_MM: Final = 7.0  # curved branches are drawn in pieces of about this length


def grow(
    root: tuple[float, float, float],
    ends: Rows,
    radii: Rows,
    whim: np.random.Generator | None = None,
) -> Rows:
    """A tree from `root` to each of `ends` [n, 3] with end radii [n], as segments [m, 8]. With a
    `whim` each branch has a length of its own and parts in a direction of its own."""
    out: list[tuple[float, ...]] = []
    start = np.asarray(root, np.float64)
    toward = ends.mean(axis=0) - start
    stack = [
        (
            start,
            toward / max(float(np.linalg.norm(toward)), 1e-6),
            ends,
            radii,
            float(np.sum(radii**3)) ** (1 / 3),
        )
    ]
    while stack:
        begin, heading, points, radius, inflow = stack.pop()
        own = float(np.sum(radius**3)) ** (1 / 3)
        if len(points) == 1:
            stop = points[0]
        else:
            step = STEP if whim is None else float(whim.uniform(*STEPS))
            stop = begin + step * (points.mean(axis=0) - begin)
        way = stop - begin
        length = float(np.linalg.norm(way))
        # a quadratic curve that leaves the parent along its direction
        pieces = max(1, round(length / PIECE_MM))
        bend = begin + way / 2 + (heading * length - way) * 0.12
        if pieces == 1:
            curve = np.stack([begin, stop])
        else:
            t = np.linspace(0.0, 1.0, pieces + 1)[:, None]
            curve = (1 - t) ** 2 * begin + 2 * t * (1 - t) * bend + t**2 * stop
        # the step down from the parent is spread over the first piece, so vessels taper
        first = min(inflow, own * 1.25)
        for k in range(pieces):
            r0 = first if k == 0 else own
            out.append((*curve[k], *curve[k + 1], r0, own))
        if len(points) == 1:
            continue
        leave = stop - bend
        heading = leave / max(float(np.linalg.norm(leave)), 1e-6)
        centred = points - points.mean(axis=0)
        # split across the longest extent of the fed points: the heaviest eigenvector
        axis = way if len(points) == 2 else np.linalg.eigh(centred.T @ centred)[1][:, -1]
        # uneven halves: real branching is asymmetric (Weibel; Horsfield)
        share = 0.36 if len(points) % 2 else 0.58
        if whim is not None:
            axis = axis / np.linalg.norm(axis) + whim.normal(0, 0.6, 3)
            share = float(whim.uniform(*SHARES))
        order = np.argsort(centred @ axis, kind="stable")
        cut = max(1, min(len(points) - 1, round(len(points) * share)))
        for part in (order[:cut], order[cut:]):
            stack.append((stop, heading, points[part], radius[part], own))
    return np.array(out)


def draw(
    target: Bytes,
    segments: Rows,
    spacing_mm: tuple[float, float, float],
    origin_lps_mm: tuple[float, float, float],
    blur_mm: float,
) -> None:
    """Stamp tapered capsules into `target` [z, y, x] as occupancy 0..255, the larger one winning.

    Each is computed in its bounding box only. `blur_mm` is the width of the soft edge; a vessel
    thinner than that keeps its cross-section on average: its peak falls.
    """
    sz, sy, sx = spacing_mm
    ox, oy, oz = origin_lps_mm
    nz, ny, nx = target.shape
    for row in segments.astype(np.float32):
        p, q, r, s = row[:3], row[3:6], float(row[6]), float(row[7])
        reach = max(r, s) + blur_mm
        low, high = np.minimum(p, q) - reach, np.maximum(p, q) + reach
        x0, x1 = max(0, int((low[0] - ox) / sx)), min(nx, int((high[0] - ox) / sx) + 2)
        y0, y1 = max(0, int((low[1] - oy) / sy)), min(ny, int((high[1] - oy) / sy) + 2)
        z0, z1 = max(0, int((low[2] - oz) / sz)), min(nz, int((high[2] - oz) / sz) + 2)
        if x0 >= x1 or y0 >= y1 or z0 >= z1:
            continue
        d = q - p
        x = np.arange(x0, x1, dtype=np.float32) * np.float32(sx) + np.float32(ox - p[0])
        y = (np.arange(y0, y1, dtype=np.float32) * np.float32(sy) + np.float32(oy - p[1]))[:, None]
        z = np.arange(z0, z1, dtype=np.float32) * np.float32(sz) + np.float32(oz - p[2])
        z = z[:, None, None]
        length2 = np.float32(max(float(d @ d), 1e-6))
        t = np.clip((x * d[0] + (y * d[1] + z * d[2])) / length2, 0, 1)
        ex, ey, ez = x - t * d[0], y - t * d[1], z - t * d[2]
        radius = np.float32(r) + t * np.float32(s - r)
        soft = (radius - np.sqrt(ex * ex + ey * ey + ez * ez)) / np.float32(blur_mm) + 0.5
        thin = min(1.0, (2 * max(r, s) / blur_mm) ** 2)
        drawn = (np.clip(soft, 0, 1) * np.float32(255 * thin)).astype(np.uint8)
        box = target[z0:z1, y0:y1, x0:x1]
        np.maximum(box, drawn, out=box)


@dataclass(frozen=True, slots=True)
class Trees:
    blood: npt.NDArray[np.float64]  # segments [m, 8]: arteries, veins
    wall: npt.NDArray[np.float64]  # outer surface of the bronchi
    lumen: npt.NDArray[np.float64]

    def moved(self, field: Field) -> Trees:
        """The same trees as the image of this field shows them; radii stay as they are."""
        return Trees(*(moved(rows, field) for rows in (self.blood, self.wall, self.lumen)))


def moved(segments: Rows, field: Field) -> Rows:
    """Segments [m, 8] with their ends in the image of a field, within DRAWN_MM."""
    rows: Rows = segments.copy()
    ends, which = np.unique(segments[:, 0:6].reshape(-1, 3), axis=0, return_inverse=True)
    rows[:, 0:6] = field.to_image(ends, DRAWN_MM)[which.ravel()].reshape(-1, 6)
    return rows


def spread(n: int, shift: float) -> Array:
    """n points that fill the box of the lungs evenly (additive recurrence), [n, 3] in mm."""
    steps = 1 / np.power(1.2207440846057596, np.arange(1, 4))
    unit = (shift + np.arange(1, n + 1)[:, None] * steps) % 1
    low, high = np.array([-150.0, -110.0, -200.0]), np.array([150.0, 110.0, 96.0])
    points: Array = (low + unit * (high - low)).astype(np.float32)
    return points


def maybe_lung(body: a.Anatomy, points: Array) -> npt.NDArray[np.bool_]:
    """Inside the rib cage and above the diaphragm: a cheap first sieve."""
    x, y, z = points.T
    sieve: npt.NDArray[np.bool_] = (body.cage(x, y, z) > 0) & (body.diaphragm(x, y, z) > 0)
    return sieve


def plant(body: a.Anatomy, rng: np.random.Generator, *, varied: bool = False) -> Trees:
    """The trees of one person. Without `varied` their ends fill the lobes evenly and branches part
    by one rule, so that the trees of any two persons are much alike from the hilum on."""
    blood, wall, lumen = [], [], []
    for kind, ends in (("artery", ARTERY_ENDS), ("vein", VEIN_ENDS)):
        points = spread(int(ends * (UNEVEN if varied else 3.6)), float(rng.uniform()))
        points = points[maybe_lung(body, points)]
        if varied:
            points = points[_favoured(points, rng)]
        x, y, z = points.T
        field = body.lungs(x, y, z)["lungs"]
        oblique, flat = body.fissures(x, y, z)
        # vessels thin out towards pleura and fissures
        near = np.minimum(np.abs(oblique), np.where((x < 0) & (oblique > 0), np.abs(flat), 99))
        inside = (field > 3.0) & (near > 2.0)
        lobes = body.lobe(x, y, z)
        radii = rng.uniform(0.46, 0.80, len(points))
        jitter = rng.normal(0, 2.0, (len(points), 3))
        for name, (artery, vein, bronchus) in a.LOBES.items():
            mine = inside & (lobes == name)
            stops = points[mine] + np.clip(jitter[mine], -2.5, 2.5)
            root = artery if kind == "artery" else vein
            tree = grow(_scaled(root, body.scale), stops, radii[mine], rng if varied else None)
            blood.append(tree)
            if kind == "artery":
                w, inner = _bronchi(tree, bronchus, body.scale)
                wall.append(w)
                lumen.append(inner)
    return Trees(np.concatenate(blood), np.concatenate(wall), np.concatenate(lumen))


def _favoured(points: Array, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Ends that a person's vessels feed: more of them here and fewer there, by slow waves."""
    waves = np.zeros(len(points))
    for length in (130.0, 90.0, 70.0):
        way = rng.normal(size=3)
        way *= 2 * np.pi / length / np.linalg.norm(way)
        waves += np.sin(points @ way + rng.uniform(0, 2 * np.pi))
    kept: npt.NDArray[np.bool_] = rng.uniform(size=len(points)) < 1 / (1 + np.exp(-2.5 * waves))
    return kept


def twigs(
    body: a.Anatomy, blood: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Side branches [m, 8] from the trees to points that fill the lung up to the pleura."""
    points = spread(int(TWIGS * 3.6), float(rng.uniform()))
    points = points[maybe_lung(body, points)]
    x, y, z = points.T
    oblique, flat = body.fissures(x, y, z)
    near = np.minimum(np.abs(oblique), np.where((x < 0) & (oblique > 0), np.abs(flat), 99))
    keep = (body.lungs(x, y, z)["lungs"] > 2.5) & (near > 1.5)
    points = points[keep]
    points = points + rng.uniform(-2, 2, points.shape).astype(np.float32)
    lobes = body.lobe(*points.T)
    nodes = blood[blood[:, 7] < 2.2]
    at = nodes[:, 3:6].astype(np.float32)
    homes = body.lobe(*at.T)
    out = []
    for name in a.LOBES:
        tips, base = points[lobes == name], at[homes == name]
        thick = nodes[homes == name][:, 7]
        gap = (tips**2).sum(1)[:, None] + (base**2).sum(1)[None, :] - 2 * (tips @ base.T)
        nearest = np.argmin(gap, axis=1)
        tip_radius = rng.uniform(0.30, 0.52, len(tips))
        start_radius = np.minimum(thick[nearest], tip_radius * 1.35)
        out.append(
            np.concatenate(
                [base[nearest], tips, start_radius[:, None], tip_radius[:, None]], axis=1
            )
        )
    return np.concatenate(out).astype(np.float64)


def _scaled(p: Point, s: float) -> Point:
    return (p[0] * s, p[1] * s, p[2] * s)


def _bronchi(
    tree: npt.NDArray[np.float64], root: Point, scale: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The bronchus that runs beside each artery: its lumen is a little narrower than the artery,
    its wall about a fifth of its diameter (Weibel; Hansell)."""
    lumen = 0.80 * tree[:, 6:8]
    outer = lumen + np.maximum(0.4, 0.2 * lumen)
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


def draw_trees(grid: Grid, trees: Trees) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    shape = (grid.slices, grid.rows, grid.rows)
    blood, lumen = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    blur = max(0.7, grid.step_mm[1])
    for target, segments in ((blood, trees.blood), (blood, trees.wall), (lumen, trees.lumen)):
        # what is far thinner than a pixel would not be seen: it is left out
        seen = segments[segments[:, 6] > 0.3 * blur]
        draw(target, seen, grid.step_mm, grid.origin, blur)
    return blood, lumen
