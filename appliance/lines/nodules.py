"""The line of lung nodules, from a stack of slices to findings: segment, propose, classify, and in
version 2, where the bundle has the networks, cubes, masses and measuring. In version 3 the network
of masses draws them, the report names the side of a lung that is missing, and the network of lungs
says where they are diseased. Pure.

    stack -> lungs, with disease
                   -> masses, with bodies
                   -> candidates in and at them, in no mass -> scores
                                                            -> findings -> measured -> sure or not

`Nodules` is the kind (lines/kind.py); what each head means is in bundle/heads.py.

Rules.
1. The networks of lungs and masses have one input where their ops are equal. Where the backend can
   (protocol.Begins), the network of masses runs while the lungs are looked at, and that of
   proposals while all is said that needs no candidate.
2. Only what is to be reported is measured. The least size that a thick series reports is then that
   of the figure reported, measured or not.
3. Where spacing or thickness is too wide for nodules, only masses are looked for.
4. HU out of range are a limitation. They refuse images that are DERIVED or SECONDARY by name,
   because nobody knows what was done to them, and where no lungs are found they are the cause,
   unless the images show a part of the body without air.
5. Where the images name another part of the body, the network of lungs alone looks at them first:
   only both lungs, cut at neither end, overrule what the header says.
6. Where masses are drawn, a mass is measured by its body alone, and so is a nodule whose body
   leaves the measuring cube (interpret/mass.py). One that could not be measured is named with the
   reason. All others are measured in cubes, as in version 2.
7. Disease changes what is said of a finding, never whether it is said (interpret/disease.py). Where
   only masses are looked for nothing is said of it: in slices so thick each edge of the lungs is
   half tissue over several millimetres, and no lesson of the network had such ones.
8. Images or findings unlike all that the bundle was judged on are a limitation (lines/unlike.py).
9. A tuning softens what the networks of proposals, patches and candidates' cubes see, and nothing
   else (quality/tuning.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.backend.profile import Shapes, of_slices
from appliance.backend.protocol import Backend, begun
from appliance.bundle import match
from appliance.bundle.heads import MeasureHead
from appliance.bundle.lines import Role, SegmentProposeClassify
from appliance.bundle.manifest import Manifest, Network
from appliance.interpret import classify, detect, disease, mass, measure, one_lung, segment
from appliance.interpret.mass import Measured, Parts
from appliance.lines import unlike
from appliance.lines.budget import Budget, usual
from appliance.lines.kind import Analysis, Context
from appliance.lines.volume import Slices, at_seams, in_plane_spacings
from appliance.preprocess import plan, reference
from appliance.preprocess.spec import Crop, Cube, Op, Patch
from appliance.quality import series, tuning
from appliance.reasons import Code
from appliance.records import Box, Candidate, Grid, Mask, Stack, Tensor, Vector
from appliance.report import Coverage, Finding, Reason
from appliance.series import content, select

LIMITED = frozenset({Code.SPACING_LIMITED, Code.THICKNESS_LIMITED, Code.MASSES_ONLY})
"""With one of these, nothing small is reported, and no volume."""

MEASURED_AT_ONCE = 8
"""Findings in one run of the network that measures: it bounds the memory that it takes."""

JUDGED_AT_ONCE, JUDGED_FROM = 128, 0.5
"""Patches in one run of `Nodules.scores`, and the score from which on one is positive there."""


class Nodules(Slices):
    """kind.Kind of this line."""

    model = SegmentProposeClassify

    def ends_inside(self, coverage: Coverage) -> bool:
        """The lungs reach neither the first nor the last slice."""
        return coverage.lungs == "covered"

    def analyse(
        self, subject: Stack, manifest: Manifest, backend: Backend, budget: Budget, context: Context
    ) -> Analysis:
        tuned = tuning.of(context.tunings, subject.planes)
        softer = manifest if tuned is None else tuning.tuned(manifest, tuned.soften_mm)
        found = analyse(subject, softer, backend, budget)
        if tuned is not None:
            found = replace(found, tuning=tuned.digest)
        return unlike.judged(found, manifest.line_of(SegmentProposeClassify))

    def usual_bytes(self, manifest: Manifest) -> int:
        grids = {
            role: plan.steps(network.preprocess).spacing_mm or (1.0, 1.0, 1.0)
            for role, network in manifest.networks.items()
            if role in ("segment", "propose", "mass")
        }
        return usual(
            in_plane_spacings([manifest]),
            grids["segment"],
            grids["propose"],
            mass_mm=grids.get("mass"),
            drawn=manifest.line_of(SegmentProposeClassify).body is not None,
            diseased=manifest.line_of(SegmentProposeClassify).disease is not None,
            cube_voxels=cube_voxels(manifest),
        )

    def profile(self, role: str, network: Network, manifest: Manifest) -> dict[str, Shapes]:
        line = manifest.line_of(SegmentProposeClassify)
        patches = any(isinstance(op, Patch) for op in network.preprocess)
        views = line.classify.views if patches else 1
        return of_slices(role, network, line.propose.top_k * views)

    def scores(
        self, images: NDArray[np.uint8], manifest: Manifest, backend: Backend
    ) -> tuple[NDArray[np.float64], float]:
        """Patches, of which the network sees the middle: sigmoid of the logit over the views."""
        head = manifest.line_of(SegmentProposeClassify).classify
        size = next(op.size for op in _ops(manifest, "classify") if isinstance(op, Patch))
        if images.ndim != 3 or min(images.shape[1:]) < size:
            raise ValueError(f"{manifest.name} sees {size} x {size}, not {images.shape[1:]}")
        edge = (images.shape[1] - size + 1) // 2
        middle = slice(edge, edge + size)
        logits = []
        for first in range(0, len(images), JUDGED_AT_ONCE):
            part = images[first : first + JUDGED_AT_ONCE, middle, middle][:, None]
            views = reference.views(np.asarray(part / 255, np.float32), head.views)
            outputs = backend.infer("classify", Tensor(views, views.shape, None))
            logits.append(classify.logits(outputs, head))
        return 1 / (1 + np.exp(-np.concatenate(logits).astype(np.float64))), JUDGED_FROM

    def example(self, spacing_mm: Vector | None = None) -> tuple[bytes, ...]:
        from appliance.phantom import chest, instances  # noqa: PLC0415 - no stage needs the phantom

        body = chest.chest() if spacing_mm is None else chest.chest(spacing_mm=spacing_mm)
        made = instances.series(body, study_uid="2.25.1", series_uid="2.25.2")
        return tuple(instances.packed(image) for image in made)


def analyse(stack: Stack, manifest: Manifest, backend: Backend, budget: Budget) -> Analysis:
    """The line's networks in their order; each step is asked first whether it fits the memory."""
    line = manifest.line_of(SegmentProposeClassify)
    masses_only = any(reason.code is Code.MASSES_ONLY for reason in stack.limitations)
    whole = plan.voxels(stack, _ops(manifest, "segment"), None)
    more = cube_voxels(manifest)
    labelled = whole if line.disease is None else 2 * whole
    if line.mass is not None:
        seen = plan.voxels(stack, _ops(manifest, "mass"), None)
        more += seen
        labelled += 0 if line.body is None else seen
    if text := budget.too_wide(whole + more, labelled):
        return Analysis(too_wide=text)
    suspect = content.hu_check(stack)
    if suspect and not all(select.original(plane.header) for plane in stack.planes):
        return Analysis(reasons=suspect)
    image = backend.prepare(stack, _ops(manifest, "segment"), None)
    outputs = backend.infer("segment", image)
    large = _begun_masses(stack, image, manifest, line, backend)
    lungs = segment.mask(outputs, image, line.segment)
    coverage = segment.coverage(lungs, stack)
    missing = one_lung.limitation(lungs, coverage, stack, line.one_lung_share)
    if coverage.sides is not None:
        coverage = coverage.model_copy(update={"sides": "one" if missing else "both"})
    if against := _against(lungs, coverage, stack, manifest, suspect, missing):
        return Analysis(reasons=against)
    proposed: _Begun | None = None
    if not masses_only:
        around = plan.voxels(stack, _ops(manifest, "propose"), _around(lungs, manifest))
        if text := budget.too_wide(whole + more + around, labelled):
            return Analysis(too_wide=text)
        near = backend.prepare(stack, _ops(manifest, "propose"), _around(lungs, manifest))
        proposed = _Begun(near, begun(backend, "propose", near))
    room = series.values(stack, lungs, lungs_side_cm2=_on_edge_cm2(lungs, stack))
    quality = series.measured(stack.planes, room.contrast if room else "unknown")
    sick = None
    if line.disease is not None and not masses_only:
        sick = disease.drawn(outputs, image, line.disease, lungs)
    del outputs, image  # volumes that are not needed any more
    masses, drawn = _masses(stack, large, lungs, line)
    del large
    nodules: tuple[Candidate, ...] = ()
    if proposed is not None:
        nodules = _nodules(stack, lungs, masses, proposed, manifest, line, backend)
    found = _Found(lungs, masses, nodules, drawn)
    findings, bodies, estimated = _findings(stack, found, manifest, line, backend)
    diffuse: tuple[Reason, ...] = ()
    many: tuple[Reason, ...] = ()
    if sick is not None and line.disease is not None:
        diffuse = disease.limitation(sick, line.disease, stack, coverage)
        findings, many = disease.judged(findings, sick, diffuse=bool(diffuse))
    return Analysis(
        coverage=coverage,
        limitations=(
            *suspect,
            *segment.limitations(lungs, coverage, stack),
            *missing,
            *diffuse,
            *many,
            *at_seams(stack, findings),
            *estimated,
        ),
        findings=findings,
        masks=(lungs, *bodies),
        room=room,
        quality=() if quality is None else (quality,),
        scores=detect.scores(nodules, line.calibration.threshold),
    )


