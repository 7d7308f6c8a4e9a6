"""Bronchi of a lung, from the hilum outwards: what stays black in a consolidation.

Rules. An air bronchogram is a pattern of air-filled bronchi on a background of opaque airless lung
(Fleischner Society glossary 2008). A CT of 3 mm shows too little of a host's own bronchi, so they
are drawn: branches that leave the nearest older one, bend a little, and thin out with the way from
the hilum, from the lumen of a lobar bronchus (6 mm) down to 1.2 mm, about where CT loses them.
"""

from __future__ import annotations

import numpy as np

from training.implant.decoys import FINE_MM, capsule
from training.implant.disease.chest import centre_of
from training.implant.disease.fields import drawn
from training.implant.disease.layers import Site
from training.read.volume import F32, F64, Bool

STEP_MM = 5.0
RADIUS_MM = (3.2, 0.6)
"""At the hilum, and the thinnest that is drawn."""
THINS_MM = 45.0
"""The way on which the radius falls to 1/e of it."""
HILUM = 0.85
"""How far inwards (0-1) the hilum lies, at mid-height."""


def lumen(rng: np.random.Generator, site: Site, towards: Bool, ends: int) -> F32:
    """Share of each voxel [z, y, x] that is air inside of a bronchus; `ends` branches lead into
    `towards`."""
    dz, dy, dx = site.spacing
    parts = int(np.ceil(dz / FINE_MM)) if dz > 1.5 * max(dy, dx) else 1
    planes, rows, columns = site.hu.shape
    canvas = np.zeros((planes * parts, rows, columns), np.float32)
    fine = np.array(site.spacing) / [parts, 1, 1]
    for start, end, radius in _tree(rng, site, towards, ends):
        capsule(canvas, fine, start, end, radius)
    return canvas.reshape(planes, parts, rows, columns).mean(1) if parts > 1 else canvas


def _tree(
    rng: np.random.Generator, site: Site, towards: Bool, ends: int
) -> list[tuple[F64, F64, float]]:
    """Start, end (mm from the box's edge) and radius of each piece of the bronchi."""
    lung = site.lung
    gate = lung.inside & (lung.inward > HILUM) & (np.abs(lung.height - 0.5) < 0.2)
    root = centre_of(lung.zyx_mm, gate if gate.any() else lung.inside)
    goals = (drawn(rng, towards.astype(np.float32), ends) + rng.random((ends, 3))) * site.spacing
    goals = goals[np.argsort(np.linalg.norm(goals - root, axis=1))]
    nodes, way = root[None], np.zeros(1)
    pieces = []
    for goal in goals:
        far = np.linalg.norm(nodes - goal, axis=1)
        parent = int(np.argmin(far + 0.3 * way))
        count = max(int(far[parent] / STEP_MM), 1)
        t = np.linspace(0, 1, count + 1)[:, None]
        bend = rng.standard_normal(3) * 0.12 * far[parent]
        line = nodes[parent] * (1 - t) + goal * t + bend * t * (1 - t)
        along = way[parent] + t[:, 0] * far[parent]
        radii = np.maximum(RADIUS_MM[0] * np.exp(-along / THINS_MM), RADIUS_MM[1])
        pieces += [(line[i], line[i + 1], float(radii[i])) for i in range(count)]
        nodes, way = np.concatenate([nodes, line[1:]]), np.concatenate([way, along[1:]])
    return pieces
