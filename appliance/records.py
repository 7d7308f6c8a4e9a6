"""What travels the line, in order. Frozen dataclasses: all of these carry arrays or feed those.

    bytes -> Image -> Plane -> Stack -> Tensor -> raw outputs -> Candidate -> Finding -> Result
    bytes -> Radiograph -> View -> Tensor -> raw outputs -> Finding, HeatMap -> Result

Coordinates. Patient millimetres are DICOM LPS (+x left, +y posterior, +z head). Array axes of a
canonical volume are [z, y, x] with index directions nearest +z, +y, +x. Stored values are HU.
Voxel coordinates are centres: voxel 0 is at 0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliance.naming import Naming
from appliance.report import (
    NOTICE,
    BackendRef,
    BundleRef,
    Coverage,
    Finding,
    Reason,
    Report,
    Scores,
    Status,
)
from appliance.room.check import RoomValues
from appliance.watching.qa import WaterFigures
from appliance.watching.quality import RadiographQuality, VolumeQuality
from appliance.watching.scanner import Tags

Vector = tuple[float, float, float]
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Header:
    """What one instance says of itself and its series; None where the tag is missing or empty.

    Holds what decisions need and no patient identity but PatientAge, the UIDs and `patient`.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str | None = None
    modality: str | None = None
    image_type: tuple[str, ...] = ()
    body_part: str | None = None
    kernel: str | None = None
    patient_age_years: float | None = None
    thickness_mm: float | None = None
    """Slice Thickness (0018,0050): a fact of the protocol, never used as spacing."""
    instance_number: int | None = None
    acquisition_number: int | None = None
    temporal_position: int | None = None
    cardiac_phase: float | None = None
    gantry_tilt_deg: float | None = None
    expected_images: int | None = None
    """From (0020,1002), (0020,1208) or (0020,1209): how many images the scanner announces."""
    manufacturer: str | None = None
    transfer_syntax_uid: str | None = None
    age_unknown: bool = False
    """Patient's Age says what no age is, and no birth date says better."""
    other_species: bool = False
    """It says that the patient is an animal, or something that we do not know."""
    burned_in: bool = False
    """Burned In Annotation (0028,0301) is YES."""
    lossy: bool = False
    """Lossy Image Compression (0028,2110) is 01: it may have lost detail once, whatever its
    transfer syntax is now."""
    patient: str | None = field(default=None, repr=False)
    """SHA-256 of Patient ID (0010,0020): enough to tell two patients apart, and never shown."""
    table_height_mm: float | None = None
    """Table Height (0018,1130)."""
    model: str | None = None
    """Manufacturer's Model Name (0008,1090)."""
    kvp: float | None = None
    """KVP (0018,0060)."""
    serial: str | None = field(default=None, repr=False)
    """Device Serial Number (0018,1000): of the scanner, and never shown."""
    detector: str | None = field(default=None, repr=False)
    """Detector ID (0018,700A), of a radiograph."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where one frame lies (PS3.3 C.7.6.2): LPS millimetres, unit direction vectors."""

    position_lps_mm: Vector
    """Centre of the first pixel (0020,0032)."""
    row_lps: Vector
    """Direction of a row, that is of increasing column index: first triple of (0020,0037)."""
    column_lps: Vector
    """Direction of a column, that is of increasing row index: second triple of (0020,0037)."""
    spacing_mm: Pair
    """Between rows, between columns: as in Pixel Spacing (0028,0030)."""