def _on_edge_cm2(lungs: Mask, stack: Stack) -> float:
    """Area over which the lungs meet the edge of the field of view."""
    return segment.side_cm2(lungs, any(plane.padding for plane in stack.planes))


def _against(
    lungs: Mask,
    coverage: Coverage,
    stack: Stack,
    manifest: Manifest,
    suspect: tuple[Reason, ...],
    missing: tuple[Reason, ...],
) -> tuple[Reason, ...]:
    """Why images with these lungs are not analysed further (rules 4 and 5)."""
    found_ml, least_ml = segment.millilitres(lungs), manifest.accepts.organ_ml
    seen = None
    if found_ml < least_ml:
        seen = f"{found_ml:.0f} ml of lung were found; {least_ml:.0f} are expected"
    doubt = match.doubt(manifest.accepts, (plane.header for plane in stack.planes))
    if doubt is not None:
        cut = (*segment.limitations(lungs, coverage, stack), *missing)
        ends = [r.text for r in cut if r.code in {Code.LUNGS_NOT_COVERED, Code.ONE_LUNG}]
        if seen := seen or next(iter(ends), None):
            return (doubt.model_copy(update={"text": f"{doubt.text} {seen}"}),)
    elif seen is not None:
        if suspect and not content.airless(stack):
            return suspect
        return (Reason(code=Code.NO_LUNGS, text=seen, where="series"),)
    return ()


