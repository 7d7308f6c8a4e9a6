"""Bodies of findings, and lungs, as a DICOM Segmentation (PS3.3 A.51) of the series. Pure.

Rules.
1. SegmentationType BINARY, in the matrix of the series: a viewer lays it over the slices as they
   are. One segment a body, in the order of the findings, and a frame only where the segment shows
   something. None is empty (resample.py). Lungs are an object of their own.
2. A segment has the tracking id and UID that its finding has in the structured report (PS3.3
   C.8.20.4): a viewer puts the two together by them.
3. Only slices that are used are sources. Frames of a multi-frame image are referred to by number.
4. highdicom lays out segments, frames and references. It would take all pixels as one array, which
   is 400 MB for 1,500 slices: it is told of each segment and slice only whether anything is there,
   and the pixels are packed here, frame by frame (PS3.5 8.1.1 and 8.2).
5. Without a frame of reference (0020,0052) nothing can be laid over anything: refused by name, as
   are slices that differ in orientation, matrix or pixel spacing.
6. The same input gives the same bytes: times and UIDs are inputs, or derived from them.
"""

from __future__ import annotations

import hashlib
import io
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat

from appliance.errors import Refuse
from appliance.naming import MAKER
from appliance.preprocess import plan
from appliance.records import Geometry, Mask
from appliance.report import Finding, Report
from appliance.results import resample
from appliance.results.identity import COMPOSER, Identified, identified, packed
from appliance.results.resample import Patch
from appliance.results.source import Source, SourceImage
from appliance.results.sr.case import Case, Segment
from appliance.results.sr.document import SEGMENTATION, Composed

Bool = NDArray[np.bool_]

ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ORGAN = Code("123037004", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
TYPES: Mapping[str, Code] = {
    "nodule": Code("27925004", "SCT", "Nodule"),
    "mass": Code("4147007", "SCT", "Mass"),
}
SIDES: Mapping[str | None, Code] = {
    "right": Code("24028007", "SCT", "Right lung"),
    "left": Code("7771000", "SCT", "Left lung"),
    None: LUNG,
}
FAMILY = Code("123110", "DCM", "Artificial Intelligence")
LABEL = "SCANSIDE"
"""Content Label (0070,0080)."""
MODEL, SERIAL = "scanside", "0"
"""What Enhanced General Equipment must say (PS3.3 C.7.5.2); the box has no serial number."""
AMBER, BLUE = (255, 176, 40), (90, 160, 230)
"""Of findings, of lungs: what a viewer may show them in (0062,000D)."""
SAME = 1e-4
"""Directions, and millimetres of spacing, nearer than this are the same."""
EVEN = 0.01
"""Of the distance between slices: they are even where none differs by more."""


def segments(case: Case, bodies: Mapping[int, Mask]) -> dict[int, Segment]:
    """Where the body of each finding stands in what `of_findings` makes: for the structured report.

    bodies: by finding id; the order of the findings counts. Refuse as in `of_findings`.
    """
    placed(case.source)
    one = _identified(case, "seg")
    with_body = [finding.id for finding in case.report.findings if finding.id in bodies]
    return {
        finding: Segment(one.sop_instance_uid, one.series_uid, number)
        for number, finding in enumerate(with_body, start=1)
    }


def of_findings(case: Case, bodies: Mapping[int, Mask]) -> Composed | None:
    """The bodies of a report's findings, by finding id; None where no finding has one.

    Refuse (`no_frame_of_reference`, `mixed_slices`) by rule 5.
    """
    found = [finding for finding in case.report.findings if finding.id in bodies]
    if not found:
        return None
    images = placed(case.source)
    slices = _slices(images)
    shown = [resample.body(bodies[finding.id], slices) for finding in found]
    described = [_of_finding(n, finding, case) for n, finding in enumerate(found, start=1)]
    return _composed(case, images, described, shown, _identified(case, "seg"))


def of_lungs(case: Case, lungs: Mask) -> Composed | None:
    """The lungs, as the network saw them; None where the mask shows nothing on any slice.

    Refuse as in `of_findings`.
    """
    images = placed(case.source)
    shown = resample.organ(lungs, _slices(images)) if lungs.voxels.any() else ()
    if not shown:
        return None
    described = SegmentDescription(
        segment_number=1,
        segment_label="Lungs",
        segmented_property_category=ORGAN,
        segmented_property_type=LUNG,
        algorithm_type="AUTOMATIC",
        algorithm_identification=_algorithm(case.report),
        display_color=CIELabColor.from_rgb(*BLUE),
    )
    return _composed(case, images, [described], [shown], _identified(case, "lungs"))


def _identified(case: Case, kind: Literal["seg", "lungs"]) -> Identified:
    return identified(case.report, case.source.key, kind, SEGMENTATION, case.naming)


@dataclass(frozen=True, slots=True)
class Placed:
    """One analysed image, whose place is known."""

    image: SourceImage
    geometry: Geometry

    @property
    def slice(self) -> resample.Slice:
        return resample.Slice(self.geometry, (self.image.rows, self.image.columns))


def placed(source: Source) -> tuple[Placed, ...]:
    """The images that were analysed, in their order. Refuse by rule 5."""
    if source.frame_of_reference_uid is None:
        raise Refuse(
            "the images have no Frame of Reference UID (0020,0052)",
            code="no_frame_of_reference",
            remedy="Send the original images from the scanner: nothing can be laid over these.",
        )
    found: list[Placed] = []
    for image in (image for image in source.images if image.analysed):
        geometry = _geometry(image)
        if geometry is None or (found and not _alike(Placed(image, geometry), found[0])):
            raise Refuse(
                f"image {image.instance_number} has no place, or differs from others in "
                "orientation, matrix or pixel spacing",
                code="mixed_slices",
                remedy="Send the images of one reconstruction as a series of their own.",
            )
        found.append(Placed(image, geometry))
    return tuple(found)


def _geometry(image: SourceImage) -> Geometry | None:
    if image.position_lps_mm is None or image.orientation is None or image.spacing_mm is None:
        return None
    row, column = plan.vector(image.orientation[:3]), plan.vector(image.orientation[3:])
    return Geometry(image.position_lps_mm, row, column, image.spacing_mm)


def _alike(one: Placed, first: Placed) -> bool:
    def figures(of: Geometry) -> tuple[float, ...]:
        return (*of.row_lps, *of.column_lps, *of.spacing_mm)

    near = np.allclose(figures(one.geometry), figures(first.geometry), rtol=0, atol=SAME)
    return bool(near) and one.slice.shape == first.slice.shape


def _slices(images: Sequence[Placed]) -> tuple[resample.Slice, ...]:
    return tuple(image.slice for image in images)


def _of_finding(number: int, finding: Finding, case: Case) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=f"{finding.kind.capitalize()} {finding.id}",
        segmented_property_category=ABNORMAL,
        segmented_property_type=TYPES[finding.kind],
        algorithm_type="AUTOMATIC",
        algorithm_identification=_algorithm(case.report),
        tracking_uid=case.tracking.get(finding.id, finding.tracking_uid),
        tracking_id=f"Finding {finding.id}",
        anatomic_regions=[SIDES[finding.side]],
        display_color=CIELabColor.from_rgb(*AMBER),
    )


