"""What is usual: limits with a margin around the series that fit them, and whom they name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from appliance.reasons import Code
from appliance.records import Facts, Result
from appliance.report import Coverage, Finding, Reason, Scored, Scores, Status
from appliance.watching.quality import VolumeQuality
from training.errors import DataError
from training.recipes.lung_nodule.usual import (
    Seen,
    called,
    called_by_others,
    limits,
    output,
    table,
)

FINDING = Finding(
    id=1,
    tracking_uid="",
    kind="nodule",
    score=0.9,
    threshold=0.5,
    center_lps_mm=(0, 0, 0),
    box_lps_mm=(0, 0, 0, 1, 1, 1),
    key_image=0,
)


def seen(name: str, findings: int = 2, *, ill: bool = False, **figures: Any) -> Seen:
    """A series with these figures, and so many findings among twenty candidates."""
    scores = [Scored(score=0.9)] * findings + [Scored(score=0.1)] * (20 - findings)
    result = Result(
        status=Status.ANALYSED,
        facts=Facts("", "", "CT", 1, None, None, None, Coverage()),
        input_digest="0" * 64,
        limitations=(Reason(code=Code.DIFFUSE_DISEASE, text="ill"),) if ill else (),
        findings=tuple(FINDING.model_copy(update={"id": n + 1}) for n in range(findings)),
        scores=Scores(threshold=0.5, candidates=tuple(scores)),
        quality=(VolumeQuality(**figures),),
    )
    return Seen(name, result)


EIGHT = [
    seen(f"ct-{n}", n % 4, noise_hu=10.0 + n, tissue_hu=40.0 + n, lung_share=0.2) for n in range(8)
]


def test_a_limit_lies_beyond_the_series_by_the_margin_of_their_range() -> None:
    found = {one.figure: (one.low, one.high) for one in limits([s.figures for s in EIGHT], 0.5)}
    assert found == {
        "noise_hu": (6.5, 20.5),
        "tissue_hu": (36.5, 50.5),
        "lung_share": (0.2, 0.2),
    }


def test_a_figure_of_few_series_has_no_limit_and_none_lies_below_0_where_it_cannot() -> None:
    few = [VolumeQuality(noise_hu=n, air_hu=-900.0 - n) for n in (1, 9, 17, 25)]
    few.append(VolumeQuality(step_hu=3.0))
    found = {one.figure: (one.low, one.high) for one in limits(few, 0.5)}
    assert found == {"noise_hu": (None, 37.0), "air_hu": (-937.0, -889.0)}


def test_the_series_that_fit_are_usual_and_another_body_or_many_findings_are_named() -> None:
    usual_input, usual_output = limits([s.figures for s in EIGHT], 0.5), output(EIGHT)
    assert (usual_output.most_findings, usual_output.most_share) == (5, 0.225)
    assert called(EIGHT, usual_input, usual_output) == {}
    head = seen("head", noise_hu=12.0, tissue_hu=33.0, lung_share=0.0)
    many = seen("many", 6, noise_hu=12.0)
    ill = seen("ill", 6, ill=True, noise_hu=12.0)
    odd = called([head, many, ill], usual_input, usual_output)
    assert {name: [r.code for r in said] for name, said in odd.items()} == {
        "head": [Code.UNUSUAL_INPUT],
        "many": [Code.UNUSUAL_OUTPUT],
    }


def test_a_series_is_held_against_the_limits_of_the_others_alone() -> None:
    assert called_by_others(EIGHT, 0.5) == {}
    far = seen("far", noise_hu=40.0, tissue_hu=42.0, lung_share=0.2)
    many = seen("many", 9, noise_hu=12.0, tissue_hu=42.0, lung_share=0.2)
    own = limits([s.figures for s in (*EIGHT, far)], 0.5)
    assert called([far], own, output([*EIGHT, far])) == {}, "its own limits call it usual"
    odd = called_by_others([*EIGHT, far, many], 0.5)
    assert {name: [r.code for r in said] for name, said in odd.items()} == {
        "far": [Code.UNUSUAL_INPUT],
        "many": [Code.UNUSUAL_OUTPUT],
    }


def test_diseased_series_do_not_say_how_much_is_usual() -> None:
    assert output([*EIGHT, seen("ill", 15, ill=True)]).most_findings == 5
    with pytest.raises(DataError, match="every series"):
        output([seen("ill", 15, ill=True)])


def test_a_series_that_was_not_measured_is_one_line() -> None:
    bare = seen("bare")
    with pytest.raises(DataError, match="bare: nothing was measured of it"):
        table([Seen("bare", replace(bare.result, quality=()))])
    assert "-" in table([bare]).splitlines()[1]
