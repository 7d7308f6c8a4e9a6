"""A network of displacements as what lays one exam over another (prior/displace.Displace). Pure.

The head says how often it is asked: each time but the first, the earlier exam is warped by what was
said so far, and the field of both is that of the second, then that of the first at where it leads.
"""

from __future__ import annotations

import numpy as np

from appliance.backend.protocol import Backend
from appliance.bundle.exams import Compare
from appliance.bundle.manifest import Manifest
from appliance.errors import BundleRefused
from appliance.prior.displace import CELL_MM, PAD, Displace
from appliance.prior.warp import F32, Volume
from appliance.records import Tensor


def by_network(manifest: Manifest, backend: Backend) -> Displace:
    """The network of a bundle of kind `compare`. BundleRefused (`compare_grid`) where it wants
    another grid than this release lays exams on."""
    head = manifest.line_of(Compare).displace
    if head.grid_mm != CELL_MM or PAD % head.multiple:
        raise BundleRefused(
            f"{manifest.name} lays exams on {head.grid_mm:g} mm, this release on {CELL_MM:g} mm",
            code="compare_grid",
        )

    def asked(prior: F32, current: F32) -> F32:
        images = {"prior": _tensor(prior), "current": _tensor(current)}
        return np.asarray(backend.infer("displace", images)[head.output][0], np.float32)

    def displace(prior: F32, current: F32) -> F32:
        field = asked(prior, current)
        for _ in range(head.passes - 1):
            second = asked(_at(prior, field), current)
            field = second + np.stack([_at(part, second) for part in field])
        return np.asarray(field, np.float32)

    return displace


def _tensor(image: F32) -> Tensor:
    values = np.ascontiguousarray(image[None, None], np.float32)
    return Tensor(values, values.shape, None)


def _at(values: F32, field: F32) -> F32:
    """Values [z, y, x] at where a field [3, z, y, x] in mm leads."""
    z, y, x = (
        grid.astype(np.float32) + part / np.float32(CELL_MM)
        for grid, part in zip(np.indices(values.shape), field, strict=True)
    )
    return Volume(values).at(z, y, x).reshape(values.shape)
