"""What the images of a phantom say of who was scanned."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from appliance.phantom.chest import Phantom
from appliance.phantom.instances import Patient, packed, series

BLOCK = Phantom(np.zeros((2, 4, 4), np.int16), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), ())


def test_the_phantom_of_before_names_nobody_and_no_issuer() -> None:
    for image in series(BLOCK):
        assert (image.PatientID, image.PatientBirthDate) == ("PHANTOM-CHEST", "")
        assert "IssuerOfPatientID" not in image


def test_a_patient_is_in_every_image_and_the_date_is_that_of_the_exam() -> None:
    somebody = Patient("A-12", "WARD", "PHANTOM^ONE", "19660401", "F")
    then, now = (
        list(series(BLOCK, patient=somebody, when=datetime(year, 1, 6, 10)))
        for year in (2025, 2026)
    )
    for image in (*then, *now):
        assert (image.PatientID, image.IssuerOfPatientID) == ("A-12", "WARD")
        assert (image.PatientBirthDate, image.PatientSex) == ("19660401", "F")
        assert packed(image)
    assert {image.StudyDate for image in then} == {image.AcquisitionDate for image in then}
    assert {image.StudyDate for image in (*then, *now)} == {"20250106", "20260106"}
