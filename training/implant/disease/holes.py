"""Lung that is lost: emphysema, bullae, honeycombing, cavities.

Rules.
1. Emphysema is measured as what is below -950 HU, by the density mask (Mueller et al., Chest
   1988;94:782-787, at the threshold that Gevenois et al., AJRCCM 1996;154:187-192 found against
   pathology). Its holes have no walls of their own.
2. Bullae, cysts of a honeycomb and cavities have walls: up to 1 mm, 1 to 3 mm, more (Fleischner
   glossary 2008). A wall thinner than a voxel is a share of it.
3. What is lost takes its vessels along, but emphysema leaves those wider than a hole's wall.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from training.implant.disease.fields import (
    Balls,
    Sizes,
    cloud,
    radius_of,
    ramp,
    threshold,
)
from training.implant.disease.layers import Layer, Site
from training.read.volume import F32, Bool

EMPHYSEMA_HU = (-1000.0, -980.0)
VESSEL_HU = -650.0
BULLA_HU = (-1005.0, -985.0)
BULLA_MM = (11.0, 90.0)
"""Diameters: a bulla is wider than 1 cm (Fleischner glossary 2008)."""
CYST_MM = (5.0, 10.0)
"""Distances of cysts: most are 3 to 10 mm wide (Fleischner glossary 2008)."""
FINE_MM = 2.0
"""Thicker planes are cut into parts before a honeycomb is laid into them."""
CAVITY_MM = (16.0, 60.0)


def emphysema(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Centrilobular emphysema: `ml` ml of holes of some mm that flow together, most of them in the
    upper half of the lung (Lynch et al., Radiology 2015;277:192-205)."""
    lung, shape = site.lung, site.lung.inside.shape
    vessels = np.asarray(site.hu > VESSEL_HU) & lung.inside
    free = site.core & ~vessels
    field = cloud(rng, shape, site.spacing, rng.uniform(3.5, 7))
    field += rng.uniform(0.3, 0.9) * cloud(rng, shape, site.spacing, 40.0)
    field = np.asarray(field + rng.uniform(0.4, 1.6) * lung.height, np.float32)
    at = threshold(field, free, site.count(ml))
    # full where it counts as emphysema: half a hole would not be below -950 HU
    share = np.where(vessels, 0, ramp(field, at, 0.6, share=0.9))
    mask = free & (field >= at)
    return [Layer(np.asarray(share, np.float32), rng.uniform(*EMPHYSEMA_HU), "emphysema", mask)]


