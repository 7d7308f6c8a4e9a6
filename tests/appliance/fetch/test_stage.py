"""What archives do wrong: each is borne, nothing of a patient is said, and others are asked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from appliance.demo.child import child
from appliance.dicom.retrieve import NO_DESTINATION
from appliance.store import fetching
from appliance.store.events import PriorsAsked
from appliance.store.heartbeat import TroubleCode, read
from rigs import queried
from rigs.peers import HANG_S, free_port, until
from rigs.queried import TODAY, WHO, Odd, Scan, serving, settings_of


def answering(*scans: Scan, **also: str) -> Callable[[Dataset], Iterable[Dataset]]:
    """Every level as it should be, whatever the keys are; also: what each answer says besides."""

    def answers(keys: Dataset) -> Iterable[Dataset]:
        for scan in scans:
            one = Dataset()
            one.QueryRetrieveLevel = keys.QueryRetrieveLevel
            one.PatientID, one.StudyInstanceUID = scan.patient_id, scan.study
            if scan.issuer:
                one.IssuerOfPatientID = scan.issuer
            if keys.QueryRetrieveLevel == "STUDY":
                one.StudyDate, one.ModalitiesInStudy = scan.date, scan.modality
            elif scan.study != keys.StudyInstanceUID:
                continue
            else:
                one.SeriesInstanceUID, one.Modality = scan.series, scan.modality
                one.NumberOfSeriesRelatedInstances = scan.images
            for keyword, value in also.items():
                setattr(one, keyword, value)
            yield one

    return answers


def moved(archive: Odd) -> list[str]:
    return [str(one.SeriesInstanceUID) for one in archive.moved]


def test_what_names_another_patient_or_another_issuer_is_dropped(tmp_path: Path) -> None:
    archive = Odd(
        answers=answering(
            Scan("2.25.1", "20200101", patient_id="Z-4712"),
            Scan("2.25.2", "20200102", patient_id=WHO.lower()),
            Scan("2.25.3", "20200103", issuer="elsewhere"),
            Scan("2.25.4", "20200104", issuer="here"),
            Scan("2.25.5", "20200105"),
        )
    )
    with serving(archive), queried.fetch(settings_of(tmp_path, archive.port)) as stage:
        stage.ask(issuer="here")
        assert stage.outcome().found == 2
    assert moved(archive) == ["2.25.5.1", "2.25.4.1"]
    assert archive.to == ["SCANSIDE", "SCANSIDE"]


def test_the_id_is_asked_for_exactly_as_it_is_and_in_utf_8_where_it_is_no_ascii(
    tmp_path: Path,
) -> None:
    odd = "Ä 7"
    scan = Scan("2.25.1", "20200101", patient_id=odd)
    archive = Odd(answers=answering(scan, SpecificCharacterSet="ISO_IR 100"))
    with serving(archive), queried.fetch(settings_of(tmp_path, archive.port)) as stage:
        stage.ask(odd)
        assert stage.outcome().moved == 1
    assert archive.asked[0].SpecificCharacterSet == "ISO_IR 192"
    assert archive.asked[0].PatientID == odd


@pytest.mark.parametrize("pattern", ["Z*", "Z?47", "Z\\47"])
def test_an_id_that_is_a_pattern_to_archives_is_asked_of_nobody(
    tmp_path: Path, pattern: str
) -> None:
    archive = Odd(answers=answering(Scan("2.25.1", "20200101", patient_id=pattern)))
    with serving(archive), queried.fetch(settings_of(tmp_path, archive.port)) as stage:
        stage.ask(pattern)
        stage.ask()
        assert stage.outcome().code == "none"
        until(stage.answered)
    assert {str(one.PatientID) for one in archive.asked} == {WHO}


def test_a_series_of_three_thousand_images_is_left_out_and_a_shorter_one_stands_in(
    tmp_path: Path,
) -> None:
    archive = Odd(
        answers=answering(
            Scan("2.25.1", "20200101", 3000),
            Scan("2.25.1", "20200101", 1500, number=2),
            Scan("2.25.2", "20210101", 3000),
        )
    )
    with serving(archive), queried.fetch(settings_of(tmp_path, archive.port)) as stage:
        stage.ask()
        assert stage.outcome().found == 1
    assert moved(archive) == ["2.25.1.2"]


def test_where_the_archive_has_no_exam_that_is_said_and_nothing_is_asked_again(
    tmp_path: Path,
) -> None:
    archive = Odd(answers=answering(Scan(TODAY, "20260101")))
    with serving(archive), queried.fetch(settings_of(tmp_path, archive.port)) as stage:
        stage.ask()
        assert stage.outcome().code == "none"
        until(stage.answered)
    assert len(archive.asked) == 1


def test_an_archive_that_does_not_know_our_listener_is_tried_five_times_and_then_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Odd(answers=answering(Scan("2.25.1", "20200101")), moves=lambda _: NO_DESTINATION)
    with serving(archive):
        settings = settings_of(tmp_path, archive.port, move_to="ELSEWHERE")
        with queried.fetch(settings) as stage:
            stage.ask()
            until(stage.answered)
            said = stage.outcome(2)
    assert archive.to == ["ELSEWHERE"] * 5
    assert (said.code, said.found, said.moved) == ("failed", 1, 0)
    assert said.text == "it does not know the AE title ELSEWHERE, to which it is to store"
    assert WHO not in caplog.text


@pytest.mark.parametrize("status", [0xA900, 0xC001])
def test_a_refused_question_is_said_with_its_status(tmp_path: Path, status: int) -> None:
    archive = Odd(find_status=status)
    with serving(archive), queried.fetch(settings_of(tmp_path, archive.port)) as stage:
        stage.ask()
        assert stage.outcome().text == f"C-FIND of level study ends with 0x{status:04X}"
        until(stage.answered)


def test_an_archive_that_answers_without_end_is_cut_off(tmp_path: Path) -> None:
    scans = [Scan(f"2.25.{n}", "20200101", patient_id="other") for n in range(600)]
    archive = Odd(answers=answering(*scans))
    with serving(archive), queried.fetch(settings_of(tmp_path, archive.port)) as stage:
        stage.ask()
        assert "more than 500 answers" in stage.outcome().text
    assert archive.moved == []


def test_a_dead_archive_is_named_and_delays_nobody_and_is_asked_once_it_is_back(
    tmp_path: Path,
) -> None:
    dead, alive = free_port(), Odd(answers=answering(Scan("2.25.1", "20200101")))
    with serving(alive), queried.fetch(settings_of(tmp_path, dead, alive.port)) as stage:
        stage.ask()
        until(lambda: alive.moved)

        def troubles() -> list[TroubleCode]:
            beat = read(tmp_path, "fetch")
            return [one.code for one in beat.troubles] if beat else []

        until(lambda: troubles() == [TroubleCode.PRIORS_AWAY])
        beat = read(tmp_path, "fetch")
        assert beat is not None
        assert beat.troubles[0].text.startswith("pacs: PACS@127.0.0.1")
        assert not stage.answered()
        with serving(Odd(answers=answering(Scan("2.25.2", "20200101"))), port=dead) as back:
            until(stage.answered)
            assert moved(back) == ["2.25.2.1"]
            until(lambda: not troubles())
    assert len(alive.moved) == 1


def test_an_archive_that_is_too_slow_costs_its_time_and_no_more(tmp_path: Path) -> None:
    gate = threading.Event()

    def slow(_keys: Dataset) -> int:
        assert gate.wait(HANG_S)
        return 0

    archive = Odd(answers=answering(Scan("2.25.1", "20200101")), moves=slow)
    with serving(archive), ExitStack() as stack:
        stack.callback(gate.set)
        settings = settings_of(tmp_path, archive.port, timeout_s=1.0)
        stage = stack.enter_context(queried.fetch(settings))
        stage.ask()
        assert stage.outcome().text.endswith("does not answer")
        gate.set()
        until(stage.answered)
    assert len(archive.moved) >= 4, "three attempts in vain, and one that is answered"


def test_one_association_is_open_at_a_time(tmp_path: Path) -> None:
    archive = Odd(answers=answering(Scan("2.25.1", "20200101")))
    with serving(archive), ExitStack() as stack:
        stage = stack.enter_context(queried.fetch(settings_of(tmp_path, *[archive.port] * 2)))
        for _ in range(3):
            stage.ask()
        until(stage.answered)
    assert archive.most_open == 1
    assert len(archive.moved) == 6


def test_the_stage_ends_while_an_archive_is_silent(tmp_path: Path) -> None:
    gate = threading.Event()

    def silent(_keys: Dataset) -> int:
        assert gate.wait(HANG_S)
        return 0

    archive = Odd(answers=answering(Scan("2.25.1", "20200101")), moves=silent)
    with serving(archive), ExitStack() as stack:
        stack.callback(gate.set)
        with queried.fetch(settings_of(tmp_path, archive.port)) as stage:
            stage.ask()
            until(lambda: archive.moved)
        assert not stage.answered(), "it is asked again after the next start"


def test_a_request_that_nobody_answered_within_a_day_goes(tmp_path: Path) -> None:
    with queried.fetch(settings_of(tmp_path, free_port())) as stage:
        stage.ask()
        (path,) = fetching.waiting(tmp_path)
        day = path.stat().st_mtime - fetching.DAY_S
        os.utime(path, (day, day))
        until(stage.answered)


def test_what_is_no_request_is_removed(tmp_path: Path) -> None:
    (tmp_path / "fetch").mkdir()
    (tmp_path / "fetch" / "odd.json").write_text("{")
    with queried.fetch(settings_of(tmp_path, free_port())) as stage:
        until(stage.answered)
        assert stage.journal.events.of(PriorsAsked, 9) == []


def test_the_process_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    config = tmp_path / "scanside.toml"
    config.write_text(
        f'state = "{tmp_path / "state"}"\n'
        f'[[priors.query]]\nname = "pacs"\naddress = "PACS@127.0.0.1:{free_port()}"\n'
    )
    command = [sys.executable, "-m", "appliance", "fetch", "--config", str(config)]
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ready:
        ready.bind(str(tmp_path / "ready"))
        ready.settimeout(HANG_S)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "ready")}
        with child(command, env=environment) as started:
            while b"READY=1" not in ready.recv(4096):
                pass
            started.send_signal(signal.SIGTERM)
            assert started.wait(HANG_S) == 0
    again = subprocess.run([*command, "--configured"], timeout=HANG_S, check=False)
    assert again.returncode == 0
    config.write_text(f'state = "{tmp_path / "state"}"\n')
    again = subprocess.run([*command, "--configured"], timeout=HANG_S, check=False)
    assert again.returncode != 0
