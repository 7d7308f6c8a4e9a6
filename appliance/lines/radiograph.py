"""The line of radiographs, from images to findings: prepare, classify. Pure.

    Radiograph -> View -> logit and activation map -> findings with their heat maps

`line.add` calls `view` for each image as it arrives, `line.finish` calls `analyse`.

Rules.
1. Every image stands alone: what the bundle accepts is asked of each, and each frontal one is
   scored. One at or above the threshold is a finding of its own; its key image is its place among
   the series' views, in order of Instance Number, then of UID.
2. Images that are not meant (`LEFT_OUT`: another view, another part of the body) are a limitation
   beside images that are, and the reason where there is no other.
3. score = sigmoid(scale * logit + bias). The heat map is the network's class activation map as it
   is, with the way from its cells to the pixels of the image as it was sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.backend.protocol import Backend
from appliance.bundle import match
from appliance.bundle.manifest import ClassifyImage, Manifest
from appliance.errors import Poisoned, SeriesRefused
from appliance.preprocess import projection
from appliance.reasons import Code
from appliance.records import Header, HeatMap, Tensor, View
from appliance.report import Finding, Reason
from appliance.series import radiograph, select
from appliance.series.assemble import LOSSY_SYNTAXES

LEFT_OUT = frozenset({Code.VIEW_POSITION, Code.BODY_PART})
BYTES_A_PIXEL = 16
"""Of one image while it is prepared; measured: 8 with a window, 15 without."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is said of the images of a series."""

    limitations: tuple[Reason, ...] = ()
    findings: tuple[Finding, ...] = ()
    maps: tuple[HeatMap, ...] = ()


def view(instance: bytes, header: Header, manifest: Manifest, room: int | None = None) -> View:
    """One instance -> what the network sees. SeriesRefused with the reason why it does not.

    room: bytes of memory that there are for it; None where the machine does not say."""
    where = "image" if header.instance_number is None else f"image {header.instance_number}"
    if reasons := match.accepts(manifest, header):
        text = f"{where}: {reasons[0].text}"
        raise SeriesRefused(reasons[0].model_copy(update={"text": text, "where": where}))
    most = radiograph.MAX_PIXELS if room is None else room // BYTES_A_PIXEL
    image = radiograph.read(instance, max_pixels=max(1, min(radiograph.MAX_PIXELS, most)))
    seen = projection.tensor(image, manifest.networks["classify"].preprocess)
    if isinstance(seen, str):
        text = f"{where}: {seen}"
        raise SeriesRefused(Reason(code=Code.NOTHING_TO_SEE, text=text, where=where))
    square = np.array(
        [
            [seen.height, 0, seen.top - 0.5],  # pixel centres are whole numbers
            [0, seen.width, seen.left - 0.5],
            [0, 0, 1],
        ]
    )
    return View(image.header, seen.values, image.to_stored @ square, image.digest)


def in_order(views: Sequence[View]) -> tuple[View, ...]:
    """Each instance once, by Instance Number, then UID."""
    once = {v.header.sop_instance_uid: v for v in views}
    return tuple(sorted(once.values(), key=lambda v: select.place(v.header)))


def against(views: Sequence[View], refusals: Sequence[Reason]) -> tuple[Reason, ...]:
    """Why a series with these views, and images that were refused, is not analysed: () where the
    latter are only left out (rule 2)."""
    uids = {v.header.sop_instance_uid for v in views}
    if len({(v.header.sop_instance_uid, v.digest) for v in views}) > len(uids):
        text = "two different images carry one SOP Instance UID"
        return (Reason(code=Code.DUPLICATE_UID, text=text, where="series"), *refusals)
    left_out = bool(views) and all(reason.code in LEFT_OUT for reason in refusals)
    return () if left_out else tuple(refusals)


def analyse(views: Sequence[View], manifest: Manifest, backend: Backend) -> Analysis:
    """Views `in_order` -> what is said of them."""
    line = manifest.radiographs()
    said = [_said(one, line, backend) for one in views]
    found = [i for i, one in enumerate(said) if one.score >= line.threshold]
    found.sort(key=lambda i: (-said[i].score, i))
    findings = []
    maps = []
    for number, i in enumerate(found, start=1):
        activation, name = said[i].activation, f"heat-map-{number}"
        if activation is not None:
            maps.append(_heat_map(name, activation, views[i]))
        findings.append(
            Finding(
                id=number,
                tracking_uid="",
                kind=line.finding,
                score=round(said[i].score, 4),
                threshold=line.threshold,
                heat_map=None if activation is None else name,
                key_image=i,
                key_sop_instance_uid=views[i].header.sop_instance_uid,
            )
        )
    return Analysis(_lossy(views), tuple(findings), tuple(maps))


@dataclass(frozen=True, slots=True)
class _Said:
    score: float
    activation: NDArray[np.float32] | None
    """[y, x]."""


def _said(one: View, line: ClassifyImage, backend: Backend) -> _Said:
    """What the network says of one image; alone, so that its neighbours change nothing."""
    outputs = backend.infer("classify", Tensor(one.values, one.values.shape, None))
    logit = float(_output(outputs, line.output, (1,))[0])
    if line.activation is None:
        return _Said(_score(logit, line), None)
    return _Said(_score(logit, line), _output(outputs, line.activation, (1, 1, -1, -1))[0, 0])


def _score(logit: float, line: ClassifyImage) -> float:
    x = line.scale * logit + line.bias
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))


def _output(
    outputs: Mapping[str, NDArray[np.float32]], name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """An output of this shape (-1: whatever); Poisoned (`backend_failed`) where it has another."""
    array = outputs.get(name)
    there = () if array is None else array.shape
    same = len(there) == len(shape) and all(b in (a, -1) for a, b in zip(there, shape, strict=True))
    if array is None or not same:
        text = f"network 'classify': output {name!r} is {there or 'missing'}, not {shape}"
        raise Poisoned(text, code="backend_failed")
    return array


def _heat_map(name: str, activation: NDArray[np.float32], one: View) -> HeatMap:
    """The map of one image [y, x], whose cells divide what the network saw."""
    y, x = activation.shape
    middle = np.array([[1 / y, 0, 0.5 / y], [0, 1 / x, 0.5 / x], [0, 0, 1]])
    return HeatMap(name, activation, one.to_stored @ middle)


def _lossy(views: Sequence[View]) -> tuple[Reason, ...]:
    odd = [v for v in views if v.header.transfer_syntax_uid in LOSSY_SYNTAXES]
    if not odd:
        return ()
    text = f"{len(odd)} of {len(views)} images may have lost detail by compression"
    return (Reason(code=Code.LOSSY, text=text, where="series"),)
