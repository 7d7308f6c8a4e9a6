"""The demo of following: what it waits for, and what it writes."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from appliance.__main__ import app
from appliance.comparison import Comparison
from appliance.demo import follow_up as demo
from appliance.errors import BrokerAway
from appliance.phantom.chest import Scan
from appliance.phantom.follow_up import follow_up
from appliance.report import Report
from rigs.followed import anybody, comparison, matched, report

PRIOR, CURRENT = report("1.1", (0.0, 0.0, 0.0)), report("1.2", (0.0, 0.0, 5.0))
BOTH = comparison(PRIOR, CURRENT, matched(1, 1))


def line(**body: Any) -> bytes:
    """As mosquitto_sub prints it."""
    study = body.get("study", CURRENT.study.pseudonym)
    return f"scanside/v1/demo/box-1/study/{study}/event {json.dumps(body)}\n".encode()


def said(one: Comparison) -> bytes:
    return line(type="comparison", comparison=json.loads(one.model_dump_json(by_alias=True)))


def of(one: Comparison, **changes: Any) -> Comparison:
    assert one.prior is not None
    if "prior" in changes:
        changes["prior"] = one.prior.model_copy(update=changes["prior"])
    return one.model_copy(update=changes)


def awaited(*lines: bytes, current: Report = CURRENT) -> tuple[Comparison, ...]:
    return demo.await_comparisons(demo.Lines(io.BytesIO(b"".join(lines))), current)


def test_one_exam_that_is_the_newest_and_the_oldest_is_all_there_is() -> None:
    other = of(BOTH, report_id=anybody())
    assert awaited(line(type="health"), said(other), said(BOTH)) == (BOTH,)


def test_it_waits_for_the_newest_and_for_the_oldest() -> None:
    newest = of(BOTH, prior={"which": ("newest",)})
    oldest = of(BOTH, prior={"which": ("oldest",), "report_id": anybody()})
    assert awaited(said(newest), said(oldest)) == (newest, oldest)
    with pytest.raises(BrokerAway, match="no comparison came"):
        awaited(said(newest))


def test_where_no_comparison_comes_it_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo, "WITHIN_S", 0.2)
    ours, theirs = os.pipe()
    with open(ours, "rb") as stream, open(theirs, "wb", buffering=0) as subscriber:
        subscriber.write(line(type="health"))
        with pytest.raises(BrokerAway, match="no comparison came"):
            demo.await_comparisons(demo.Lines(stream), CURRENT)
        subscriber.close()


def test_of_a_study_that_is_known_nothing_more_is_heard_and_all_is_kept() -> None:
    known, fresh = (line(type="study", study=study) for study in ("a", "b"))
    lines = demo.Lines(io.BytesIO(known + fresh))
    lines.shown.add("a")
    assert list(lines) == [fresh]
    assert len(lines.all) == 2


def test_the_picture_has_each_nodule_then_and_now() -> None:
    scan = Scan((6.0, 3.0, 3.0))
    both = follow_up(1, prior=scan, current=scan)
    page = demo.then_and_now(both)
    rows, columns, _ = page.shape
    assert rows > 13 * 260
    left, right = page[:, : columns // 2], page[:, columns // 2 :]
    assert left.shape == right.shape
    assert (left != right).mean() > 0.05


@pytest.mark.parametrize("other", [["--radiograph"], ["--pacs"], ["--series", "."]])
def test_it_sends_phantoms_of_its_own_and_nothing_else(other: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--follow-up", "--out", str(tmp_path), *other])
    assert done.exit_code == 2
    assert "phantoms of its own" in " ".join(done.output.replace("│", " ").split())
