"""The UIDs of composed objects: what changes the bytes changes the UID, and nobody can guess it."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.naming import Naming
from appliance.report import BackendRef, BundleRef, Report, SeriesKey, Stage
from appliance.results.identity import Identified, equipment, identified, local, packed
from rigs.reports import DIGEST, NAMING, make_report

__all__ = ["make_report"]
KEY = SeriesKey("1.2", "1.2.3")
CLASS = "1.2.840.10008.5.1.4.1.1.88.22"


def uid(report: Report, **more: Any) -> Identified:
    given = {"kind": "sr", "sop_class_uid": CLASS, "naming": NAMING, "key": KEY, **more}
    return identified(report, **given)


def test_whatever_changes_the_bytes_changes_the_uid(
    make_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    final = make_report()
    same = [uid(final), uid(make_report())]
    assert same[0] == same[1], "a replay finds it again"
    others = [
        uid(make_report(stage=Stage.PRELIMINARY)),
        uid(final.model_copy(update={"edition": 2})),
        uid(make_report(images="c" * 64)),
        uid(final, kind="seg"),
        uid(final, sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34"),
        uid(final, naming=Naming(bytes(32))),
        uid(final, withdrawn_by="another"),
        uid(final, withdrawn_by="a third"),
    ]
    monkeypatch.setattr("appliance.results.identity.COMPOSER", "next")
    others.append(uid(final))
    found = {one.sop_instance_uid for one in (same[0], *others)}
    assert len(found) == len(others) + 1
    for one in found:
        assert one.startswith("2.25.")
        assert len(one) <= 64
        assert pydicom.uid.UID(one).is_valid


def test_all_of_one_kind_about_one_series_and_bundle_stand_in_one_series(
    make_report: Callable[..., Report],
) -> None:
    first = make_report()
    bundle = BundleRef(name="lung-nodule", version="9.0.0", digest="f" * 64)
    newer = first.model_copy(update={"bundle": bundle, "revision": 2})
    assert uid(first).series_uid == uid(newer).series_uid
    assert uid(first).instance_number < uid(newer).instance_number
    others = {
        uid(first, kind="seg").series_uid,
        uid(first, key=SeriesKey("1.3", "1.2.3")).series_uid,
        uid(
            first.model_copy(update={"bundle": bundle.model_copy(update={"name": "x"})})
        ).series_uid,
    }
    assert len(others | {uid(first).series_uid}) == 4


def test_the_number_of_an_instance_rises_with_what_is_said_later(
    make_report: Callable[..., Report],
) -> None:
    final = make_report()
    order = [
        uid(make_report(stage=Stage.PRELIMINARY)),
        uid(final),
        uid(final, withdrawn_by="another"),
        uid(final.model_copy(update={"edition": 2})),
        uid(make_report(revision=2)),
    ]
    numbers = [one.instance_number for one in order]
    assert numbers == sorted(set(numbers))


def test_the_equipment_says_version_bundle_digest_and_backend(
    make_report: Callable[..., Report],
) -> None:
    backend = BackendRef(name="trt", precision="fp16", engine_digest="e" * 64)
    report = make_report().model_copy(update={"appliance": "0.2.0", "backend": backend})
    made = equipment(report)
    assert made.SoftwareVersions == ["scanside 0.2.0", "lung-nodule 1.0.0"]
    for part in (DIGEST, "trt fp16", "e" * 64, "lung-nodule 1.0.0"):
        assert part in made.ContributionDescription


@pytest.mark.parametrize(("offset", "hour"), [("+0800", 20), ("-0330", 8), ("", 12), ("odd", 12)])
def test_times_stand_in_the_zone_of_the_image(offset: str, hour: int) -> None:
    template = Dataset()
    template.add_new("TimezoneOffsetFromUTC", "SH", offset)
    at = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
    assert local(at, template) == at
    assert local(at, template).hour == hour


def test_no_clock_leaves_a_trace(make_report: Callable[..., Report]) -> None:
    report, template = make_report(), Dataset()
    template.Manufacturer, template.StationName = "Scanner works", "CT 1"
    at = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)

    def made(clock: str) -> bytes:
        given = Dataset()
        given.InstanceCreationDate = given.ContentDate = clock
        return packed(given, uid(report), report, template, at)

    assert made("20200101") == made("20300101")
    again = pydicom.dcmread(io.BytesIO(made("20200101")))
    assert (again.ContentDate, again.ContentTime) == ("20260105", "120000.000000")
    scanner, own = again.ContributingEquipmentSequence
    assert (scanner.Manufacturer, scanner.StationName) == ("Scanner works", "CT 1")
    assert own.Manufacturer == "Scanside"
