"""Which bundles a series is for, whichever of its images comes first."""

from __future__ import annotations

from itertools import permutations
from typing import Any, cast

import pytest

from appliance import line
from appliance.backend.protocol import Backend
from appliance.bundle.trust import Bundle
from appliance.report import SeriesKey, Status
from appliance.runtime.bundles import OpenBundle
from appliance.work.beginning import begin
from appliance.work.followed import Followed
from rigs.chests import Dicom


@pytest.fixture
def opened(tiny: Bundle, tiny_backend: Backend) -> OpenBundle:
    return OpenBundle(tiny, tiny_backend)


def arrive(followed: Followed, files: list[bytes]) -> list[bool]:
    """The instances in this order -> of each whether it was the first."""
    firsts = []
    for index, data in enumerate(files):
        if not followed.chosen:
            firsts.append(begin(followed, data, iter(files[:index])))
        followed.add(f"1.{index}", data, at=float(index), tick=float(index))
    return firsts


def test_a_localizer_that_comes_first_chooses_nothing(
    opened: OpenBundle, tiny: Bundle, tiny_backend: Backend, dicom: Dicom
) -> None:
    slices = dicom.chest()
    scout = dicom.say(dicom.chest()[0], SOPInstanceUID="1.2.99", InstanceNumber=0,
                      ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])  # fmt: skip
    files = [dicom.bytes(scout), b"no DICOM at all", *dicom.all(slices)]
    wanted = line.process(files, tiny, tiny_backend)
    assert wanted.status is Status.ANALYSED
    for order in permutations(files[:3]):
        followed = Followed(SeriesKey("1", "2"), (opened,))
        firsts = arrive(followed, [*order, *files[3:]])
        assert firsts[0]
        assert not any(firsts[1:])
        assert followed.header is not None
        assert followed.header.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
        fold = cast(line.Fold, followed.fold)
        result = line.finish(fold, tiny, tiny_backend)
        assert (result.findings, result.limitations) == (wanted.findings, wanted.limitations)
        assert followed.belonging == len(slices)


def test_what_no_bundle_accepts_stays_without_one(opened: OpenBundle, dicom: Dicom) -> None:
    followed = Followed(SeriesKey("1", "2"), (opened,))
    files = dicom.all(dicom.chest(Modality="MR")[:3])
    assert arrive(followed, files) == [True, False, False]
    assert not followed.chosen
    assert [reason.code.value for reason in followed.refused] == ["modality", "no_bundle"]
    fold: Any = followed.fold
    assert len(fold.share(None).unread) == 3
