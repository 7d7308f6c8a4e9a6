"""A water phantom in the fold: set aside by every other line, measured by its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.uid import UID

from appliance import line
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import match, trust
from appliance.bundle.trust import Bundle
from appliance.lines import choose
from appliance.lines.kind import Context
from appliance.phantom.water import Water
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Reason, Status
from appliance.series import pixels
from appliance.series.pixels import header
from rigs import phantoms
from rigs.chests import Dicom, Slices

SYNTAXES = ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90")
"""RLE, JPEG-LS and JPEG 2000, all without loss."""


@pytest.fixture(scope="module")
def by(water_qa_bytes: bytes) -> Bundle:
    return trust.check(water_qa_bytes).bundle


@pytest.fixture(scope="module")
def nothing() -> Iterator[Backend]:
    """A backend without networks."""
    opened = open_backend("onnxruntime", {}, {}, 1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return phantoms.packed(phantoms.images(slices=4))


def codes(result: Result) -> list[Code]:
    return [reason.code for reason in result.reasons]


def folded(files: list[bytes], *bundles: Bundle) -> line.Fold:
    fold = line.begin(bundles)
    for file in files:
        fold = line.add(fold, file)
    return fold


def test_no_header_chooses_the_line_of_phantoms(by: Bundle, files: list[bytes]) -> None:
    one = header(files[0])
    assert choose.bundles_for(one, [by]).bundles == ()
    assert [r.code for r in match.none_accepts([by], one)] == [Code.NO_BUNDLE]
    assert "water" not in match.none_accepts([by], one)[0].text


def test_the_line_of_the_chest_sets_a_phantom_aside_before_any_network(
    tiny: Bundle, nothing: Backend, files: list[bytes]
) -> None:
    """A backend that has no network would raise as soon as one was asked."""
    assert codes(line.process(files, tiny, nothing)) == [Code.PHANTOM_QA]


@pytest.mark.parametrize("count", [1, 2])
def test_few_slices_of_a_phantom_are_set_aside_too(
    tiny: Bundle, nothing: Backend, files: list[bytes], count: int
) -> None:
    assert codes(line.process(files[:count], tiny, nothing)) == [Code.PHANTOM_QA]


def test_where_no_bundle_is_meant_for_it_the_phantom_alone_is_the_reason(
    files: list[bytes],
) -> None:
    against = Context(reasons=(Reason(code=Code.BODY_PART, text="x"), *line._no_bundle()))
    assert codes(line.finish(folded(files), None, None, against)) == [Code.PHANTOM_QA]


def test_an_appliance_that_was_recalled_says_so_and_not_that_it_is_a_phantom(
    files: list[bytes],
) -> None:
    recalled = Context(reasons=(Reason(code=Code.RECALLED, text="x"),))
    assert codes(line.finish(folded(files), None, None, recalled))[0] is Code.RECALLED


def test_the_images_of_another_line_are_measured_without_decoding_them_again(
    tiny: Bundle, by: Bundle, nothing: Backend, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, digest = folded(files, tiny), folded(files, by).shares[0].digest
    monkeypatch.setattr(pixels, "images", None)
    result = line.finish(fold.again_for(by), by, nothing)
    assert result.status is Status.ANALYSED
    assert result.water is not None
    assert result.water.diameter_mm == pytest.approx(200, abs=1)
    assert result.findings == ()
    assert result.input_digest == digest


def test_what_is_no_phantom_is_not_measured(
    by: Bundle, nothing: Backend, dicom: Dicom, slices: Slices
) -> None:
    result = line.process(dicom.all(slices), by, nothing)
    assert codes(result) == [Code.NO_PHANTOM]
    assert result.water is None


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_compressed_phantom_is_measured_alike(
    syntax: str, by: Bundle, nothing: Backend, files: list[bytes]
) -> None:
    every = phantoms.images(slices=4)
    for image in every:
        image.compress(UID(syntax), generate_instance_uid=False)
    plain, packed = (line.process(these, by, nothing) for these in (files, phantoms.packed(every)))
    assert packed.water == plain.water is not None
    assert packed.input_digest == plain.input_digest


def test_a_tilted_gantry_is_set_aside_and_not_measured(
    tiny: Bundle, by: Bundle, nothing: Backend
) -> None:
    every = phantoms.images(slices=4)
    for number, image in enumerate(every):
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, float(y) + 2.0 * number, z]
    files = phantoms.packed(every)
    assert codes(line.process(files, tiny, nothing)) == [Code.PHANTOM_QA]
    assert codes(line.process(files, by, nothing)) == [Code.GANTRY_TILT]


@pytest.mark.parametrize("spoilt", ["slope", "cut"])
def test_an_image_that_cannot_be_trusted_keeps_the_phantom_from_being_measured(
    spoilt: str, tiny: Bundle, by: Bundle, nothing: Backend
) -> None:
    every = phantoms.images(slices=4)
    if spoilt == "slope":
        del every[1].RescaleSlope
    files = phantoms.packed(every)
    if spoilt == "cut":
        files[1] = files[1][:-5000]
    assert codes(line.process(files, tiny, nothing)) == [Code.PHANTOM_QA]
    refused = line.process(files, by, nothing)
    assert refused.status is Status.NOT_ANALYSED
    assert refused.water is None


def test_a_phantom_with_a_fault_is_set_aside_all_the_same(tiny: Bundle, nothing: Backend) -> None:
    worst = Water(cupping_hu=30, bubble_mm=25, scale=1.08, noise_hu=20, tilt_deg=4)
    files = phantoms.packed(phantoms.images(worst, slices=3))
    assert codes(line.process(files, tiny, nothing)) == [Code.PHANTOM_QA]
