"""Why a series was not analysed, or only with limits: one closed list, each with its remedy.

A code is stable: consumers compare it, so it is never renamed or reused. The text of a Reason names
the slice and the figure; the remedy, kept here, says what a user can send or change instead.
"""

from __future__ import annotations

from enum import Enum


class Code(str, Enum):
    """Stable reason and limitation codes. Grouped by what they lead to."""

    # the data cannot be trusted: not_analysed
    NO_SLICES = "no_slices"
    TOO_FEW_SLICES = "too_few_slices"
    MISSING_UID = "missing_uid"
    DUPLICATE_UID = "duplicate_uid"
    UNREADABLE = "unreadable"
    INVALID_VALUE = "invalid_value"
    MISSING_GEOMETRY = "missing_geometry"
    MISSING_RESCALE = "missing_rescale"
    MISSING_PIXELS = "missing_pixels"
    UNDECODABLE_PIXELS = "undecodable_pixels"
    UNSUPPORTED_PIXELS = "unsupported_pixels"
    TOO_LARGE = "too_large"
    GANTRY_TILT = "gantry_tilt"
    NOT_AXIAL = "not_axial"
    MIXED_SERIES = "mixed_series"
    MIXED_ORIENTATION = "mixed_orientation"
    MIXED_SIZE = "mixed_size"
    MIXED_SPACING = "mixed_spacing"
    DUPLICATE_POSITION = "duplicate_position"
    SPACING_TOO_WIDE = "spacing_too_wide"
    THICKNESS_TOO_WIDE = "thickness_too_wide"
    GAP_TOO_WIDE = "gap_too_wide"
    COVER_TOO_SHORT = "cover_too_short"
    REPEATED_PIXELS = "repeated_pixels"
    NOTHING_TO_SEE = "nothing_to_see"
    NO_PHANTOM = "no_phantom"
    DYNAMIC = "dynamic"
    # outside the intended use: not_analysed
    NO_BUNDLE = "no_bundle"
    RECALLED = "recalled"
    MODALITY = "modality"
    BODY_PART = "body_part"
    PATIENT_AGE = "patient_age"
    AGE_UNKNOWN = "age_unknown"
    SPECIES = "species"
    NO_LUNGS = "no_lungs"
    NOT_FRONTAL = "not_frontal"
    # set aside by name or for a better series: not_analysed
    LOCALIZER = "localizer"
    DERIVED = "derived"
    REFORMATTED = "reformatted"
    PROJECTION = "projection"
    SECONDARY_CAPTURE = "secondary_capture"
    OWN_RESULT = "own_result"
    OTHER_QUANTITY = "other_quantity"
    BETTER_SERIES = "better_series"
    VIEW_POSITION = "view_position"
    PHANTOM_QA = "phantom_qa"
    # analysed, with limits
    SPACING_LIMITED = "spacing_limited"
    THICKNESS_LIMITED = "thickness_limited"
    MASSES_ONLY = "masses_only"
    IRREGULAR_SPACING = "irregular_spacing"
    GAP_FILLED = "gap_filled"
    SECONDARY = "secondary"
    LOSSY = "lossy"
    TRUNCATED_FOV = "truncated_fov"
    LUNGS_NOT_COVERED = "lungs_not_covered"
    ONE_LUNG = "one_lung"
    SIZE_ESTIMATED = "size_estimated"
    DIFFUSE_DISEASE = "diffuse_disease"
    MULTIFOCAL = "multifocal"
    UNSURE_NEGATIVE = "unsure_negative"
    UNUSUAL_INPUT = "unusual_input"
    UNUSUAL_OUTPUT = "unusual_output"
    SUSPECT_HU = "suspect_hu"
    TRANSFER_ABORTED = "transfer_aborted"
    UNEXPECTED_COUNT = "unexpected_count"
    MADE_UIDS = "made_uids"
    SET_ASIDE_IMAGES = "set_aside_images"
    JOINED_ACQUISITIONS = "joined_acquisitions"
    ALSO_SHOWN_IN = "also_shown_in"
    BUNDLE_FALLBACK = "bundle_fallback"
    SERIES_UID_REUSED = "series_uid_reused"
    # a comparison with an earlier exam: not_compared
    NO_PRIOR = "no_prior"
    NO_PATIENT_ID = "no_patient_id"
    SAME_SCAN = "same_scan"
    SAME_DAY = "same_day"
    IMAGES_DISAGREE = "images_disagree"
    IDENTITY_UNSURE = "identity_unsure"
    IDENTITY_MISMATCH = "identity_mismatch"
    LATERALITY = "laterality"
    COMPARE_FAILED = "compare_failed"
    PRIOR_UNREADABLE = "prior_unreadable"
    # we failed
    POISONED = "poisoned"
    BACKEND_FAILED = "backend_failed"
    MACHINE_DIED = "machine_died"
    INTERNAL = "internal"


