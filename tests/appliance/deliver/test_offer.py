"""The classes that are offered are those that are composed."""

from __future__ import annotations

from appliance.deliver import offer
from appliance.dicom import storage
from appliance.results import capture, note
from appliance.results.sr import document


def test_every_class_that_a_composer_makes_is_offered() -> None:
    assert offer.COMPREHENSIVE_3D_SR == document.COMPREHENSIVE_3D
    made = {document.ENHANCED, document.COMPREHENSIVE, document.COMPREHENSIVE_3D}
    assert set(offer.classes(["sr"])) == made
    assert offer.classes(["sc", "seg"]) == (capture.SECONDARY_CAPTURE, document.SEGMENTATION)
    assert offer.classes(["sc"], rejection_note=True) == (
        capture.SECONDARY_CAPTURE, note.KEY_OBJECTS,
    )  # fmt: skip
    assert set(offer.classes(["sr", "seg", "sc"], rejection_note=True)) <= storage.CLASSES


def test_one_of_the_two_classes_of_findings_is_enough() -> None:
    every = set(offer.classes(["sr", "seg"]))
    assert offer.untaken(offer.classes(["sr", "seg"]), every) == ()
    for older in (offer.COMPREHENSIVE_SR, offer.COMPREHENSIVE_3D_SR):
        assert offer.untaken(offer.classes(["sr", "seg"]), every - {older}) == ()
    assert offer.untaken(offer.classes(["sr"]), {offer.ENHANCED_SR}) == (
        offer.COMPREHENSIVE_SR, offer.COMPREHENSIVE_3D_SR,
    )  # fmt: skip
    assert offer.untaken(offer.classes(["sr", "seg"]), every - {offer.ENHANCED_SR}) == (
        offer.ENHANCED_SR,
    )
    assert offer.untaken(offer.classes(["seg"]), every - {document.SEGMENTATION}) == (
        document.SEGMENTATION,
    )
