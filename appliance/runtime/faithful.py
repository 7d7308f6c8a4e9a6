"""Whether preprocessing is faithful to a series: its images, and the op lists of a bundle.

    instances -> line.add ... -> Stack     -> Original
    instances, spheres -> painted -> Stack -> Drawn
                                              each op list -> OpList

It decodes, orients and puts in order as the line does; what judges is appliance/quality/faithful.
Asked for by hand (`scanside quality`) and when a bundle is packed, never by a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from appliance import line
from appliance.bundle.lines import Role
from appliance.bundle.manifest import Manifest, Network
from appliance.bundle.trust import Bundle
from appliance.errors import SeriesRefused
from appliance.preprocess import fast, plan
from appliance.preprocess.spec import RADIOGRAPH_OPS, Op
from appliance.quality.faithful import spheres, verdict
from appliance.quality.faithful.verdict import Drawn, OpList
from appliance.records import Plane, Stack
from appliance.series import pixels


def of_series(bundle: Bundle, instances: Sequence[bytes]) -> tuple[OpList, ...]:
    """Each op list of a bundle that sees slices, on a series; () where the series is refused, and
    where the bundle sees no slices."""
    fold = line.begin([bundle])
    for instance in instances:
        fold = line.add(fold, instance)
    subject = fold.share(bundle).outline.subject
    return of_stack(bundle.manifest, subject, instances) if isinstance(subject, Stack) else ()


def of_stack(manifest: Manifest, stack: Stack, instances: Iterable[bytes]) -> tuple[OpList, ...]:
    """The same of slices in order, and the instances that they came from."""
    seen = verdict.original(stack)
    shown = drawn(stack, instances, spheres.laid(*verdict.corners(seen)))
    found = []
    for ops, roles in op_lists(manifest.networks).items():
        read = plan.steps(ops)
        if read.cube is None and read.patch is None:
            found.append(verdict.volume(seen, shown, ops, roles))
        elif shown is not None:
            found.append(verdict.cut(shown, ops, roles))
    return tuple(found)


def op_lists(networks: Mapping[Role, Network]) -> dict[tuple[Op, ...], list[str]]:
    """Each different op list of slices, with the roles of the networks that it feeds."""
    found: dict[tuple[Op, ...], list[str]] = {}
    for role, network in networks.items():
        ops = tuple(network.preprocess)
        if ops and not any(op.op in RADIOGRAPH_OPS - {"zscore"} for op in ops):
            found.setdefault(ops, []).append(role)
    return found


def drawn(
    stack: Stack, instances: Iterable[bytes], laid: tuple[spheres.Sphere, ...]
) -> Drawn | None:
    """The stack's slices with spheres, decoded and laid out anew from changed instances; None
    without spheres, and for images that cannot hold them."""
    if not laid:
        return None
    planes: dict[str, Plane] = {}
    for instance in instances:
        try:
            images = pixels.read(spheres.painted(instance, laid, stack.spacing_mm[0]))
        except (ValueError, SeriesRefused):
            continue  # no slice of this stack, or one that cannot hold them: seen below
        planes |= {plane.mark[0]: plane for plane in (fast.plane(one, ()) for one in images)}
    there = tuple(planes[plane.mark[0]] for plane in stack.planes if plane.mark[0] in planes)
    return Drawn(replace(stack, planes=there), laid) if len(there) == len(stack.planes) else None
