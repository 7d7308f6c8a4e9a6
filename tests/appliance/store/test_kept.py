"""What is kept beside a report lies in its own folder, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.records import Facts, Result
from appliance.report import Coverage, Report, Status
from appliance.store.kept import inputs, keep


@pytest.fixture
def result() -> Result:
    facts = Facts("1.2", "1.2.3", "CT", 2, None, None, None, Coverage())
    return Result(status=Status.NOT_ANALYSED, facts=facts, input_digest="a" * 64)


def test_the_inputs_are_found_again(
    tmp_path: Path, result: Result, make_report: Callable[[], Report]
) -> None:
    report = make_report()
    keep(tmp_path, report, result, ["1.3", "1.2"])
    assert inputs(tmp_path, str(report.report_id)) == ["1.2", "1.3"]
    assert inputs(tmp_path, "another") is None


@pytest.mark.parametrize("whole", [True, False])
def test_no_symbolic_link_is_followed(
    tmp_path: Path, result: Result, make_report: Callable[[], Report], whole: bool
) -> None:
    state, report = tmp_path / "state", make_report()
    outside = tmp_path / "outside"
    folder = keep(state, report, result, ["1.2"])
    linked = folder.parent if whole else folder
    linked.rename(outside)
    linked.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    assert inputs(state, str(report.report_id)) is None
    with pytest.raises(StateUnusable, match="symbolic link"):
        keep(state, report, result, ["1.2", "1.3"])
    assert sorted(outside.rglob("*")) == before
