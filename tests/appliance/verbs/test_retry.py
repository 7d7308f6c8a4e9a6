"""`scanside retry`."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ScansideError
from appliance.report import SeriesKey
from appliance.settings import Settings
from appliance.store.bell import hearing, take
from appliance.store.journal import Journal
from appliance.verbs.retry import retry

HERE, GONE, FINE = (SeriesKey(f"1.2.{n}", f"1.2.{n}.1") for n in range(1, 4))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two series that failed, the images of one of which are still here, and one that is fine."""
    (tmp_path / "run").mkdir()
    folder = tmp_path / "spool" / HERE.study / HERE.series
    folder.mkdir(parents=True)
    (folder / "1.2.1.1.1.dcm").write_bytes(b"an image")
    with Journal.open(tmp_path) as journal:
        for key in (HERE, GONE):
            journal.attempts.failed(key, instances=1, made_of="a 1")
        journal.series.set(FINE, "analysed", instances=1)
    return Settings(state=tmp_path)


def states(settings: Settings) -> dict[str, str]:
    with Journal.open(settings.state) as journal:
        return {row.series_uid: row.state for row in journal.series.all()}


@pytest.mark.parametrize("named", [HERE.series, None])
def test_what_failed_is_open_again_work_is_woken_and_it_is_audited(
    settings: Settings, named: str | None
) -> None:
    with hearing(settings.state, "work") as rung:
        assert retry(settings, named) == 1
        assert [HERE.series in ring.decode() for ring in take(rung)] == [True]
    expected = {HERE.series: "open", GONE.series: "failed", FINE.series: "analysed"}
    assert states(settings) == expected
    with Journal.open(settings.state) as journal:
        assert journal.audit.rows(1)[0].action == "series_retry"


@pytest.mark.parametrize(
    ("named", "code"),
    [(FINE.series, "not_failed"), ("1.2.77", "not_failed"), (GONE.series, "images_deleted")],
)
def test_what_cannot_be_tried_again_says_why(settings: Settings, named: str, code: str) -> None:
    before = states(settings)
    with pytest.raises(ScansideError) as refused:
        retry(settings, named)
    assert refused.value.code == code
    assert refused.value.remedy
    assert states(settings) == before


def test_on_a_new_device_nothing_has_failed_and_no_journal_is_made(tmp_path: Path) -> None:
    assert retry(Settings(state=tmp_path)) == 0
    assert list(tmp_path.iterdir()) == []
