"""The closed list of reason codes: consumers compare them, so they never change."""

from __future__ import annotations

import pytest

from appliance.reasons import REMEDIES, SET_ASIDE, Code

FROZEN = {
    "no_slices", "too_few_slices", "missing_uid", "duplicate_uid", "unreadable", "invalid_value",
    "missing_geometry", "missing_rescale", "missing_pixels", "undecodable_pixels",
    "unsupported_pixels", "too_large", "gantry_tilt", "not_axial", "mixed_series",
    "mixed_orientation", "mixed_size", "mixed_spacing", "duplicate_position", "spacing_too_wide",
    "thickness_too_wide", "gap_too_wide", "cover_too_short", "dynamic", "no_bundle", "modality",
    "body_part", "patient_age", "no_lungs", "localizer", "derived", "reformatted", "projection",
    "secondary_capture", "better_series", "spacing_limited", "thickness_limited",
    "irregular_spacing", "gap_filled", "truncated_fov", "lungs_not_covered", "suspect_hu",
    "one_lung", "repeated_pixels", "lossy", "masses_only", "nothing_to_see", "view_position",
    "made_uids", "transfer_aborted", "unexpected_count", "poisoned", "backend_failed", "internal",
    "machine_died", "also_shown_in", "series_uid_reused", "bundle_fallback",
    "age_unknown", "species", "secondary", "other_quantity",
    "set_aside_images", "joined_acquisitions", "size_estimated", "own_result", "diffuse_disease",
    "multifocal", "recalled", "no_prior", "no_patient_id", "same_scan", "same_day",
    "images_disagree", "identity_unsure", "identity_mismatch", "laterality", "compare_failed",
    "prior_unreadable", "unsure_negative", "unusual_input", "unusual_output",
    "phantom_qa", "no_phantom", "not_frontal",
}  # fmt: skip
"""Published once: a code may be added here, never taken out or renamed."""


def test_no_published_code_is_gone_and_each_new_one_is_written_down() -> None:
    assert {code.value for code in Code} == FROZEN


def test_names_and_values_agree() -> None:
    assert all(code.name.lower() == code.value for code in Code)


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_remedy_of_one_sentence_or_more(code: Code) -> None:
    remedy = REMEDIES[code]
    assert len(remedy) > 20
    assert remedy[0].isupper()
    assert remedy.endswith((".", ")"))
    assert "\n" not in remedy


def test_no_remedy_is_for_a_code_that_is_none() -> None:
    assert set(REMEDIES) == set(Code)


def test_what_is_set_aside_needs_no_action() -> None:
    assert all(REMEDIES[code].startswith("Nothing to do") for code in SET_ASIDE)
    others = set(Code) - SET_ASIDE
    assert not [code for code in others if REMEDIES[code].startswith("Nothing to do")]