def cube_voxels(manifest: Manifest) -> int:
    """Voxels of the cubes that are inferred at once, at most: of candidates and of findings."""
    line, voxels = manifest.line_of(SegmentProposeClassify), 0
    if line.cube is not None:
        voxels += line.propose.top_k * _cube(manifest, "cube").size ** 3
    if line.measure is not None:
        voxels += MEASURED_AT_ONCE * _cube(manifest, "measure").size ** 3
    return voxels


@dataclass(frozen=True, slots=True)
class _Begun:
    """What a network sees, and what waits for its outputs."""

    image: Tensor
    outputs: Callable[[], Mapping[str, NDArray[np.float32]]]


def _begun_masses(
    stack: Stack, image: Tensor, manifest: Manifest, line: SegmentProposeClassify, backend: Backend
) -> _Begun | None:
    """The network of masses at work, None where there is none; `image` is what the network of lungs
    saw (rule 1)."""
    if line.mass is None:
        return None
    ops = _ops(manifest, "mass")
    if ops != _ops(manifest, "segment"):
        image = backend.prepare(stack, ops, None)
    return _Begun(image, begun(backend, "mass", image))


def _masses(
    stack: Stack, large: _Begun | None, lungs: Mask, line: SegmentProposeClassify
) -> tuple[tuple[Measured, ...], Parts | None]:
    """Masses that are to be reported, and the parts that their network draws, None where it draws
    none."""
    if line.mass is None or large is None:
        return (), None
    outputs = large.outputs()
    masses = mass.kept(outputs, large.image, line.mass, lungs)
    drawn = None if line.body is None else mass.parts(outputs, large.image, line.body)
    return mass.measured(masses, drawn, stack), drawn


