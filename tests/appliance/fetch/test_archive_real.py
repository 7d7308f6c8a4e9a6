"""Orthanc and dcmqrscp are asked for earlier exams, and store them to our own listener."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.store.events import PriorsAsked
from appliance.store.journal import Journal
from rigs import orthanc, queried
from rigs.orthanc import Orthanc
from rigs.peers import until
from rigs.queried import TODAY, Scan, dcmqrscp, settings_of
from rigs.receiver import Receiver

EXAMS = (
    Scan(TODAY, "20260301", 4),
    Scan("2.25.1", "20190101", 3),  # the oldest
    Scan("2.25.2", "20200101", 3),
    Scan("2.25.3", "20240101", 3),  # the second newest
    Scan("2.25.4", "20250101", 2),
    Scan("2.25.4", "20250101", 5, number=2),  # the newest, in its longer series
    Scan("2.25.4", "20250101", 9, number=3, modality="SR"),
    Scan("2.25.5", "20230101", 6, modality="MR"),
    Scan("2.25.6", "20260401", 3),  # later than today's
    Scan("2.25.7", "20250601", 3, patient_id="Z-47"),
    Scan("2.25.8", "20250601", 3, patient_id="z-4711"),
)
WANTED = {"2.25.1.1": 3, "2.25.3.1": 3, "2.25.4.2": 5}


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Our listener, to which archives may store."""
    state = tmp_path / "state"
    state.mkdir()
    config = tmp_path / "scanside.toml"
    allow = "\n".join(
        f'[[dicom.allow]]\nae_title = "{title}"\nhost = "127.0.0.1"\nrole = "prior"'
        for title in (orthanc.AE_TITLE, "PACS")
    )
    config.write_text(
        f'state = "{state}"\n[dicom]\nbind = "127.0.0.1"\nport = 0\n{allow}\n'
        "[retain]\nreserve_mb = 0\n"
    )
    made = Receiver(config, state, None, tmp_path / "receive.log")  # type: ignore[arg-type]
    made.start()
    yield made
    made.stop()


def came(receiver: Receiver) -> dict[str, int]:
    found: dict[str, int] = {}
    for uid in receiver.stored():
        series = uid.rpartition(".")[0]
        found[series] = found.get(series, 0) + 1
    return found


def test_orthanc_stores_the_two_newest_and_the_oldest_to_our_listener(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with Orthanc(tmp_path, senders={"SCANSIDE": receiver.port}) as pacs:
        pacs.store(data for scan in EXAMS for data in scan.files())
        settings = settings_of(receiver.state, pacs.dicom_port, title=orthanc.AE_TITLE)
        with queried.fetch(settings) as stage:
            stage.ask()
            said = stage.outcome()
            assert (said.code, said.found, said.moved, said.subject) == ("moved", 3, 3, "pacs")
            until(stage.answered)
            assert came(receiver) == WANTED
            noted = [one.event.model_dump_json() for one in stage.journal.events.of(PriorsAsked, 9)]
            assert len(noted) == 1
            assert queried.WHO not in noted[0]
    assert queried.WHO not in caplog.text


def test_dcmqrscp_which_counts_no_images_stores_the_same(
    tmp_path: Path, receiver: Receiver
) -> None:
    with (
        dcmqrscp(tmp_path, EXAMS, receiver.port) as port,
        queried.fetch(settings_of(receiver.state, port)) as stage,
    ):
        stage.ask()
        said = stage.outcome()
        assert (said.code, said.found, said.moved, said.text) == ("moved", 3, 3, "")
    assert came(receiver) == WANTED


def test_what_came_already_is_not_moved_again(tmp_path: Path, receiver: Receiver) -> None:
    with Orthanc(tmp_path, senders={"SCANSIDE": receiver.port}) as pacs:
        pacs.store(data for scan in EXAMS for data in scan.files())
        settings = settings_of(receiver.state, pacs.dicom_port, title=orthanc.AE_TITLE)
        with queried.fetch(settings) as stage, Journal.open(receiver.state) as journal:
            stage.ask()
            stage.outcome()
            receiver.until_no_association_is_open()
            before, associations = journal.series.all(), receiver.outcomes(1)
            stage.ask()
            assert stage.outcome(2).moved == 3
            receiver.until_no_association_is_open()
            assert journal.series.all() == before
            assert receiver.outcomes(1) == associations