@dataclass(frozen=True, slots=True)
class Image:
    """One decoded frame in HU: int16 where rescaling keeps integers in range, else float32."""

    header: Header
    frame: int
    """0 for a single-frame instance, else the index of the frame."""
    geometry: Geometry
    hu: NDArray[np.int16] | NDArray[np.float32]
    """[rows, columns]. Padding (0028,0120) is already -1000 HU (air) in `hu`."""
    padding: bool
    """Whether any pixel was padding: a circular or truncated field of view."""
    digest: str
    """SHA-256 of decoded HU and geometry: equal for every transfer syntax of the same image."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the body and blocks of one slice say (appliance/quality). Blocks are squares of pixels
    at fixed places, each of four quarters; cells are squares of a few mm."""

    body_edge: float | None
    """Share of the edge of the field of view that shows body; None where no body is seen."""
    body_mm2: float
    """Area of the body with all that lies in it; 0 where none is seen."""
    lung_mm2: float
    metal_mm2: float
    """Of it."""
    water_mm: float | None
    """Water-equivalent diameter; None where no body is seen."""
    skin: float | None
    """Median gradient at the skin, HU/mm; None where it is not seen."""
    lung_edge: float | None
    """The same at edges in the lungs."""
    tissue_cells: NDArray[np.int32]
    """[bins of 1 HU]: how many cells of soft tissue have such a mean (hounsfield.COUNTED_HU)."""
    tissue_hu: NDArray[np.float32]
    """[quarters of soft tissue]: mean HU."""
    tissue_sd: NDArray[np.float32]
    """[the same quarters]: SD of HU."""
    power: NDArray[np.float32]
    """[blocks of soft tissue, 3]: power of their noise (noise.power)."""
    air_hu: NDArray[np.float32]
    """[quarters of air in front of the body]: median HU."""
    air_sd: NDArray[np.float32]
    """[the same quarters]: SD of HU, of the upper half; NaN where the lower half alone is there."""


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """What one slice says of its own quality, taken while it arrives (appliance/quality): about
    2 kB, 8 kB of one that is sampled. Cells are squares of a few pixels."""

    across: NDArray[np.float32]
    """[columns of cells]: mean HU of each, cut to -1000..100."""
    down: NDArray[np.float32]
    """[rows of cells]: the same of each row."""
    cell_mm: Pair
    """Size of a cell: along y, along x."""
    sample: Sample | None
    """None of a slice that is not sampled."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One image made ready in its plane: oriented to LPS axes, resampled to each spacing in use."""

    header: Header
    frame: int
    geometry: Geometry
    """Of the oriented native pixels (`native`): directions nearest +x and +y."""
    native: NDArray[np.int16] | NDArray[np.float32]
    """[y, x], HU, the scanner's own pixels."""
    resampled: Mapping[float, NDArray[np.float32]]
    """In-plane target spacing in mm -> [y, x], HU."""
    padding: bool
    digest: str
    blank: bool = False
    """Whether all pixels are equal: it shows nothing."""
    facts: SliceFacts | None = None
    """None where nobody measured it, such as in training."""

    @property
    def mark(self) -> tuple[str, str]:
        """The name of this frame in its series, and the digest: what an input digest is made of."""
        return f"{self.header.sop_instance_uid}/{self.frame}", self.digest


@dataclass(frozen=True, slots=True)
class Stack:
    """The planes of one series in order of rising z, and what was found on the way.

    `z_mm` are distances along the normal from the first plane; normal points to +z (head).
    """

    planes: tuple[Plane, ...]
    z_mm: NDArray[np.float64]
    normal_lps: Vector
    spacing_mm: Vector
    """Median slice distance, row spacing, column spacing."""
    limitations: tuple[Reason, ...] = ()
    seams_mm: tuple[float, ...] = ()
    """Where two acquisitions adjoin: mm along the normal from the first plane."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular grid of voxels in the patient: `to_lps` maps (z, y, x, 1) indices to LPS mm."""

    shape: tuple[int, int, int]
    spacing_mm: Vector
    to_lps: NDArray[np.float64]
    """4x4: rows x, y, z, 1 of LPS; columns index z, y, x, 1."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Rescale Slope and Intercept (PS3.3 C.11.1.1.2)."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class Lut:
    """A Modality or VOI LUT: the entry of `first`, then of each value above it (C.11.1.1.1)."""

    first: int
    bits: int
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VoiWindow:
    """Window Center and Width (C.11.2.1.2) and VOI LUT Function (C.11.2.1.3)."""

    center: float
    width: float
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] = "LINEAR"


@dataclass(frozen=True, slots=True)
class Greyscale:
    """How stored values of a radiograph become grey values (PS3.4 N.2): Modality LUT, VOI LUT (None
    where the image names neither table nor window), then inverted or not."""

    modality: Linear | Lut
    voi: VoiWindow | Lut | None
    inverse: bool


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One decoded projection image, upright: rows run to the patient's left, columns to feet."""

    header: Header
    stored: NDArray[Any]
    """[rows, columns], 8 or 16 bit integers."""
    grey: Greyscale
    shown: NDArray[np.bool_]
    """[rows, columns]: False for padding and for what a shutter or collimator hides."""
    aspect: float
    """Height of a pixel divided by its width."""
    to_stored: NDArray[np.float64]
    """3x3: (row, column, 1) here -> (row, column, 1) of the image as it was sent."""
    digest: str
    """SHA-256 of stored values and greyscale: equal for every lossless transfer syntax."""