def _nodules(
    stack: Stack,
    lungs: Mask,
    masses: Sequence[Measured],
    proposed: _Begun,
    manifest: Manifest,
    line: SegmentProposeClassify,
    backend: Backend,
) -> tuple[Candidate, ...]:
    """Candidates over the closed lungs, without parts of masses; classify patches and cubes."""
    candidates = detect.candidates(proposed.outputs(), proposed.image, line.propose, lungs)
    candidates = mass.apart(candidates, masses)
    if not candidates:
        return ()
    centers = [c.center_lps_mm for c in candidates]
    patches = backend.gather(stack, _ops(manifest, "classify"), centers, line.classify.views)
    logits = classify.logits(backend.infer("classify", patches), line.classify)
    cube = None
    if line.cube is not None:
        cubes = backend.gather(stack, _ops(manifest, "cube"), centers)
        cube = classify.cube_logits(backend.infer("cube", cubes), line.cube)
    return classify.scored(candidates, logits, line.calibration, cube)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the detectors found in a series."""

    lungs: Mask
    masses: tuple[Measured, ...]
    nodules: tuple[Candidate, ...]
    drawn: Parts | None
    """By the network of masses; None where it draws nothing."""


def _findings(
    stack: Stack,
    seen: _Found,
    manifest: Manifest,
    line: SegmentProposeClassify,
    backend: Backend,
) -> tuple[tuple[Finding, ...], tuple[Mask, ...], tuple[Reason, ...]]:
    """Findings, best first, the masks of those that were measured (`finding-1` is the body of the
    first), and which sizes are the detector's estimate though a mass is drawn (rule 6)."""
    limited = any(reason.code in LIMITED for reason in stack.limitations)
    least = manifest.accepts.spacing_mm.limited_min_diameter_mm if limited else 0.0
    large, nodules = _overgrown(stack, seen, manifest, line)
    found = detect.findings(
        nodules,
        stack,
        seen.lungs,
        threshold=line.calibration.threshold,
        least_mm=least if line.measure is None else 0.0,
        most=line.max_findings if line.measure is None else len(nodules),
        sure_from=line.calibration.sure_from,
    )
    masses: tuple[tuple[Finding, Measured], ...] = ()
    if line.mass is not None:
        whole = _named(stack, seen.lungs, seen.masses, line.mass.threshold, line.mass.least_mm)
        scored = line.calibration
        grown = _named(stack, seen.lungs, large, scored.threshold, 0.0, scored.sure_from)
        masses = (*whole, *grown)
    if seen.drawn is None:
        found += tuple(finding for finding, _ in masses)
        masses = ()
    bodies: list[tuple[Finding, measure.Body | None]] = [(f, None) for f in found]
    if line.measure is not None:
        in_cubes = _measured(stack, found, manifest, line.measure, backend)
        bodies = list(zip(found, in_cubes, strict=True))
    bodies += [(finding, one.body) for finding, one in masses]
    findings, masks = detect.ranked(
        [
            (measure.described(f, body, thick=limited), None if body is None else body.mask)
            for f, body in bodies
        ],
        least_mm=0.0 if line.measure is None else least,
        most=line.max_findings,
    )
    whys = {finding.place_lps_mm: one.why for finding, one in masses if one.why is not None}
    return findings, masks, _estimated(findings, whys)