REMEDIES: dict[Code, str] = {
    Code.NO_SLICES: "Send the axial images of the series.",
    Code.TOO_FEW_SLICES: "Send the whole series, not single images.",
    Code.MISSING_UID: "Send the original images from the scanner; an export or anonymiser removed their UIDs.",
    Code.DUPLICATE_UID: "Two different images carry one SOP Instance UID: send the originals from the scanner.",
    Code.UNREADABLE: "Send the image again; if it fails again, export it anew on the scanner.",
    Code.INVALID_VALUE: "Send the original images; a value in the header is impossible.",
    Code.MISSING_GEOMETRY: "Send original CT images with position, orientation and pixel spacing.",
    Code.MISSING_RESCALE: "Send original CT images with Rescale Slope and Intercept; without them HU are unknown.",
    Code.MISSING_PIXELS: "Send the images with their pixel data.",
    Code.UNDECODABLE_PIXELS: "Send the series uncompressed (Explicit VR Little Endian).",
    Code.UNSUPPORTED_PIXELS: "Send original greyscale images, of CT with HU, of X-ray for presentation.",
    Code.TOO_LARGE: "Send a reconstruction with fewer or smaller images.",
    Code.GANTRY_TILT: "Send a reconstruction without gantry tilt.",
    Code.NOT_AXIAL: "Send the axial reconstruction.",
    Code.MIXED_SERIES: "Send one study and series at a time in a folder of its own.",
    Code.MIXED_ORIENTATION: "Send the axial images as a series of their own.",
    Code.MIXED_SIZE: "Send images of one matrix size as a series of their own.",
    Code.MIXED_SPACING: "Send images of one pixel spacing as a series of their own.",
    Code.DUPLICATE_POSITION: "Send each phase or reconstruction as a series of its own.",
    Code.SPACING_TOO_WIDE: "Send a reconstruction with a smaller increment.",
    Code.THICKNESS_TOO_WIDE: "Send a thinner reconstruction.",
    Code.GAP_TOO_WIDE: "Send the missing images again; the scanner's transfer log names them.",
    Code.COVER_TOO_SHORT: "Send the series that covers the whole organ.",
    Code.REPEATED_PIXELS: "Reconstruct the series again; neighbouring images show the very same pixels.",
    Code.NOTHING_TO_SEE: "Send the image as it is shown at the X-ray machine, with its window.",
    Code.NO_PHANTOM: "Send a series of a round water phantom in air, with all of it in the field of view.",
    Code.DYNAMIC: "Send one phase as a series of its own.",
    Code.NO_BUNDLE: "Install a bundle for this examination (`scanside bundle list` shows what is here).",
    Code.RECALLED: "Install a newer release (`scanside update now`, or a stick), then send the series again.",
    Code.MODALITY: "The installed bundles do not analyse this modality.",
    Code.BODY_PART: "The installed bundles do not analyse this body part.",
    Code.PATIENT_AGE: "The installed bundles are not meant for a patient of this age, or of an unknown one.",
    Code.AGE_UNKNOWN: "Send the images with the age or birth date of the patient; 0 years and above 120 are no age.",
    Code.SPECIES: "The installed bundles are meant for people alone.",
    Code.NO_LUNGS: "No lungs were found in the images: send a chest CT.",
    Code.NOT_FRONTAL: "Read the image by eye: it was not analysed, for it does not look like a frontal chest; if it is one, send it upright and uncropped, with bones bright.",
    Code.LOCALIZER: "Nothing to do: localizers are not analysed.",
    Code.DERIVED: "Nothing to do if the original series was sent as well.",
    Code.REFORMATTED: "Nothing to do if the original axial series was sent as well.",
    Code.PROJECTION: "Nothing to do if the original axial series was sent as well.",
    Code.OWN_RESULT: "Nothing to do: what the appliance itself has sent is not analysed.",
    Code.SECONDARY_CAPTURE: "Nothing to do: secondary captures are not analysed.",
    Code.OTHER_QUANTITY: "Nothing to do if the original series was sent as well: maps and virtual images are not analysed.",
    Code.BETTER_SERIES: "Nothing to do: a thinner or better suited series of this study was analysed.",
    Code.VIEW_POSITION: "Nothing to do if the frontal view was sent as well: other views are not analysed.",
    Code.PHANTOM_QA: "Nothing to do: a water phantom is no exam. `scanside qa --trend` says what was measured.",
    Code.SPACING_LIMITED: "Send a reconstruction of at most 2.5 mm increment for a full analysis.",
    Code.THICKNESS_LIMITED: "Send a reconstruction of at most 2.5 mm thickness for a full analysis.",
    Code.MASSES_ONLY: "Send a reconstruction of at most 5 mm to look for nodules, of at most 2.5 mm for a full analysis.",
    Code.IRREGULAR_SPACING: "Send a reconstruction with even increments for a full analysis.",
    Code.GAP_FILLED: "Send the missing images again for a full analysis.",
    Code.SECONDARY: "Send the images as the scanner reconstructed them (ORIGINAL, PRIMARY), if they are still there.",
    Code.LOSSY: "Send the images uncompressed or losslessly compressed for a full analysis.",
    Code.TRUNCATED_FOV: "Send a reconstruction whose field of view holds both lungs.",
    Code.LUNGS_NOT_COVERED: "Send the images above or below; the lungs reach the end of the series.",
    Code.ONE_LUNG: "Look at the other side: it is opaque, missing or outside the images, and was not analysed.",
    Code.SIZE_ESTIMATED: "Measure the named finding by hand: its diameter is the detector's estimate.",
    Code.DIFFUSE_DISEASE: "Read the diseased lung by eye: findings inside it are unsure, and a nodule in it may be missed.",
    Code.MULTIFOCAL: "Read the ground-glass findings as one picture: many on both sides are more often an infection than nodules.",
    Code.UNSURE_NEGATIVE: "Read the named image by eye: it has no finding, but its score does not rule one out.",
    Code.UNUSUAL_INPUT: "Read the images by eye: nothing like them was judged before, so what the findings are worth is unknown; check dose, kernel and field of view.",
    Code.UNUSUAL_OUTPUT: "Read the images by eye: so many findings are more often a fault of the images, or a disease that is not named, than nodules.",
    Code.SUSPECT_HU: "Check the scanner's calibration; air or blood is far from its usual HU.",
    Code.TRANSFER_ABORTED: "Send the series again; the transfer broke off.",
    Code.UNEXPECTED_COUNT: "Send the series again; fewer images came than the scanner announced.",
    Code.MADE_UIDS: "Keep the originals: only the same files in the same folder get these UIDs again.",
    Code.SET_ASIDE_IMAGES: "Send again, uncompressed, a slice that could not be read; what is no slice of the series needs nothing.",
    Code.JOINED_ACQUISITIONS: "Look twice at what lies at a seam: the patient may have breathed or moved between the acquisitions.",
    Code.ALSO_SHOWN_IN: "Count what lies at one place once: both series show it.",
    Code.BUNDLE_FALLBACK: "Run `scanside doctor`, install the named bundle again, then send the series again.",
    Code.SERIES_UID_REUSED: "Correct the Series Instance UID where it was given twice; each series is judged by itself.",
    Code.NO_PRIOR: "No earlier exam of this person is kept on the device: add `[[priors.query]]`, or push one from the archive.",
    Code.NO_PATIENT_ID: "Send the images with one Patient ID of a person; without it no exam is kept or compared.",
    Code.SAME_SCAN: "Compare with another exam: both show the very same pixels.",
    Code.SAME_DAY: "Compare with an exam of an earlier day; if a date is wrong, correct it at the scanner or in the archive.",
    Code.IMAGES_DISAGREE: "Look whether both exams are of one person: it is another person, or the lungs have changed greatly.",
    Code.IDENTITY_UNSURE: "Compare both exams by eye: too little of the lungs agrees to be sure that they are of one person.",
    Code.IDENTITY_MISMATCH: "Correct the Patient ID, birth date or sex at its source: the two exams do not say the same.",
    Code.LATERALITY: "Look at the side marks of both exams: one fits the other only as its mirror image.",
    Code.COMPARE_FAILED: "Run `scanside doctor`; the findings of the exam stand, and `scanside compare` tries it again by hand.",
    Code.PRIOR_UNREADABLE: "Send the earlier exam again: what was kept of it is damaged, or of another release.",
    Code.POISONED: "The series broke the analysis three times; keep it and call the fleet team. `scanside retry` tries it again.",
    Code.BACKEND_FAILED: "Run `scanside doctor`; the inference backend failed.",
    Code.MACHINE_DIED: "Keep the series, look at the machine (power, heat, driver of the GPU), then: scanside retry.",
    Code.INTERNAL: "Run `scanside doctor` and send its output to the fleet team.",
}

SET_ASIDE = frozenset(
    {
        Code.LOCALIZER,
        Code.DERIVED,
        Code.REFORMATTED,
        Code.PROJECTION,
        Code.SECONDARY_CAPTURE,
        Code.OWN_RESULT,
        Code.OTHER_QUANTITY,
        Code.BETTER_SERIES,
        Code.VIEW_POSITION,
        Code.PHANTOM_QA,
    }
)
"""Codes of what is rightly not analysed: nothing is wrong with it."""
