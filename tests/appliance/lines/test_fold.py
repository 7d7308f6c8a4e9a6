"""What bundles share while a series arrives, and how each lets go of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from appliance import line
from appliance.bundle import archive, trust
from appliance.bundle.trust import Bundle
from appliance.lines import budget
from appliance.reasons import Code
from appliance.records import Plane


@pytest.fixture(scope="module")
def files(dicom: Any) -> list[bytes]:
    made: list[bytes] = dicom.all(dicom.chest())
    return made


@pytest.fixture(scope="module")
def fine(tiny_bytes: bytes) -> Bundle:
    """Another bundle, whose networks see finer pixels and nobody under 70."""
    entries = archive.read(tiny_bytes)
    manifest = json.loads(entries["manifest.json"])
    manifest["name"] = "tiny-fine"
    manifest["accepts"]["age_years"] = [70.0, 120.0]
    manifest["networks"]["propose"]["preprocess"][2]["spacing_mm"] = [1.25, 1.0, 1.0]
    data = archive.write(entries | {"manifest.json": json.dumps(manifest).encode()})
    return trust.check(data).bundle


def add(fold: line.Fold, files: list[bytes], memory_bytes: int | None = None) -> line.Fold:
    for file in files:
        fold = line.add(fold, file, memory_bytes)
    return fold


def spacings(fold: line.Fold) -> set[float]:
    return {
        mm
        for share in fold.shares
        for image in share.images
        if isinstance(image, Plane)
        for mm in image.resampled
    }


def test_a_plane_is_the_same_object_for_all_and_has_the_spacings_of_all(
    tiny: Bundle, fine: Bundle, dicom: Any
) -> None:
    fold = add(line.begin([tiny, fine]), dicom.all(dicom.chest(PatientAge="080Y"))[:3])
    one, two = fold.shares
    assert [a is b for a, b in zip(one.images, two.images, strict=True)] == [True] * 3
    assert spacings(fold) == {1.0, 1.25, 3.0}


def test_an_image_that_one_bundle_refuses_is_the_others_all_the_same(
    tiny: Bundle, fine: Bundle, files: list[bytes]
) -> None:
    fold = add(line.begin([tiny, fine]), files)  # of 60 years
    one, two = fold.shares
    assert (len(one.images), one.refusals) == (24, ())
    assert (len(two.images), {r.code for r in two.refusals}) == (0, {Code.PATIENT_AGE})
    assert spacings(fold) == {1.25, 3.0}, "nothing is made for a bundle that refuses"
    assert fold.held == one.held


def test_only_the_bundle_whose_own_pixels_are_too_many_lets_go(
    tiny: Bundle, fine: Bundle, dicom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dicom.all(dicom.chest(PatientAge="080Y"))
    coarse = add(line.begin([tiny]), old)
    monkeypatch.setattr(budget, "MAX_BYTES", coarse.held)
    fold = add(line.begin([tiny, fine]), old)
    one, two = fold.shares
    assert one.too_large is None
    assert (one.digest, one.held) == (coarse.shares[0].digest, coarse.held)
    assert two.too_large is not None
    assert (two.images, two.count(two.outline)) == ((), 24)
    assert two.digest == add(line.begin([fine]), old).shares[0].digest
    assert fold.held == coarse.held
    assert spacings(fold) == {1.25, 3.0}, "what only the other needed is freed"


def test_where_memory_is_short_the_last_bundle_lets_go_first(
    tiny: Bundle, fine: Bundle, dicom: Any
) -> None:
    old = dicom.all(dicom.chest(PatientAge="080Y"))
    coarse = add(line.begin([tiny]), old)
    fold = add(line.begin([tiny, fine]), old, coarse.held)
    one, two = fold.shares
    assert one.too_large is None
    assert one.images
    assert two.too_large is not None
    assert f"{coarse.held >> 20} MB" in two.too_large.text
    assert fold.held == coarse.held
    less = add(line.begin([tiny, fine]), old, coarse.held // 2)
    assert [bool(share.too_large) for share in less.shares] == [True, True]
    assert less.held == 0


def test_an_image_that_one_bundle_refused_has_nothing_of_it_to_free(
    tiny: Bundle, fine: Bundle, dicom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third bundle lets go while the second has some of the images alone."""
    images = dicom.chest(PatientAge="080Y")
    dicom.say(images[3], PatientAge="060Y")
    files = dicom.all(images)
    finest = replace(fine, ref=fine.ref.model_copy(update={"digest": "f" * 64}))
    whole = add(line.begin([tiny, fine, finest]), files)
    fold = add(line.begin([tiny, fine, finest]), files, whole.held - 1)
    assert [len(share.images) for share in fold.shares] == [24, 0, 0]
    assert fold.held == add(line.begin([tiny]), files).held
    own = [share.held for share in whole.shares]
    monkeypatch.setattr(budget, "MAX_BYTES", own[1] - 1)
    assert own[0] < own[1]
    assert [bool(s.images) for s in add(line.begin([tiny, fine]), files).shares] == [True, False]


def test_a_bundle_that_let_go_of_its_images_reads_no_more(
    tiny: Bundle, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = add(line.begin([tiny]), files[:5], 1000)
    assert fold.shares[0].too_large is not None
    monkeypatch.setattr("appliance.series.pixels.images", lambda _: pytest.fail("it was read"))
    more = line.add(fold, files[5], 1000).shares[0]
    assert more.count(more.outline) == 6


def test_what_is_asked_of_a_bundle_that_is_not_there_is_an_error(
    tiny: Bundle, fine: Bundle
) -> None:
    with pytest.raises(ValueError, match="not begun for tiny-fine"):
        line.begin([tiny]).share(fine)
