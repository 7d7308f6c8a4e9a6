"""The line of lung nodules, from a stack of slices to findings: segment, propose, classify. Pure.

    stack -> lungs -> candidates in and at them -> scores -> findings

`line.finish` calls `analyse` once the series is in order; what its networks are and what each head
means is in bundle/manifest.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance import admission
from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Manifest, Role, SegmentProposeClassify
from appliance.interpret import classify, detect, segment
from appliance.preprocess import plan
from appliance.preprocess.spec import Crop, Op
from appliance.reasons import Code
from appliance.records import Box, Grid, Mask, Stack
from appliance.report import Coverage, Finding, Reason

LIMITED = frozenset({Code.SPACING_LIMITED, Code.THICKNESS_LIMITED})
"""With one of these, nothing small is reported."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory: bytes that the series holds, and how many it may hold with its analysis (None where
    the machine does not say)."""

    held: int
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is said of a stack. With `reasons` or `too_wide` it was not analysed after all."""

    coverage: Coverage = field(default_factory=Coverage)
    reasons: tuple[Reason, ...] = ()
    too_wide: str | None = None
    """Why its analysis needs more memory than there is."""
    limitations: tuple[Reason, ...] = ()
    findings: tuple[Finding, ...] = ()
    masks: tuple[Mask, ...] = ()


def analyse(stack: Stack, manifest: Manifest, backend: Backend, room: Room) -> Analysis:
    """The line's networks in their order; each step is asked first whether it fits the memory."""
    line = manifest.nodules()
    whole = plan.voxels(stack, _ops(manifest, "segment"), None)
    if text := admission.too_wide(room.held, whole, whole, room.most):
        return Analysis(too_wide=text)
    lungs = _segment(stack, manifest, line, backend)
    coverage = segment.coverage(lungs, stack)
    found_ml = segment.millilitres(lungs)
    if found_ml < manifest.accepts.organ_ml:
        text = f"{found_ml:.0f} ml of lung were found; {manifest.accepts.organ_ml:.0f} are expected"
        return Analysis(reasons=(Reason(code=Code.NO_LUNGS, text=text, where="series"),))
    around = plan.voxels(stack, _ops(manifest, "propose"), _around(lungs, manifest))
    if text := admission.too_wide(room.held, whole + around, whole, room.most):
        return Analysis(too_wide=text)
    return Analysis(
        coverage=coverage,
        limitations=(
            *segment.limitations(lungs, coverage, stack),
            *segment.one_lung(lungs),
        ),
        findings=_findings(stack, lungs, manifest, line, backend),
        masks=(lungs,),
    )


def _segment(
    stack: Stack, manifest: Manifest, line: SegmentProposeClassify, backend: Backend
) -> Mask:
    image = backend.prepare(stack, _ops(manifest, "segment"), None)
    return segment.mask(backend.infer("segment", image), image, line.segment)


def _findings(
    stack: Stack,
    lungs: Mask,
    manifest: Manifest,
    line: SegmentProposeClassify,
    backend: Backend,
) -> tuple[Finding, ...]:
    """Propose over the closed lungs, classify native patches, threshold."""
    image = backend.prepare(stack, _ops(manifest, "propose"), _around(lungs, manifest))
    candidates = detect.candidates(backend.infer("propose", image), image, line.propose, lungs)
    if candidates:
        patches = backend.gather(
            stack,
            _ops(manifest, "classify"),
            [c.center_lps_mm for c in candidates],
            line.classify.views,
        )
        logits = classify.logits(backend.infer("classify", patches), line.classify)
        candidates = classify.scored(candidates, logits, line.calibration)
    limited = any(reason.code in LIMITED for reason in stack.limitations)
    return detect.findings(
        candidates,
        stack,
        lungs,
        threshold=line.calibration.threshold,
        least_mm=manifest.accepts.spacing_mm.limited_min_diameter_mm if limited else 0.0,
        most=line.max_findings,
    )


def _around(lungs: Mask, manifest: Manifest) -> tuple[Grid, Box]:
    """Where candidates are looked for: the box around the lungs, with its margin."""
    ops = _ops(manifest, "propose")
    margin = next((op.margin_mm for op in ops if isinstance(op, Crop)), 0.0)
    return lungs.grid, plan.box_of_mask(lungs, margin)


def _ops(manifest: Manifest, role: Role) -> tuple[Op, ...]:
    return manifest.networks[role].preprocess
