"""Patients of one scanner differ, and a sharper kernel sharpens anatomy and noise alike."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.phantom.chest import Phantom
from appliance.phantom.kernel import BONE, STANDARD
from appliance.phantom.patients import SIZE, patient, reconstructed


@pytest.fixture(scope="module")
def somebody() -> Phantom:
    """A round body in air, of two slices, as `person` gives a chest: without noise."""
    y, x = np.indices((96, 96)) - 47.5
    hu = np.where(x**2 + y**2 < 40**2, 50, -1000).astype(np.int16)
    return Phantom(np.stack([hu, hu]), (5.0, 1.4, 1.4), (-66.5, -66.5, 0.0), ())


def inside(scan: Phantom) -> np.ndarray:
    return scan.hu[:, 30:66, 30:66].astype(float)


def test_a_number_gives_one_patient_always_the_same(somebody: Phantom) -> None:
    assert (patient([somebody], 3).hu == patient([somebody], 3).hu).all()


def test_patients_differ_in_size_noise_and_hu(somebody: Phantom) -> None:
    made = [patient([somebody], number) for number in range(12)]
    sizes = [one.spacing_mm[1] / somebody.spacing_mm[1] for one in made]
    assert len(set(sizes)) == 12
    assert all(abs(size - 1) <= SIZE for size in sizes)
    assert {one.spacing_mm[0] for one in made} == {5.0}, "thickness is part of the protocol"
    noise = [inside(one).std() for one in made]
    assert 12 < min(noise) < max(noise) < 30, "weaker in a body as thin as this one"
    assert max(noise) / min(noise) > 1.1
    assert np.ptp([inside(one).mean() for one in made]) > 3


def test_noise_is_stronger_in_the_body_than_in_the_air(somebody: Phantom) -> None:
    hu = somebody.hu + np.int16(200)  # so that air is not cut
    scan = patient([Phantom(hu, somebody.spacing_mm, somebody.origin_lps_mm, ())], 0)
    assert scan.hu[:, :6, :6].std() < 0.8 * inside(scan).std()


def test_a_sharper_kernel_raises_noise_and_edges_and_the_usual_one_nothing(
    somebody: Phantom,
) -> None:
    scan = patient([somebody], 0)
    sharp = reconstructed(scan, BONE)
    assert inside(sharp).std() > 1.3 * inside(scan).std()
    edge, sharper = (np.abs(np.diff(one.hu[0, 48].astype(float))).max() for one in (scan, sharp))
    assert sharper > edge
    assert abs(inside(sharp).mean() - inside(scan).mean()) < 1, "HU stay"
    assert (reconstructed(scan, STANDARD).hu == scan.hu).all()
