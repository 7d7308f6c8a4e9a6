"""The ledger of times, as a page and a file show it."""

from __future__ import annotations

import csv
import io

import pytest

from appliance.store.rows import Timing
from appliance.web.views import ledger
from appliance.web.views.ledger import Spread


def timing(at: float, final: float, *, scanner: str = "CT1", quiet: float | None = 2.0) -> Timing:
    return Timing(at, scanner, "analysed", 1.0, 1.5, quiet, final, None)


def test_quantiles_are_values_that_were_measured() -> None:
    assert ledger.spread([float(n) for n in range(1, 101)]) == Spread(50.0, 95.0, 100)
    assert ledger.spread([3.0, None, 1.0, 2.0]) == Spread(2.0, 3.0, 3)
    assert ledger.spread([7.0]) == Spread(7.0, 7.0, 1)
    assert ledger.spread([None]) is None


def test_each_scanner_has_its_own_row_and_the_waiting_is_apart() -> None:
    found = ledger.by_scanner(
        [timing(1, 5.0), timing(2, 7.0, quiet=None), timing(3, 9.0, scanner="A")]
    )
    assert [one.scanner for one in found] == ["A", "CT1"]
    ct1 = found[1]
    assert ct1.final == Spread(5.0, 7.0, 2)
    assert ct1.own == Spread(3.0, 3.0, 1)  # of the one whose waiting is known
    assert ct1.quiet == Spread(2.0, 2.0, 1)


def test_the_file_has_every_report_and_leaves_empty_what_is_unknown() -> None:
    text = ledger.to_csv([timing(1_714_554_000.0, 5.25), timing(1_714_467_600.0, 4.0, quiet=None)])
    header, first, second = list(csv.reader(io.StringIO(text)))
    assert tuple(header) == ledger.HEADER
    assert first[:4] == ["2024-04-30T09:00:00+00:00", "CT1", "analysed", "1.000"]
    assert first[5:] == ["", "4.000", ""]
    assert second[5:] == ["2.000", "5.250", ""]


@pytest.mark.parametrize("title", ['=HYPERLINK("x")', "+1", "-1", "@A1", " =1+1", "\t=1"])
def test_an_ae_title_never_becomes_a_formula_of_a_spreadsheet(title: str) -> None:
    text = ledger.to_csv([timing(0.0, 5.0, scanner=title)])
    assert list(csv.reader(io.StringIO(text)))[1][1] == f"'{title}"
