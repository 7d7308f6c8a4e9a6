"""Which bundles analyse a series, and which series of a study stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance import line
from appliance.backend.protocol import Backend
from appliance.bundle.trust import Bundle
from appliance.lines import choose
from appliance.lines.kind import Outline
from appliance.reasons import Code
from appliance.records import Header

CT = Header("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1", "1.2", "1.2.3", modality="CT")


def test_the_bundles_that_accept_are_chosen_in_their_order(tiny: Bundle, second: Bundle) -> None:
    chosen = choose.bundles_for(replace(CT, body_part="CHEST"), [second, tiny])
    assert (chosen.bundles, chosen.reasons) == ((second, tiny), ())


def test_where_none_accepts_it_is_said_why(tiny: Bundle) -> None:
    chosen = choose.bundles_for(replace(CT, modality="MR"), [tiny])
    assert chosen.bundles == ()
    assert [reason.code for reason in chosen.reasons] == [Code.MODALITY, Code.NO_BUNDLE]


def test_what_is_set_aside_by_name_or_not_readable_is_for_no_bundle(tiny: Bundle) -> None:
    """Its own reasons say why, so nothing is said of bundles."""
    scout = replace(CT, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert choose.bundles_for(scout, [tiny]) == choose.Chosen()
    assert choose.bundles_for(None, [tiny]) == choose.Chosen()


@pytest.fixture
def thin_and_thick(
    tiny: Bundle, tiny_backend: Backend, dicom: Any
) -> tuple[choose.SeriesSummary, choose.SeriesSummary]:
    found = []
    for number, step in enumerate((4.5, 5.0)):
        uid = f"1.2.3.{number}"
        fold = line.begin([tiny])
        for file in dicom.all(dicom.chest(step_mm=step, study_uid="1.2.3", series_uid=uid)):
            fold = line.add(fold, file)
        one = choose.summary(fold.header, fold.shares[0].outline)
        assert one is not None
        found.append(one)
    return found[0], found[1]


def test_the_thinner_series_of_an_acquisition_stands(
    thin_and_thick: tuple[choose.SeriesSummary, choose.SeriesSummary], tiny: Bundle
) -> None:
    thin, thick = thin_and_thick
    for order in ([thin, thick], [thick, thin]):
        assert choose.beaten(order, tiny.manifest.accepts) == {thick: thin}


def test_series_of_two_acquisitions_both_stand(
    thin_and_thick: tuple[choose.SeriesSummary, choose.SeriesSummary], tiny: Bundle
) -> None:
    thin, thick = thin_and_thick
    later = replace(thick, acquisition_number=7)
    assert choose.beaten([thin, later], tiny.manifest.accepts) == {}


def test_what_could_not_be_put_in_order_has_no_rivals() -> None:
    assert choose.summary(CT, Outline()) is None
    assert choose.summary(None, Outline()) is None