@dataclass(frozen=True, slots=True)
class View:
    """One radiograph made ready for a network."""

    header: Header
    values: NDArray[np.float32]
    """[1, 1, size, size]."""
    to_stored: NDArray[np.float64]
    """3x3: (y, x, 1) from 0 to 1 over the square that the network sees, its edges included ->
    (row, column, 1) of the image as it was sent, where pixel centres are whole numbers."""
    digest: str

    @property
    def mark(self) -> tuple[str, str]:
        """The name of this image in its series, and the digest: what an input digest is made of."""
        return self.header.sop_instance_uid, self.digest


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Where in a radiograph the evidence of a finding lies, kept beside the report."""

    name: str
    values: NDArray[np.float32]
    """[y, x], in the network's own unit: more is more evidence."""
    to_stored: NDArray[np.float64]
    """3x3: (y, x, 1) of a cell -> (row, column, 1) of the key image as it was sent."""


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open index range on a Grid: lowest and highest+1 index of z, y, x."""

    low: tuple[int, int, int]
    high: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Axes:
    """Where the axes of a measured finding end, LPS mm. All four points lie in one plane."""

    long_lps_mm: tuple[Vector, Vector]
    short_lps_mm: tuple[Vector, Vector]


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask of an organ or finding, kept beside the report."""

    name: str
    voxels: NDArray[np.bool_]
    grid: Grid
    axes: Axes | None = None
    """Of a measured finding."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A backend's own input: `data` is opaque to all others (numpy on a CPU, a pointer on a GPU).

    `grid` maps the voxels of `data` (without padding) back to the patient; None for patches.
    """

    data: Any
    shape: tuple[int, ...]
    grid: Grid | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that may be a finding, before thresholds."""

    center_lps_mm: Vector
    diameter_mm: float
    logits: Mapping[str, float]
    """Network role (`propose`, `classify`, `cube`, `mass`) -> logit."""
    score: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the fold knows of the series without any inference: enough for a refusal."""

    study_uid: str
    series_uid: str
    modality: str | None
    slices: int
    spacing_mm: Vector | None
    thickness_mm: float | None
    kernel: str | None
    coverage: Coverage
    images: tuple[str, ...] = ()
    """What was put in order, as `SOPInstanceUID/FRAME` (frames from 0) of a volume and as
    SOPInstanceUID of radiographs: in the order that `Finding.key_image` counts."""
    scanner: Tags = field(default_factory=Tags)
    """Of the device that made the images."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the line says of one series and bundle. `line.seal` makes a Report of it.

    The same inputs, bundle and backend always give an equal Result, whichever way they came.
    """

    status: Status
    facts: Facts
    input_digest: str
    reasons: tuple[Reason, ...] = ()
    limitations: tuple[Reason, ...] = ()
    bundle: BundleRef | None = None
    backend: BackendRef | None = None
    findings: tuple[Finding, ...] = ()
    """Key images carry their SOP Instance UID; `seal` removes it unless the site lets it out."""
    masks: tuple[Mask, ...] = ()
    maps: tuple[HeatMap, ...] = ()
    room: RoomValues | None = None
    """What was measured of the images themselves (appliance/quality); no part of the report."""
    quality: tuple[VolumeQuality | RadiographQuality, ...] = ()
    """The same for the watch over the scanner: one of a volume, one of each radiograph."""
    notice: str = NOTICE
    """Of the bundle."""
    scores: Scores | None = None
    """All that was scored, also below the threshold; None where nothing was."""
    tuning: str | None = None
    """Digest of the tuning that it was analysed with (watching/tuning.py)."""
    water: WaterFigures | None = None
    """Of a water phantom alone, of which there is no report."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What only the outside knows and a report needs."""

    naming: Naming
    publish_uids: bool
    revision: int
    supersedes: str | None
    preliminary: bool
    appliance: str | None = None
    """Its version."""
    before: Report | None = None
    """The report that the same series, bundle and input have already: its names stay."""
