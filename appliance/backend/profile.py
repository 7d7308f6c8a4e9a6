"""The shapes that an engine is built for: one optimisation profile from a network's op list. Pure.

A series beyond the largest shape is not for the engine; who asks for it gets `engine_shape`. Which
of the rules below holds for a network, the kind of its line says (lines/kind.py).
"""

from __future__ import annotations

import math

from appliance.bundle.manifest import Network
from appliance.errors import BundleRefused
from appliance.preprocess import plan
from appliance.preprocess.spec import Pad

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Of one input: the smallest, the one to be fastest for, the largest."""
WHOLE_MM = (320.0, 360.0, 360.0), (500.0, 500.0, 500.0)
"""(z, y, x) of a whole chest CT, usual and largest: 500 mm is the widest standard field of view."""
LUNGS_MM = (280.0, 200.0, 290.0), (380.0, 320.0, 420.0)
"""(z, y, x) of the box around both lungs, usual and largest, without its margin."""
AROUND_MM = 16.0
"""What is kept of an exam around that box (prior/entry.py)."""


def of_slices(role: str, network: Network, most: int) -> dict[str, Shapes]:
    """Of a network that sees a volume of slices or parts of it: input -> its shapes.

    Volumes [1, 1, z, y, x]: the millimetres above at the op list's spacing, up to its pad multiple;
    the smallest is one multiple. Patches [n, 1, y, x] and cubes: 1 to `most`, fastest at the most.
    BundleRefused `engine_axes` names an axis that follows neither rule.
    """
    read = plan.steps(network.preprocess)
    multiple = next((op.multiple for op in read.points if isinstance(op, Pad)), 1)
    margin = 0.0 if read.crop is None else 2 * read.crop.margin_mm
    usual_mm, most_mm = WHOLE_MM if read.crop is None else LUNGS_MM
    found: dict[str, Shapes] = {}
    for port in network.inputs:
        shapes = [list(port.shape) for _ in range(3)]
        for axis, size in enumerate(port.shape):
            if size != -1:
                continue
            if (read.patch or read.cube) and axis == 0:
                steps = (1, most, most)
            elif read.spacing_mm is not None and len(port.shape) == 5 and axis > 1:
                spacing = read.spacing_mm[axis - 2]
                ends = (mm[axis - 2] + margin for mm in (usual_mm, most_mm))
                usual, largest = (math.ceil(end / spacing / multiple) * multiple for end in ends)
                steps = (multiple, usual, largest)
            else:
                raise BundleRefused(
                    f"network {role!r}: axis {axis} of {port.name!r} is free, and no op bounds it",
                    code="engine_axes",
                    remedy="Fix the axis, or give the network a resample op (volumes) or a patch.",
                )
            for shape, step in zip(shapes, steps, strict=True):
                shape[axis] = step
        if -1 in port.shape:
            found[port.name] = tuple(shapes[0]), tuple(shapes[1]), tuple(shapes[2])
    return found


def of_pair(network: Network, grid_mm: float, multiple: int) -> dict[str, Shapes]:
    """Of a network that sees the box of the lungs of two exams, [1, 1, z, y, x] each on one grid:
    input -> its shapes; AROUND_MM on every side, sizes multiples of `multiple`."""
    sizes = [(multiple,) * 3]
    for box_mm in LUNGS_MM:
        cells = (math.ceil((mm + 2 * AROUND_MM) / grid_mm / multiple) for mm in box_mm)
        z, y, x = (n * multiple for n in cells)
        sizes.append((z, y, x))
    least, usual, most = ((1, 1, *size) for size in sizes)
    return {port.name: (least, usual, most) for port in network.inputs}


def of_single_images(network: Network, most: int) -> dict[str, Shapes]:
    """Of a network that sees one image [n, 1, y, x] a run: input -> its shapes; `most` at once,
    which is for golden cases."""
    return {
        port.name: ((1, *port.shape[1:]), (1, *port.shape[1:]), (most, *port.shape[1:]))
        for port in network.inputs
        if port.shape[:1] == (-1,)
    }