def bulla(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Bullae of `ml` ml in all: round spaces of air under the pleura with a thin wall, alone or as
    a cluster, more often at the apex (Fleischner glossary 2008)."""
    lung, count = site.lung, site.count(ml)
    outer = np.exp(-np.maximum(lung.rim_mm, 0) / 4)
    free = site.core
    weight = np.where(free, outer * (0.15 + lung.height**2), 0)
    least = BULLA_MM[0] / 2
    most = float(np.clip(1.1 * radius_of(ml), least + 0.5, BULLA_MM[1] / 2))
    sizes = Sizes(max(least, most / 4), most, 1.3)
    balls = Balls.filling(rng, lung, free, weight, count, sizes)
    at = threshold(balls.deepest, free, count)
    edge, wall = site.edge_mm, rng.uniform(0.6, 1.0)
    thin = min(1.0, wall / edge)
    # between two bullae both walls are left as one
    gap = balls.deepest - np.maximum(balls.second, at - wall)
    away = np.where(balls.deepest > at, gap / 2, at - balls.deepest)
    shell = np.clip(1 - away / edge, 0, 1) * thin
    mask = free & (balls.deepest >= at)
    return [
        Layer(ramp(balls.deepest, at, edge), rng.uniform(*BULLA_HU), "bulla", mask),
        Layer(np.asarray(shell, np.float32), 20.0),
    ]


def honeycombing(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Honeycombing of `ml` ml: layers of cysts of 3 to 10 mm with walls of 1 to 3 mm in dense,
    fibrous lung, under the pleura, behind and at the base (Fleischner glossary 2008; Lynch et al.,
    Lancet Respir Med 2018;6:138-153)."""
    lung, shape = site.lung, site.lung.inside.shape
    field = -np.maximum(lung.rim_mm, 0) / np.float32(rng.uniform(6, 12))
    field = field + rng.uniform(0.8, 2.0) * (1 - lung.height) + rng.uniform(0, 1.0) * lung.back
    field += 0.6 * cloud(rng, shape, site.spacing, 25.0)
    field = np.asarray(field + 0.15 * cloud(rng, shape, site.spacing, 7.0), np.float32)
    at = threshold(field, site.free, site.count(ml))
    share = ramp(field, at, 0.5, share=0.7)
    air = _cells(rng, site, share > 0.02) * share
    fibrous = rng.uniform(-150, 0) + 40 * cloud(rng, shape, site.spacing, 5.0)
    return [
        Layer(share * 0.95, fibrous, "honeycombing", site.free & (field >= at)),
        Layer(air, rng.uniform(-1000, -950)),
    ]


def _cells(rng: np.random.Generator, site: Site, where: Bool) -> F32:
    """Share of each voxel [z, y, x] that is the air of a cyst: cells round seeds about a cyst's
    width apart, less their walls."""
    pitch, wall = rng.uniform(*CYST_MM), rng.uniform(1.0, 1.8)
    spacing = np.array(site.spacing)
    extent = np.array(where.shape) * spacing
    lattice = [np.arange(-pitch, e + pitch, pitch) for e in extent]
    seeds = np.stack(np.meshgrid(*lattice, indexing="ij"), -1).reshape(-1, 3)
    tree = cKDTree(seeds + rng.uniform(-0.42, 0.42, seeds.shape) * pitch)
    at = (np.argwhere(where) + 0.5) * spacing
    parts = int(np.ceil(spacing[0] / FINE_MM))
    step = np.array([spacing[0] / parts, spacing[1], spacing[2]])
    edge = float(np.prod(step) ** (1 / 3))
    air = np.zeros(len(at))
    for part in range(parts):
        shift = [(part - (parts - 1) / 2) * step[0], 0, 0]
        far, _ = tree.query(at + shift, k=2)
        to_wall = (far[:, 1] - far[:, 0]) / 2 - wall / 2
        air += 1 - np.clip(0.5 - to_wall / edge, 0, 1) * min(1.0, wall / edge)
    out = np.zeros(where.shape, np.float32)
    out[where] = air / parts
    return out


def cavity(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Cavities, `ml` ml with wall and gas: a gas-filled space in a dense body (Fleischner glossary
    2008), the wall thick and uneven inside, in every third with a level of fluid."""
    lung, count = site.lung, site.count(ml)
    weight = np.where(site.free & (lung.depth_mm > 2), 0.3 + lung.height, 0)
    weight = weight if weight.any() else site.free.astype(np.float32)
    most = float(np.clip(1.1 * radius_of(ml), CAVITY_MM[0] / 2 + 0.5, CAVITY_MM[1] / 2))
    sizes = Sizes(max(CAVITY_MM[0] / 2, most / 2), most, 1.2)
    balls = Balls.filling(rng, lung, site.free, weight, count, sizes)
    field = balls.deepest + cloud(rng, weight.shape, site.spacing, 9.0) * 1.8
    at = threshold(field, site.free, count)
    radii = np.array([b.radius for b in balls.made] + [1.0])
    wall = radii * rng.uniform(0.2, 0.5, len(radii))
    inner = field - at - wall[balls.owner] + 0.8 * cloud(rng, field.shape, site.spacing, 5.0)
    body, gas = ramp(field, at, 2.5), ramp(np.asarray(inner, np.float32), 0, site.edge_mm)
    middle = np.array([b.centre[1] for b in balls.made] + [0.0])
    drop = np.where(rng.random(len(radii)) < 1 / 3, rng.uniform(0.0, 0.4, len(radii)), 9) * radii
    under = lung.zyx_mm[1] - (middle + drop)[balls.owner]
    wet = ramp(np.asarray(under, np.float32), 0, site.edge_mm)
    return [
        Layer(body, rng.uniform(10, 70), "cavity", site.free & (field >= at)),
        Layer(gas * (1 - wet), rng.uniform(-990, -930)),
        Layer(gas * wet, rng.uniform(0, 25)),
    ]
