"""Pulmonary vessels and bronchi of the phantom: trees that fill a lobe, drawn as soft capsules.

Rules of this module:

1. A tree is grown from its root into given end points by volume filling: a branch goes part of
   the way to the centre of the points it feeds, the points are split by a plane, and so on until
   one point is left (M. H. Tawhai et al., Ann. Biomed. Eng. 28 (2000) 793).
2. Radii obey Murray's law, r_parent^3 = sum r_child^3 (C. D. Murray, PNAS 12 (1926) 207), from
   end vessels of 0.4-0.7 mm (W. Huang et al., J. Appl. Physiol. 81 (1996) 2123, orders 10-11).
3. Segments are plain rows of numbers: start xyz, end xyz, start radius, end radius (mm).
4. Same points, same tree: nothing here is random.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

STEP = 0.42  # part of the way to the centre of the fed points, after Tawhai
PIECE_MM = 7.0  # curved branches are drawn in pieces of about this length


def grow(root: tuple[float, float, float], ends: Rows, radii: Rows) -> Rows:
    """A tree from `root` to each of `ends` [n, 3] with end radii [n], as segments [m, 8]."""
    out: list[tuple[float, ...]] = []
    start = np.asarray(root, np.float64)
    toward = ends.mean(axis=0) - start
    stack = [(start, toward / max(float(np.linalg.norm(toward)), 1e-6), ends, radii,
              float(np.sum(radii**3)) ** (1 / 3))]
    while stack:
        begin, heading, points, radius, inflow = stack.pop()
        own = float(np.sum(radius**3)) ** (1 / 3)
        if len(points) == 1:
            stop = points[0]
        else:
            stop = begin + STEP * (points.mean(axis=0) - begin)
        way = stop - begin
        length = float(np.linalg.norm(way))
        # a quadratic curve that leaves the parent along its direction
        pieces = max(1, round(length / PIECE_MM))
        bend = begin + way / 2 + (heading * length - way) * 0.22
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
        axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        order = np.argsort(centred @ axis, kind="stable")
        # uneven halves: real branching is asymmetric (Weibel; Horsfield)
        cut = max(1, min(len(points) - 1, round(len(points) * (0.36 if len(points) % 2 else 0.58))))
        for part in (order[:cut], order[cut:]):
            stack.append((stop, heading, points[part], radius[part], own))
    return np.array(out)


def draw(target: Bytes, segments: Rows, spacing_mm: tuple[float, float, float],
         origin_lps_mm: tuple[float, float, float], blur_mm: float) -> None:
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
        z = (np.arange(z0, z1, dtype=np.float32) * np.float32(sz) + np.float32(oz - p[2]))
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