def _algorithm(report: Report) -> AlgorithmIdentificationSequence:
    bundle = report.bundle
    if bundle is None:
        raise ValueError("a report of no bundle has nothing to segment")
    return AlgorithmIdentificationSequence(bundle.name, FAMILY, bundle.version)


def _composed(
    case: Case,
    images: Sequence[Placed],
    described: Sequence[SegmentDescription],
    shown: Sequence[Sequence[Patch]],
    one: Identified,
) -> Composed:
    """Segments with what each shows (rules 3 and 4)."""
    used = sorted({patch.slice for patches in shown for patch in patches})
    there = np.zeros((len(used), 1, 1, len(described)), np.uint8)
    for number, patches in enumerate(shown):
        there[np.searchsorted(used, [patch.slice for patch in patches]), 0, 0, number] = 1
    headers = _headers(case.source.template, images, used)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they would carry the patient's name into the log
        laid_out = Segmentation(
            source_images=headers,
            pixel_array=there,
            segmentation_type="BINARY",
            segment_descriptions=described,
            series_instance_uid=one.series_uid,
            series_number=one.series_number,
            sop_instance_uid=one.sop_instance_uid,
            instance_number=one.instance_number,
            manufacturer=MAKER,
            manufacturer_model_name=MODEL,
            software_versions=COMPOSER,
            device_serial_number=SERIAL,
            content_label=LABEL,
            content_description=one.series_description,
        )
    made = Dataset()
    made.update(laid_out)
    shape = images[0].slice.shape
    made.Rows, made.Columns = shape
    names = [header.SOPInstanceUID for header in headers]
    frames = _frames(made, dict(zip(names, used, strict=True)))
    made.PixelData = bits(_drawn(frames, shown, shape))
    made.SegmentsOverlap = "YES" if overlap(shown, shape) else "NO"
    _refer(made, [index for _, index in frames], [placed.image for placed in images])
    digest = hashlib.sha256(f"{one.sop_instance_uid} dimensions".encode()).digest()
    dimensions = f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions  # drawn at random by highdicom
    data = packed(made, one, case.report, case.source.template, case.at)
    made.clear()  # a data set lives on until the collector comes, and holds 50 MB of pixels
    return Composed(one, data)