def _overgrown(
    stack: Stack, seen: _Found, manifest: Manifest, line: SegmentProposeClassify
) -> tuple[tuple[Measured, ...], tuple[Candidate, ...]]:
    """Nodules that leave the measuring cube, and the others (rule 6)."""
    if seen.drawn is None or line.measure is None:
        return (), seen.nodules
    op = _cube(manifest, "measure")
    sure = [c for c in seen.nodules if c.score >= line.calibration.threshold]
    return mass.overgrown(sure, seen.drawn, stack, op.size * op.spacing_mm)


def _named(
    stack: Stack,
    lungs: Mask,
    masses: Sequence[Measured],
    threshold: float,
    least_mm: float,
    sure_from: float | None = None,
) -> tuple[tuple[Finding, Measured], ...]:
    """Each of the masses, best first, as a finding."""
    found = detect.findings(
        [one.mass for one in masses],
        stack,
        lungs,
        threshold=threshold,
        least_mm=least_mm,
        most=len(masses),
        sure_from=sure_from,
    )
    return tuple(zip(found, masses, strict=True))


def _estimated(
    findings: Sequence[Finding], whys: Mapping[tuple[float, float, float], str]
) -> tuple[Reason, ...]:
    """SIZE_ESTIMATED for each finding at a place for which there is a reason."""
    return tuple(
        Reason(
            code=Code.SIZE_ESTIMATED,
            text=f"finding {f.id}: its size is an estimate, because {whys[f.place_lps_mm]}",
            where=f"z {f.place_lps_mm[2]:.1f} mm",
        )
        for f in findings
        if f.place_lps_mm in whys
    )


def _measured(
    stack: Stack,
    found: Sequence[Finding],
    manifest: Manifest,
    head: MeasureHead,
    backend: Backend,
) -> tuple[measure.Body | None, ...]:
    """The body of each finding, None where it cannot be measured."""
    op, edges = _cube(manifest, "measure"), measure.edges_of(stack)
    bodies: list[measure.Body | None] = []
    for first in range(0, len(found), MEASURED_AT_ONCE):
        part = found[first : first + MEASURED_AT_ONCE]
        centers = [f.place_lps_mm for f in part]
        cubes = backend.gather(stack, _ops(manifest, "measure"), centers)
        grids = [plan.cube_grid(stack, center, op) for center in centers]
        outputs = backend.infer("measure", cubes)
        bodies += measure.bodies(outputs, list(zip(part, grids, strict=True)), found, edges, head)
    return tuple(bodies)


def _around(lungs: Mask, manifest: Manifest) -> tuple[Grid, Box]:
    """Where candidates are looked for: the box around the lungs, with its margin."""
    ops = _ops(manifest, "propose")
    margin = next((op.margin_mm for op in ops if isinstance(op, Crop)), 0.0)
    return lungs.grid, plan.box_of_mask(lungs, margin)


def _ops(manifest: Manifest, role: Role) -> tuple[Op, ...]:
    return manifest.networks[role].preprocess


def _cube(manifest: Manifest, role: Role) -> Cube:
    """The op that a network of cubes has (manifest, rule 3)."""
    return next(op for op in _ops(manifest, role) if isinstance(op, Cube))
