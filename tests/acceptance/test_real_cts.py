"""Real chest CTs and the full phantom through the factory bundle: what must be found and refused.

Needs the shared data and a factory bundle; what is missing is said in the reason of the skip.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, RLELossless, generate_uid

from appliance import line
from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import match, trust
from appliance.bundle.shelf import FACTORY
from appliance.bundle.trust import Bundle
from appliance.errors import SeriesRefused
from appliance.lines.kind import Context
from appliance.naming import Naming
from appliance.phantom import chest as phantoms
from appliance.phantom.instances import series
from appliance.reasons import Code
from appliance.records import Identity, Result
from appliance.report import Finding, Report, Status, Times
from appliance.series import pixels

LESION_MM = 10.0
MOST_OTHERS = 8
HIT_SHARE = 0.8


@dataclass(frozen=True)
class Factory:
    bundle: Bundle
    backend: Backend

    def process(self, instances: list[bytes]) -> Result:
        """As `analyze` does: only a bundle that accepts the header gets the series."""
        try:
            header = pixels.header(instances[0])
        except SeriesRefused:
            return line.process(instances, None, None)
        if not match.choose([self.bundle], header):
            fold = line.begin(())
            for instance in instances:
                fold = line.add(fold, instance)
            return line.finish(
                fold, None, None, Context(reasons=match.none_accepts([self.bundle], header))
            )
        return line.process(instances, self.bundle, self.backend)


@pytest.fixture(scope="module")
def factory() -> Iterator[Factory]:
    files = sorted((FACTORY / "bundles").glob("lung-nodule*.scanside"))
    if not files:
        pytest.skip(f"no factory bundle in {FACTORY / 'bundles'} (make bundles)")
    loaded = trust.check(files[-1].read_bytes())
    backend = open_backend(choose(), dict(loaded.manifest.networks), loaded.networks)
    yield Factory(loaded.bundle, backend)
    backend.close()


def read(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]


_results: dict[str, Result] = {}


@pytest.fixture
def result_of(factory: Factory, ct_series: Callable[[str], Path]) -> Callable[[str], Result]:
    """Name of a series -> its Result, computed once."""

    def get(name: str) -> Result:
        if name not in _results:
            _results[name] = factory.process(read(ct_series(name)))
        return _results[name]

    return get


def sealed(result: Result) -> Report:
    return line.seal(result, Identity(Naming(b"k"), False, 1, None, preliminary=False), Times())


def codes(result: Result) -> set[Code]:
    return {reason.code for reason in (*result.reasons, *result.limitations)}


def told(findings: tuple[Finding, ...]) -> str:
    return "; ".join(
        f"{f.score:.2f} {f.kind} at {tuple(round(v) for v in f.center_lps_mm)}" for f in findings
    )


# What must be found


@pytest.mark.parametrize("name", ["R01-001", "C3N-00247"])
def test_the_cancer_of_a_real_chest_is_found_among_few_others(
    name: str, result_of: Callable[[str], Result], shared_data: Path
) -> None:
    result = result_of(name)
    assert result.status is Status.ANALYSED, result.reasons
    known = json.loads((shared_data / "ct-truth" / "known-lesions.json").read_text())[name]
    cancers = [lesion for lesion in known if lesion.get("cancer")]
    assert cancers
    for lesion in cancers:
        distances = [math.dist(f.center_lps_mm, lesion["center_lps_mm"]) for f in result.findings]
        assert min(distances, default=math.inf) <= LESION_MM, told(result.findings)
    others = [
        f
        for f in result.findings
        if all(math.dist(f.center_lps_mm, k["center_lps_mm"]) > LESION_MM for k in known)
    ]
    assert len(others) <= MOST_OTHERS, told(tuple(others))


def test_slices_of_2_mm_are_analysed_in_full(result_of: Callable[[str], Result]) -> None:
    result = result_of("R01-001")
    assert not codes(result) & {Code.SPACING_LIMITED, Code.THICKNESS_LIMITED, Code.GAP_FILLED}
    assert (result.facts.slices, round(result.facts.spacing_mm[0], 2)) == (152, 2.0)  # type: ignore[index]


def test_slices_of_3_mm_are_limited(result_of: Callable[[str], Result]) -> None:
    result = result_of("C3N-00247")
    assert Code.SPACING_LIMITED in codes(result)
    assert all((f.diameter_mm or 99) >= 8 for f in result.findings), told(result.findings)
    assert all(f.volume_mm3 is None for f in result.findings)


def test_slices_of_5_mm_without_body_part_are_analysed_with_limits(
    result_of: Callable[[str], Result],
) -> None:
    result = result_of("A0001")
    assert result.status is Status.ANALYSED, result.reasons
    assert result.facts.slices == 64
    assert codes(result) >= {Code.SPACING_LIMITED, Code.THICKNESS_LIMITED}


def test_findings_lie_inside_the_patient_and_are_ordered(
    result_of: Callable[[str], Result],
) -> None:
    for name in ("R01-001", "C3N-00247", "A0001"):
        result = result_of(name)
        low, high = result.facts.coverage.z_mm  # type: ignore[misc]
        scores = [f.score for f in result.findings]
        assert scores == sorted(scores, reverse=True)
        for f in result.findings:
            assert low <= f.center_lps_mm[2] <= high
            assert f.score >= f.threshold
            assert f.side in {"left", "right"}
            assert (f.center_lps_mm[0] > 0) == (f.side == "left") or abs(f.center_lps_mm[0]) < 40


def test_a_resend_in_rle_is_the_same_report(
    factory: Factory, result_of: Callable[[str], Result], ct_series: Callable[[str], Path]
) -> None:
    packed = []
    for path in sorted(ct_series("R01-001").rglob("*.dcm")):
        ds = dcmread(path)
        ds.compress(RLELossless, generate_instance_uid=False)
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=True)
        packed.append(out.getvalue())
    again = factory.process(packed[::-1])
    assert sealed(again).same_as(sealed(result_of("R01-001")))


def changed(folder: Path, change: Callable[[Dataset, int], None]) -> list[Dataset]:
    """The images of a series from the feet to the head, each changed."""
    images = [dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    images.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    for index, ds in enumerate(images):
        change(ds, index)
    return images


def packed(images: Iterable[Dataset]) -> list[bytes]:
    files = []
    for ds in images:
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=True)
        files.append(out.getvalue())
    return files


def test_two_acquisitions_with_one_doubled_position_keep_every_finding(
    factory: Factory, result_of: Callable[[str], Result], ct_series: Callable[[str], Path]
) -> None:
    def acquired(ds: Dataset, index: int) -> None:
        ds.AcquisitionNumber = 2 if index < 100 else 3

    images = changed(ct_series("R01-001"), acquired)
    copy = deepcopy(images[100])
    noise = np.random.default_rng(1).integers(-50, 50, copy.pixel_array.shape)
    copy.PixelData = (copy.pixel_array + noise).astype(copy.pixel_array.dtype).tobytes()
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    copy.AcquisitionNumber, copy.InstanceNumber = 2, 900
    result = factory.process(packed([*images, copy]))
    assert result.status is Status.ANALYSED, result.reasons
    assert Code.JOINED_ACQUISITIONS in codes(result)
    assert result.findings == result_of("R01-001").findings


def test_foreign_images_leave_the_report_as_it_was(
    factory: Factory, result_of: Callable[[str], Result], ct_series: Callable[[str], Path]
) -> None:
    images = changed(ct_series("R01-001"), lambda ds, index: None)
    scout, screen = deepcopy(images[0]), deepcopy(images[0])
    scout.ImageOrientationPatient, scout.ImageType = [1, 0, 0, 0, 0, -1], None
    screen.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    for number, ds in enumerate((scout, screen)):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber = number
    result = factory.process(packed([*images, scout, screen]))
    assert Code.SET_ASIDE_IMAGES in codes(result)
    assert sealed(result).same_as(sealed(result_of("R01-001")))


# What must be refused


def test_a_tilted_head_is_refused_for_its_tilt(result_of: Callable[[str], Result]) -> None:
    result = result_of("ge-tilted-head")
    assert (result.status, result.findings) == (Status.NOT_ANALYSED, ())
    assert Code.GANTRY_TILT in codes(result)
    tilt = next(r for r in result.reasons if r.code is Code.GANTRY_TILT)
    assert "degrees" in tilt.text
    assert "without gantry tilt" in tilt.remedy


def test_images_without_uids_are_refused_as_such(result_of: Callable[[str], Result]) -> None:
    result = result_of("siemens-j2k")
    assert (result.status, codes(result)) == (Status.NOT_ANALYSED, {Code.MISSING_UID})
    assert "19 more" in result.reasons[0].text
    assert result.facts.slices == 20


def test_with_uids_filled_in_they_are_refused_for_cover_or_spacing(
    factory: Factory, ct_series: Callable[[str], Path], tmp_path: Path
) -> None:
    study, one = generate_uid(), generate_uid()
    for i, path in enumerate(sorted(ct_series("siemens-j2k").iterdir())):
        ds = dcmread(path)
        ds.SOPClassUID = CTImageStorage  # empty as well
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, one
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(tmp_path / f"{i}.dcm", enforce_file_format=True)
    result = factory.process(read(tmp_path))
    assert (result.status, result.findings) == (Status.NOT_ANALYSED, ())
    assert codes(result) & {
        Code.COVER_TOO_SHORT, Code.SPACING_TOO_WIDE, Code.THICKNESS_TOO_WIDE, Code.GAP_TOO_WIDE
    }, result.reasons  # fmt: skip
    assert not codes(result) & {Code.UNDECODABLE_PIXELS, Code.MISSING_UID}


# The phantom


def test_the_nodules_of_the_phantom_are_found(
    factory: Factory, capsys: pytest.CaptureFixture[Any]
) -> None:
    phantom = phantoms.chest()
    files = []
    for ds in series(phantom):
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=True)
        files.append(out.getvalue())
    result = factory.process(files)
    assert result.status is Status.ANALYSED, result.reasons
    wanted = [n for n in phantom.nodules if 6 <= n.diameter_mm <= 20]
    assert len(wanted) >= 10
    missed = [
        n
        for n in wanted
        if min((math.dist(f.center_lps_mm, n.center_lps_mm) for f in result.findings), default=1e9)
        > max(n.diameter_mm / 2, 5.0)
    ]
    with capsys.disabled():
        for n in missed:
            print(f"\n  missed in the phantom: {n}", end="")  # noqa: T201
    assert len(wanted) - len(missed) >= HIT_SHARE * len(wanted), told(result.findings)