def _headers(template: Dataset, images: Sequence[Placed], used: Sequence[int]) -> list[Dataset]:
    """What highdicom is told of the slices that are used (rule 4): each of one pixel, single-frame
    and under a number that stands for its index; `_refer` then names the real images."""
    shared = deepcopy(template)
    for own in ("SOPInstanceUID", "ImagePositionPatient", "SpacingBetweenSlices"):
        shared.pop(own, None)  # an element that is there would be one for all
    shared.SOPClassUID = CTImageStorage
    shared.Rows = shared.Columns = 1
    first = images[0].geometry
    shared.ImageOrientationPatient = _decimal((*first.row_lps, *first.column_lps))
    shared.PixelSpacing = _decimal(first.spacing_mm)
    halves = [(cell.below, cell.above) for cell in resample.cells_of(_slices(images))]
    between = 2 * float(np.median(halves))
    if not shared.get("SliceThickness"):
        shared.SliceThickness = _decimal([between])[0]
    if np.ptp(halves) < EVEN * between:
        shared.SpacingBetweenSlices = _decimal([between])[0]
    headers = []
    for index in used:
        header = Dataset()
        header.update(shared)
        header.SOPInstanceUID = f"2.25.{index}"
        header.ImagePositionPatient = _decimal(images[index].geometry.position_lps_mm)
        headers.append(header)
    return headers


def _decimal(values: Iterable[float]) -> list[DSfloat]:
    """As decimal strings of at most 16 characters (PS3.5 6.2)."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _frames(image: Dataset, slice_of: Mapping[str, int]) -> list[tuple[int, int]]:
    """Of each frame that highdicom laid out, in its order: index of the segment, of the slice."""
    shared = image.SharedFunctionalGroupsSequence[0]
    found = []
    for item in image.PerFrameFunctionalGroupsSequence:
        named = item if "SegmentIdentificationSequence" in item else shared
        segment = named.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        found.append((segment - 1, slice_of[source.ReferencedSOPInstanceUID]))
    return found


def _drawn(
    frames: Iterable[tuple[int, int]], shown: Sequence[Sequence[Patch]], shape: tuple[int, int]
) -> Iterator[Bool]:
    """The pixels of each frame, one at a time."""
    patch_of = {(n, patch.slice): patch for n, patches in enumerate(shown) for patch in patches}
    for frame in frames:
        pixels = np.zeros(shape, np.bool_)
        _lay(pixels, patch_of[frame])
        yield pixels


def _lay(pixels: Bool, patch: Patch) -> None:
    rows, columns = patch.shape
    pixels[patch.row : patch.row + rows, patch.column : patch.column + columns] |= patch.pixels


def bits(frames: Iterable[Bool]) -> bytes:
    """Eight pixels a byte, the first in the lowest bit, no padding between frames (PS3.5 8.1.1), of
    even length (PS3.5 8.2)."""
    out, rest = io.BytesIO(), np.zeros(0, np.bool_)
    for frame in frames:
        line = np.concatenate([rest, frame.ravel()])
        whole = len(line) - len(line) % 8
        out.write(np.packbits(line[:whole], bitorder="little").tobytes())
        rest = line[whole:]
    out.write(np.packbits(rest, bitorder="little").tobytes())
    out.write(b"\0" * (out.tell() % 2))
    return out.getvalue()


def overlap(shown: Sequence[Sequence[Patch]], shape: tuple[int, int]) -> bool:
    """Whether any pixel belongs to two segments (0062,0013)."""
    by_slice: dict[int, list[Patch]] = {}
    for patch in (patch for patches in shown for patch in patches):
        by_slice.setdefault(patch.slice, []).append(patch)
    for patches in by_slice.values():
        if len(patches) > 1:
            pixels = np.zeros(shape, np.bool_)
            for patch in patches:
                _lay(pixels, patch)
            if np.count_nonzero(pixels) < sum(int(patch.pixels.sum()) for patch in patches):
                return True
    return False


def _refer(image: Dataset, frames: Sequence[int], images: Sequence[SourceImage]) -> None:
    """The real images, in place of those that highdicom was told of."""
    count = Counter(one.sop_instance_uid for one in images)
    for item, index in zip(image.PerFrameFunctionalGroupsSequence, frames, strict=True):
        of_frame = item.DerivationImageSequence[0].SourceImageSequence[0]
        _name(of_frame, [images[index]], count)
    used: dict[str, list[SourceImage]] = {}
    for index in sorted(set(frames)):
        used.setdefault(images[index].sop_instance_uid, []).append(images[index])
    image.SourceImageSequence = [_name(Dataset(), frames, count) for frames in used.values()]
    image.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [
        _name(Dataset(), of_one[:1], Counter()) for of_one in used.values()
    ]


def _name(item: Dataset, images: Sequence[SourceImage], count: Mapping[str, int]) -> Dataset:
    """A reference to frames of one instance, by number where it has others (PS3.3 10.3)."""
    item.ReferencedSOPClassUID = images[0].sop_class_uid
    item.ReferencedSOPInstanceUID = images[0].sop_instance_uid
    if count[images[0].sop_instance_uid] > 1:
        item.ReferencedFrameNumber = [one.frame or 1 for one in images]
    return item
