"""One object of a report: which composer, of what. Whoever wants an object as bytes asks here.

    Material + kind -> Composed, or Nothing with the reason

Rules
- A report with findings in millimetres becomes a measurement report, every other a text (sr/case).
  Where a finding lies on no image, which no analysis makes, the text is what is left.
- A measurement report names the segment of a finding only where the segmentation is sent too
  (`Material.segmented`) and can be composed.
- Key images of a capture: those of the findings of highest score, at most MOST_PICTURES.
- What cannot be drawn is Nothing, with a sentence; it is no error. All else that goes wrong raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from appliance.compose.sent import Variant
from appliance.compose.told import Told
from appliance.errors import Refuse
from appliance.records import HeatMap, Image, Mask
from appliance.report import Finding, Product
from appliance.results import capture, note, resample, seg
from appliance.results.capture import Picture
from appliance.results.pacs import Ordered
from appliance.results.source import SourceImage
from appliance.results.sr import findings, text
from appliance.results.sr.case import Case, Segment, form
from appliance.results.sr.document import Composed
from appliance.series import pixels, radiograph

MOST_PICTURES = 6


@dataclass(frozen=True)
class Nothing:
    """There is nothing to compose."""

    why: str


@dataclass(frozen=True)
class Material:
    """All that the objects of one report are made of."""

    case: Case
    read: Callable[[str], bytes]
    """SOP Instance UID -> its file; KeyError or OSError where it is gone."""
    bodies: Mapping[int, Mask] = field(default_factory=dict)
    """Finding -> its body."""
    lungs: Mask | None = None
    maps: Mapping[str, HeatMap] = field(default_factory=dict)
    """`Finding.heat_map` -> the map."""
    segmented: bool = False
    """Whether the bodies are sent as a segmentation."""
    told: Told | None = None
    """What was settled before; None where nothing is kept of what was said."""


def ordered(one: Ordered, variant: Variant, of: Material) -> Composed | Nothing:
    """The object of an order, for the archives that get this variant of it."""
    case = replace(of.case, predecessors=variant.names, variant=variant.own)
    of = replace(of, case=case)
    if one.note:
        return note.note(case) if variant.names else Nothing("the archive has no report to reject")
    if one.stage == "withdrawn":
        return withdrawn(one.kind, of)
    return compose(one.kind, of, older=one.older_class)


def compose(kind: Product, of: Material, *, older: bool = False) -> Composed | Nothing:
    """One object. older: a measurement report of the class that older archives take."""
    if kind == "sr":
        return _document(of, older=older)
    if kind == "sc":
        return capture.capture(of.case, _pictures(of))
    try:
        if kind == "seg":
            made = seg.of_findings(of.case, of.bodies)
        else:
            made = None if of.lungs is None else seg.of_lungs(of.case, of.lungs)
    except Refuse as e:
        return Nothing(e.text)
    return made or Nothing("no mask shows anything on an image")


def withdrawn(kind: Product, of: Material) -> Composed:
    """The object which says that a report does not stand any more."""
    by = of.told.by if of.told is not None else None
    if kind == "sr":
        return text.withdrawal(of.case, by)
    return capture.withdrawal(of.case, by)


def _document(of: Material, *, older: bool) -> Composed:
    case = of.case
    if form(case.report) == "measurements" and _all_shown(case):
        return findings.measurements(replace(case, segments=_segments(of)), three_d=not older)
    return text.text(case)


def _all_shown(case: Case) -> bool:
    places = [f.center_lps_mm for f in case.report.findings if f.center_lps_mm is not None]
    return all(case.source.nearest(place) is not None for place in places)


def _segments(of: Material) -> Mapping[int, Segment]:
    if not of.segmented:
        return {}
    try:
        return seg.segments(of.case, of.bodies)
    except Refuse:
        return {}


def _pictures(of: Material) -> tuple[Picture, ...]:
    found: list[Picture] = []
    for finding in of.case.report.findings[:MOST_PICTURES]:
        if finding.heat_map is not None:
            found += _of_radiograph(of, finding)
        elif (picture := _of_slice(of, finding)) is not None:
            found.append(picture)
    return tuple(found)


def _of_radiograph(of: Material, finding: Finding) -> tuple[Picture, ...]:
    """The image and the image with the evidence; none where the map was not kept."""
    heat = of.maps.get(finding.heat_map or "")
    analysed = [image for image in of.case.source.images if image.analysed]
    if heat is None or finding.key_image >= len(analysed):
        return ()
    decoded = radiograph.read(of.read(analysed[finding.key_image].sop_instance_uid))
    key = analysed[finding.key_image]
    return capture.radiograph(decoded, heat, _caption(finding, key))


def _of_slice(of: Material, finding: Finding) -> Picture | None:
    """The key image with a line around the body, or around the place where there is no body."""
    image = of.case.source.nearest(finding.place_lps_mm)
    if image is None:
        return None
    every = pixels.read(of.read(image.sop_instance_uid))
    decoded = every[(image.frame or 1) - 1]
    down, across = decoded.geometry.spacing_mm
    shown = _shown(of, finding, image, decoded)
    return capture.outlined(decoded.hu, shown, _caption(finding, image), down / across)


def _shown(of: Material, finding: Finding, image: SourceImage, decoded: Image) -> seg.Bool:
    """Where the finding lies on its key image, [rows, columns]."""
    found = np.zeros(decoded.hu.shape, np.bool_)
    body = of.bodies.get(finding.id)
    if body is not None:
        try:
            placed = seg.placed(of.case.source)
        except Refuse:
            placed = ()
        at = next((n for n, one in enumerate(placed) if one.image == image), None)
        for patch in resample.body(body, [one.slice for one in placed]) if placed else ():
            if patch.slice == at:
                rows, columns = patch.shape
                into = (
                    slice(patch.row, patch.row + rows),
                    slice(patch.column, patch.column + columns),
                )
                found[into] = patch.pixels
    if not found.any():
        corners = findings.ellipse(of.case, finding, image) - 0.5
        capture.fill_ellipse(found, corners)
    return found


def _caption(finding: Finding, image: SourceImage) -> str:
    said = [f"Finding {finding.id}: {finding.kind}"]
    if finding.diameter_mm is not None:
        said.append(f"{finding.diameter_mm:.1f} mm")
    if finding.side is not None:
        said.append(f"{finding.side} lung")
    if image.instance_number is not None:
        said.append(f"image {image.instance_number}")
    return ", ".join((*said, f"detection confidence {finding.score:.2f}"))
