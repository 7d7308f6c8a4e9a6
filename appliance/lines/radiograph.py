"""The line of radiographs, from images to findings: prepare, classify. Pure.

    Radiograph -> View -> frontal? -> logit and activation map -> findings with their heat maps

`Radiographs` is the kind (lines/kind.py).

Rules.
1. Every image stands alone: what the bundle accepts is asked of each, and each frontal one is
   scored. One at or above the threshold is a finding of its own; its key image is its place among
   the series' views, in order of Instance Number, then of UID.
2. Images that are not meant (`LEFT_OUT`: another view, another part of the body) are a limitation
   beside images that are, and the reason where there is no other. What is no radiograph at all (by
   name or modality, such as a capture of the screen) is set aside as foreign beside one that is,
   however many there are: no image here waits for another or fills a gap. A radiograph that cannot
   be read refuses the series: it may be the one that shows something. So does another patient.
3. Where the bundle has a network `frontal`, an image that it takes for no frontal chest radiograph
   (score = sigmoid(logit), below its threshold) is not scored: it is left out as those of rule 2.
4. Where the bundle has bounds of certainty, each finding is sure or unsure, and an image without
   one that is unsure is named in a limitation (interpret/certainty.py). One without a finding that
   is not named is sure. Older bundles say nothing of it.
5. score = sigmoid(scale * logit + bias). The heat map is the network's class activation map as it
   is, with the way from its cells to the pixels of the image as it was sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.backend.profile import Shapes, of_single_images
from appliance.backend.protocol import Backend
from appliance.bundle import match
from appliance.bundle.accepts import Accepts
from appliance.bundle.lines import ClassifyImage
from appliance.bundle.manifest import Manifest, Network
from appliance.errors import Poisoned, SeriesRefused
from appliance.interpret import certainty
from appliance.lines.budget import Budget
from appliance.lines.kind import Analysis, Context, Outline, Seen
from appliance.preprocess import projection
from appliance.preprocess.spec import Op
from appliance.quality import radiograph
from appliance.reasons import Code
from appliance.records import Header, HeatMap, Plane, Radiograph, Tensor, Vector, View
from appliance.report import Coverage, Finding, Reason, Scored, Scores
from appliance.series import decoders, foreign, select
from appliance.series.assemble import may_have_lost
from appliance.series.foreign import Unread
from appliance.series.pixels import Parsed
from appliance.series.radiograph import MAX_PIXELS, read
from appliance.watching.quality import RadiographQuality

LEFT_OUT = frozenset({Code.VIEW_POSITION, Code.BODY_PART})
BYTES_A_PIXEL = 16
"""Of one image while it is prepared; measured: 8 with a window, 15 without."""
GOLDEN_AT_ONCE = 16
"""Images in a golden case, at most."""
JUDGED_AT_ONCE = 128
"""Images in one run of `Radiographs.scores`."""


class Radiographs:
    """kind.Kind of this line: each image stands alone, none waits for another or fills a gap."""

    model = ClassifyImage

    def images(
        self,
        instance: Parsed,
        manifests: Sequence[Manifest | None],
        memory_bytes: int | None,
    ) -> tuple[Seen[View], ...]:
        found: list[Seen[View]] = []
        decoded: Radiograph | Reason | None = None
        for manifest in manifests:
            refused = None if manifest is None else _refused(instance.header, manifest)
            if manifest is None or refused is not None:
                found.append(Seen(reasons=(refused,) if refused else ()))
                continue
            decoded = decoded or _decoded(instance.data, memory_bytes)
            if isinstance(decoded, Reason):
                found.append(Seen(reasons=(decoded,)))
            else:
                found.append(_view(decoded, manifest.networks["classify"].preprocess))
        return tuple(found)

    def bytes_of(self, image: View, manifest: Manifest | None = None) -> int:
        return image.values.nbytes

    def trimmed(self, image: View, manifests: Sequence[Manifest | None]) -> View:
        return image

    def planes(self, images: Sequence[View]) -> tuple[Plane, ...]:
        return ()

    def measured(self, images: Sequence[View]) -> tuple[RadiographQuality, ...]:
        return tuple(radiograph.measured(view.values) for view in in_order(images))

    def outline(
        self, images: Sequence[View], accepts: Accepts | None, *, unread: Sequence[Unread]
    ) -> Outline[tuple[View, ...]]:
        """Rule 2."""
        named = foreign.named_aside(images, unread)
        if named is not None and named.code is not Code.MIXED_SERIES:
            return Outline(reasons=(named,), uniform=True)
        aside = {one.mark: one.reasons[0] for one in unread if images and _foreign(one)}
        others = [r for one in unread if one.mark not in aside for r in one.reasons]
        if named is not None and not images:
            others = [*(r for r in others if r.code not in select.BY_NAME), named]
        left_out = select.summed_up(others)
        against = _against(images, unread)
        if against or not images or any(reason.code not in LEFT_OUT for reason in left_out):
            return Outline(reasons=(*against, *left_out), uniform=True)
        every = len({image.mark for image in images} | {one.mark for one in unread})
        subject = in_order(images)
        return Outline(
            subject=subject,
            limitations=(*foreign.limitation([*aside.values()], every, None), *left_out),
            uniform=True,
            images=tuple(view.mark[0] for view in subject),
            foreign=frozenset(aside),
        )

    def ends_inside(self, coverage: Coverage) -> None:
        return None

    def analyse(
        self,
        subject: tuple[View, ...],
        manifest: Manifest,
        backend: Backend,
        budget: Budget,
        context: Context,
    ) -> Analysis:
        unknown = match.limits(manifest.accepts, [view.header for view in subject])
        found = analyse(subject, manifest, backend)
        limitations = (*found.limitations, *unknown)
        return replace(found, limitations=limitations, quality=self.measured(subject))

    def usual_bytes(self, manifest: Manifest) -> int:
        return 0

    def profile(self, role: str, network: Network, manifest: Manifest) -> dict[str, Shapes]:
        """One a run, GOLDEN_AT_ONCE in a golden case."""
        return of_single_images(network, GOLDEN_AT_ONCE)

    def scores(
        self, images: NDArray[np.uint8], manifest: Manifest, backend: Backend
    ) -> tuple[NDArray[np.float64], float]:
        line, port = manifest.line_of(ClassifyImage), manifest.networks["classify"].inputs[0]
        if images.ndim != 3 or images.shape[1:] != port.shape[2:]:
            raise ValueError(f"{manifest.name} sees {port.shape[2:]}, not {images.shape[1:]}")
        logits = []
        for first in range(0, len(images), JUDGED_AT_ONCE):
            whole = images[first : first + JUDGED_AT_ONCE, None]
            part = np.asarray(whole / np.float32(255), np.float32)
            outputs = backend.infer("classify", Tensor(part, part.shape, None))
            logits.append(np.asarray(outputs[line.output], np.float64).reshape(-1))
        return 1 / (1 + np.exp(-(line.scale * np.concatenate(logits) + line.bias))), line.threshold

    def example(self, spacing_mm: Vector | None = None) -> tuple[bytes, ...]:
        from appliance.phantom import chest, instances  # noqa: PLC0415 - as in nodules
        from appliance.phantom import radiograph as made  # noqa: PLC0415

        body = chest.chest() if spacing_mm is None else chest.chest(spacing_mm=spacing_mm)
        sick = made.consolidated(body)
        return (instances.packed(made.instance(made.projected(sick))),)


def _foreign(one: Unread) -> bool:
    """Whether it is no radiograph at all."""
    codes = {reason.code for reason in one.reasons}
    return bool(codes) and codes <= select.BY_NAME | {Code.MODALITY}


def _against(images: Sequence[View], unread: Sequence[Unread]) -> tuple[Reason, ...]:
    """What makes all images of a series doubtful."""
    headers = [view.header for view in images]
    every = [*headers, *(one.header for one in unread if one.header is not None)]
    mixed = select.summed_up(foreign.mixed(headers, every, frames=False))
    if len({view.mark for view in images}) == len({h.sop_instance_uid for h in headers}):
        return mixed
    text = "two different images carry one SOP Instance UID"
    return (Reason(code=Code.DUPLICATE_UID, text=text, where="series"), *mixed)


def _refused(header: Header, manifest: Manifest) -> Reason | None:
    """Why this image is not meant for the bundle."""
    reasons = match.accepts(manifest, header)
    where = _where(header)
    text = f"{where}: {reasons[0].text}" if reasons else ""
    return reasons[0].model_copy(update={"text": text, "where": where}) if reasons else None


def _decoded(instance: bytes, memory_bytes: int | None) -> Radiograph | Reason:
    most = MAX_PIXELS if memory_bytes is None else memory_bytes // BYTES_A_PIXEL
    try:
        return read(instance, max_pixels=max(1, min(MAX_PIXELS, most)))
    except SeriesRefused as e:
        return e.reason


def _view(image: Radiograph, ops: Sequence[Op]) -> Seen[View]:
    """One radiograph -> what a network with these ops sees of it, or why that is nothing."""
    seen = projection.tensor(image, ops)
    if isinstance(seen, str):
        where = _where(image.header)
        text = f"{where}: {seen}"
        return Seen(reasons=(Reason(code=Code.NOTHING_TO_SEE, text=text, where=where),))
    square = np.array(
        [
            [seen.height, 0, seen.top - 0.5],  # pixel centres are whole numbers
            [0, seen.width, seen.left - 0.5],
            [0, 0, 1],
        ]
    )
    return Seen((View(image.header, seen.values, image.to_stored @ square, image.digest),))


def _where(header: Header) -> str:
    return "image" if header.instance_number is None else f"image {header.instance_number}"


def in_order(views: Sequence[View]) -> tuple[View, ...]:
    """Each instance once, in the order of `select.place`; of two headers of one the first."""
    once: dict[str, View] = {}
    for view in sorted(views, key=lambda v: select.place(v.header)):
        once.setdefault(view.header.sop_instance_uid, view)
    return tuple(once.values())


def analyse(views: Sequence[View], manifest: Manifest, backend: Backend) -> Analysis:
    """Views `in_order` -> what is said of them; only reasons where none is frontal."""
    line = manifest.line_of(ClassifyImage)
    others = _not_frontal(views, line, backend)
    left_out = select.summed_up(list(others.values()))
    if len(others) == len(views):
        return Analysis(reasons=left_out)
    judged = {i: _judged(v, line, backend) for i, v in enumerate(views) if i not in others}
    scored = [views[i] for i in judged]
    found = [i for i, one in judged.items() if one.score >= line.threshold]
    found.sort(key=lambda i: (-judged[i].score, i))
    findings = []
    maps = []
    for number, i in enumerate(found, start=1):
        activation, name = judged[i].activation, f"heat-map-{number}"
        if activation is not None:
            maps.append(_heat_map(name, activation, views[i]))
        findings.append(
            Finding(
                id=number,
                tracking_uid="",
                kind=line.finding,
                score=round(judged[i].score, 4),
                threshold=line.threshold,
                heat_map=None if activation is None else name,
                key_image=i,
                key_sop_instance_uid=views[i].header.sop_instance_uid,
                **_certainty(judged[i].score, line),
            )
        )
    return Analysis(
        limitations=(
            *left_out,
            *_lossy(scored),
            *_open_negatives(scored, list(judged.values()), line),
        ),
        findings=tuple(findings),
        maps=tuple(maps),
        scores=Scores(
            threshold=line.threshold,
            candidates=tuple(
                Scored(score=s) for s in sorted(j.score for j in judged.values())[::-1]
            ),
            certainty=line.certainty,
        ),
    )


def _not_frontal(views: Sequence[View], line: ClassifyImage, backend: Backend) -> dict[int, Reason]:
    """Rule 3: the places of images that are not scored, and why."""
    if (head := line.frontal) is None:
        return {}
    found = {}
    for i, one in enumerate(views):
        outputs = backend.infer("frontal", Tensor(one.values, one.values.shape, None))
        score = _sigmoid(float(_output("frontal", outputs, head.output, (1,))[0]))
        if not score >= head.threshold:
            where = _where(one.header)
            text = f"{where}: it does not look like a frontal chest radiograph"
            text += f" ({score:.4f}; at least {head.threshold:.4f} is wanted)"
            found[i] = Reason(code=Code.NOT_FRONTAL, text=text, where=where)
    return found


def _certainty(score: float, line: ClassifyImage) -> dict[str, Any]:
    """Rule 4: what a finding of this score says of it."""
    if line.certainty is None:
        return {}
    why = certainty.doubts(score, line.certainty)
    return {"certainty": "unsure" if why else "sure", "unsure_why": why}


def _open_negatives(
    views: Sequence[View], judged: Sequence[_Judged], line: ClassifyImage
) -> tuple[Reason, ...]:
    """Rule 4: images without a finding that are unsure, summed up."""
    if line.certainty is None:
        return ()
    without = [
        (_where(view.header), one.score)
        for view, one in zip(views, judged, strict=True)
        if one.score < line.threshold
    ]
    return select.summed_up(certainty.open_negatives(without, line.certainty))


@dataclass(frozen=True, slots=True)
class _Judged:
    score: float
    activation: NDArray[np.float32] | None
    """[y, x]."""


def _judged(one: View, line: ClassifyImage, backend: Backend) -> _Judged:
    """What the network says of one image; alone, so that its neighbours change nothing."""
    outputs = backend.infer("classify", Tensor(one.values, one.values.shape, None))
    logit = float(_output("classify", outputs, line.output, (1,))[0])
    score = _sigmoid(line.scale * logit + line.bias)
    if line.activation is None:
        return _Judged(score, None)
    return _Judged(score, _output("classify", outputs, line.activation, (1, 1, -1, -1))[0, 0])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))


def _output(
    role: str, outputs: Mapping[str, NDArray[np.float32]], name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """An output of this shape (-1: whatever); Poisoned (`backend_failed`) where it has another."""
    array = outputs.get(name)
    there = () if array is None else array.shape
    same = len(there) == len(shape) and all(b in (a, -1) for a, b in zip(there, shape, strict=True))
    if array is None or not same:
        text = f"network {role!r}: output {name!r} is {there or 'missing'}, not {shape}"
        raise Poisoned(text, code="backend_failed")
    return array


def _heat_map(name: str, activation: NDArray[np.float32], one: View) -> HeatMap:
    """The map of one image [y, x], whose cells divide what the network saw."""
    y, x = activation.shape
    middle = np.array([[1 / y, 0, 0.5 / y], [0, 1 / x, 0.5 / x], [0, 0, 1]])
    return HeatMap(name, activation, one.to_stored @ middle)


def _lossy(views: Sequence[View]) -> tuple[Reason, ...]:
    odd = [v for v in views if may_have_lost(v.header)]
    if not odd:
        return ()
    by = decoders.named(v.header.transfer_syntax_uid for v in odd)
    text = f"{len(odd)} of {len(views)} images may have lost detail by compression"
    text += f" (decoded by {by})" if by else ""
    return (Reason(code=Code.LOSSY, text=text, where="series"),)
