"""The bundles that compare: one network each, and demons where no bundle lays exams."""

from __future__ import annotations

import pytest

from appliance.errors import BundleRefused
from appliance.runtime.bundles import OpenBundles
from appliance.runtime.comparing import CompareBundles
from rigs.device import Device


def active(device: Device) -> str:
    return next(entry.digest for entry in OpenBundles(device.settings).shelf.active())


def test_without_a_bundle_that_compares_demons_lay_exams_and_the_reports_own_bundle_measures(
    ready_site: Device,
) -> None:
    bundles, digest = CompareBundles(ready_site.settings), active(ready_site)
    bundles.warm()
    found = bundles.of(digest)
    assert found.nodules.ref.digest == digest
    assert (found.registers, found.displace, found.repeated) == (None, None, ())
    assert bundles.of(digest).nodules is found.nodules, "it is opened once"
    bundles.close()


def test_an_exam_of_a_bundle_that_is_gone_is_measured_by_the_active_one(
    ready_site: Device,
) -> None:
    bundles = CompareBundles(ready_site.settings)
    assert bundles.of("f" * 64).nodules.ref.digest == active(ready_site)
    bundles.close()


def test_where_nothing_measures_that_is_refused(site: Device) -> None:
    bundles = CompareBundles(site.settings)
    with pytest.raises(BundleRefused, match="not on the shelf"):
        bundles.of("f" * 64)
    assert not bundles.follows("f" * 64)


def test_a_bundle_is_asked_what_it_finds(ready_site: Device) -> None:
    assert CompareBundles(ready_site.settings).follows(active(ready_site))
