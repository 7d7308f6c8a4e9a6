"""Which image a finding is on, as the viewer counts: from the head, from 1."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.report import Report, SeriesRef
from appliance.web.views.place import image_of
from rigs.ward import a_finding


@pytest.mark.parametrize(("key_image", "shown"), [(0, 218), (102, 116), (217, 1)])
def test_a_volume_is_counted_from_the_head(
    make_report: Callable[..., Report], key_image: int, shown: int
) -> None:
    of = make_report().model_copy(update={"series": SeriesRef(slices=218)})
    assert image_of(of, a_finding(1, key_image=key_image)) == shown


def test_a_radiograph_stays_in_the_order_of_its_report(make_report: Callable[..., Report]) -> None:
    of = make_report().model_copy(update={"series": SeriesRef(slices=2)})
    found = a_finding(1, key_image=1, kind="pneumonia", center_lps_mm=None, box_lps_mm=None)
    assert image_of(of, found) == 2
