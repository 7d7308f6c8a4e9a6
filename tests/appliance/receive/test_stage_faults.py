"""Scenarios of receiving where something is wrong: data, peers, disks, power."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE

from appliance.dicom import pdu, policy
from appliance.receive.fullness import Note
from appliance.receive.intake import Intake
from appliance.report import SeriesKey
from appliance.settings import Allow, Dicom, Retain, Settings
from appliance.store.events import DiskReserve, InstanceRefused
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from rigs.receiver import MakeImage, RawScu, StartReceiver

Start = Callable[..., Any]
ALLOW = '[[dicom.allow]]\nae_title = "CT1"\nhost = "127.0.0.1"\n'
UID_TRICKS = ("../../x", "..", "", "1.2/3", "1." * 40 + "1", "1.2.3\\1.2.4", "/etc/passwd", "1\r")


def associate(port: int, *extra: str) -> Any:
    ae = AE(ae_title="CT1")
    for uid in (CTImageStorage, *extra):
        ae.add_requested_context(uid, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="SCANSIDE")
    assert association.is_established
    return association


def dataset_bytes(ds: pydicom.Dataset) -> bytes:
    """The data set alone, explicit VR little endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    plain = pydicom.Dataset(ds)
    write_dataset(buffer, plain)
    return buffer.getvalue()


# The disk


def test_below_the_reserve_every_instance_is_a700_and_the_sender_keeps_it(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver(more=ALLOW + "[retain]\nreserve_mb = 900000000\n")
    association = associate(one.port)
    statuses = [association.send_c_store(make_ct(n)).Status for n in range(3)]
    association.release()
    assert statuses == [0xA700] * 3
    assert one.stored() == {}
    (event,) = one.events(DiskReserve)
    assert event.reserve_mb == 900000000


def test_a_spool_that_cannot_be_written_is_a700_and_the_association_goes_on(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    association = associate(one.port)
    assert association.send_c_store(make_ct(0)).Status == 0
    shutil.rmtree(one.state / "incoming")
    assert association.send_c_store(make_ct(1)).Status == 0xA700
    (one.state / "incoming").mkdir()
    assert association.send_c_store(make_ct(2)).Status == 0
    association.release()
    assert len(one.stored()) == 2
    assert [e.code for e in one.events(InstanceRefused)] == ["disk_failed"]


def test_an_association_that_the_journal_cannot_take_is_refused_for_now(tmp_path: Path) -> None:
    allow = (Allow(ae_title="CT1", host="127.0.0.1"),)
    settings = Settings(state=tmp_path, dicom=Dicom(allow=allow), retain=Retain(reserve_mb=0))
    request = pdu.Request(1, "SCANSIDE", "CT1", policy.APPLICATION_CONTEXT, (), 0, "")
    with Journal.open(tmp_path) as journal:
        accepted: list[Note] = []
        intake = Intake(
            settings,
            journal,
            Spool(tmp_path),
            host="127.0.0.1",
            tell=accepted.append,
        )
        with journal._db.look() as db:
            db.execute("PRAGMA query_only = 1")  # what a full disk looks like to a writer
        assert intake.requested(request) == policy.TEMPORARY_CONGESTION
        assert not accepted
        intake.ended("lost")  # no error either
        with journal._db.look() as db:
            db.execute("PRAGMA query_only = 0")
        assert intake.requested(request) is None
        assert accepted == [Note.ACCEPTED]


# The data


def test_garbage_is_c000_and_its_bytes_are_in_the_quarantine(
    receiver: StartReceiver, raw_scu: type[RawScu]
) -> None:
    one = receiver()
    peer = raw_scu(one.port)
    junk = random.Random(1).randbytes(50_000)
    assert peer.store(b"1.2.3", junk) == 0xC000
    assert peer.store(b"1.2.4", b"") == 0xC000
    peer.release()
    assert one.stored() == {}
    kept = sorted((one.state / "quarantine").glob("*.dcm"), key=lambda p: p.stat().st_size)
    assert kept[-1].read_bytes().endswith(junk)
    assert json.loads(kept[-1].with_suffix(".json").read_text())["why"]
    codes = {e.subject: e.quarantine for e in one.events(InstanceRefused)}
    assert codes["1.2.3"] == kept[-1].name


# Bytes that are left, or how many are missing; each inside an element: UIDs are of any length, and
# what ends between two elements is whole to DICOM.
@pytest.mark.parametrize("left", [-1, -1000, "in a UID", 60, 9])
def test_a_cut_data_set_is_c000(
    receiver: StartReceiver,
    raw_scu: type[RawScu],
    make_ct: MakeImage,
    left: int | str,
) -> None:
    one = receiver()
    ds = make_ct(0)
    data = dataset_bytes(ds)
    end = data.index(ds.SeriesInstanceUID.encode()) + 9 if isinstance(left, str) else left
    peer = raw_scu(one.port)
    assert peer.store(ds.SOPInstanceUID.encode(), data[:end]) == 0xC000
    assert peer.store(ds.SOPInstanceUID.encode(), data) == 0
    peer.release()
    assert len(one.stored()) == 1


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_uid_tricks_never_leave_the_quarantine(
    receiver: StartReceiver,
    raw_scu: type[RawScu],
    make_ct: MakeImage,
    name: str,
) -> None:
    one = receiver()
    ds = make_ct(0)
    good = field(ds[name].tag, str(ds[name].value))
    peer = raw_scu(one.port)
    for uid in UID_TRICKS:
        data = dataset_bytes(ds).replace(good, field(ds[name].tag, uid))
        sop = uid if name == "SOPInstanceUID" else str(ds.SOPInstanceUID)
        assert peer.store(sop.encode(), data) == 0xC000, uid
    peer.release()
    assert one.stored() == {}
    assert [p.name for p in (one.state / "spool").iterdir()] in ([], [".lock"])
    assert len(list((one.state / "quarantine").glob("*.dcm"))) == len(UID_TRICKS)


def field(tag: Any, uid: str) -> bytes:
    """An explicit VR little endian UI element."""
    data = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", tag.group, tag.element, b"UI", len(data)) + data


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_missing_uid_is_c000(
    receiver: StartReceiver,
    raw_scu: type[RawScu],
    make_ct: MakeImage,
    name: str,
) -> None:
    one = receiver()
    ds = make_ct(0)
    sop = ds.SOPInstanceUID.encode()
    delattr(ds, name)
    peer = raw_scu(one.port)
    assert peer.store(sop, dataset_bytes(ds)) == 0xC000
    peer.release()
    assert len(list((one.state / "quarantine").glob("*.dcm"))) == 1
    assert name in one.events(InstanceRefused)[0].text


def test_class_or_instance_that_differ_between_command_and_data_set_are_a900(
    receiver: StartReceiver, raw_scu: type[RawScu], make_ct: MakeImage
) -> None:
    one = receiver()
    ds = make_ct(0)
    peer = raw_scu(one.port)
    assert peer.store(b"1.2.3", dataset_bytes(ds)) == 0xA900
    ds.SOPClassUID = MRImageStorage
    assert peer.store(ds.SOPInstanceUID.encode(), dataset_bytes(ds)) == 0xA900
    assert peer.store(b"1.2.3", dataset_bytes(ds), MRImageStorage.encode()) == 0x0122
    peer.release()
    assert one.stored() == {}
    assert not list((one.state / "quarantine").iterdir())
    assert not list((one.state / "incoming").iterdir())


# The peer


def test_an_abort_in_mid_series_keeps_what_was_acknowledged_and_is_recorded(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    association = associate(one.port)
    for n in range(3):
        assert association.send_c_store(make_ct(n)).Status == 0
    association.abort()
    assert one.outcomes(1) == ["aborted"]
    assert len(one.stored()) == 3
    with one.journal() as journal:
        (arrival,) = journal.series.arrivals(
            SeriesKey(make_ct(0).StudyInstanceUID, make_ct(0).SeriesInstanceUID)
        )
        assert arrival.instances == 3


def test_a_connection_lost_in_mid_instance_keeps_the_others_and_no_half_one(
    receiver: StartReceiver, raw_scu: type[RawScu], make_ct: MakeImage
) -> None:
    one = receiver()
    peer = raw_scu(one.port)
    ds = make_ct(0)
    assert peer.store(ds.SOPInstanceUID.encode(), dataset_bytes(ds)) == 0
    peer.command(0x0001, CTImageStorage.encode(), b"1.2.3")
    peer.value(b"half of it", control=0)
    peer.socket.close()
    assert one.outcomes(1) == ["lost"]
    assert list(one.stored()) == [ds.SOPInstanceUID]
    assert not list((one.state / "incoming").iterdir())


def test_a_peer_that_falls_silent_is_aborted_and_lost(
    receiver: StartReceiver, raw_scu: type[RawScu]
) -> None:
    one = receiver(dicom="idle_s = 0.5")
    peer = raw_scu(one.port)
    assert peer.answer[0] == 2
    assert peer.pdu()[0] == 7
    assert one.outcomes(1) == ["lost"]


def test_what_breaks_the_protocol_is_aborted_and_others_are_served_on(
    receiver: StartReceiver, raw_scu: type[RawScu]
) -> None:
    one = receiver()
    ct = CTImageStorage.encode()

    def breaking(act: Callable[[RawScu], None]) -> int:
        peer = raw_scu(one.port)
        assert peer.answer[0] == 2
        act(peer)
        return int(peer.pdu()[0])

    acts: list[Callable[[RawScu], None]] = [
        lambda p: p.send(1, bytes(68)),  # a second request
        lambda p: p.send(0x42, b"x"),  # no such PDU
        lambda p: p.value(b"data", control=0),  # no command before
        lambda p: p.value(b"data", control=3, context=9),  # no such context
        lambda p: p.send(4, struct.pack(">IBB", 0xFFFFFFFF, 1, 0)),  # longer than its PDU
        lambda p: p.send(4, b"\0\0"),
        lambda p: p.value(b"no command set at all", control=3),
        lambda p: (p.command(1, ct, b"1.2"), p.command(1, ct, b"1.2")),
        lambda p: p.command(0x8001, ct, b"1.2", data=False),  # a response
    ]
    assert [breaking(act) for act in acts] == [7] * len(acts)
    assert one.outcomes(len(acts)) == ["aborted"] * len(acts)
    for first in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\0\0\0\0\x02xx", b"\x01\0\xff\xff\xff\xff"):
        with socket.create_connection(("127.0.0.1", one.port), timeout=60) as stranger:
            stranger.sendall(first)
            assert stranger.recv(100)[:1] in (b"\x07", b"")
    associate(one.port).release()


def test_a_wrong_application_context_or_version_is_rejected(
    receiver: StartReceiver, raw_scu: type[RawScu]
) -> None:
    one = receiver()
    assert raw_scu(one.port, application=b"1.2.3").answer == (3, bytes((0, 1, 1, 2)))
    assert raw_scu(one.port, version=2).answer == (3, bytes((0, 1, 2, 2)))


def test_a_command_that_is_not_ours_is_answered_and_not_obeyed(
    receiver: StartReceiver, raw_scu: type[RawScu]
) -> None:
    one = receiver()
    peer = raw_scu(one.port)
    peer.command(0x0020, CTImageStorage.encode(), data=False)  # C-FIND
    assert peer.status() == 0x0211
    peer.command(0x0FFF, CTImageStorage.encode(), data=False)  # C-CANCEL: nothing to cancel
    peer.command(0x0001, CTImageStorage.encode(), b"1.2", data=False)
    assert peer.status() == 0xC000
    peer.release()


# The receiver itself


def test_success_is_only_said_after_file_and_folder_are_synced(
    receiver: StartReceiver, make_ct: MakeImage, tmp_path: Path
) -> None:
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("strace is not installed")
    one = receiver()
    trace = tmp_path / "trace"
    process = subprocess.Popen(
        [tracer, "-f", "-e", "trace=fdatasync,fsync,linkat,link,sendto,accept4", "-o", trace,
         "-p", str(one.process.pid)],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()
    association = associate(one.port)
    assert association.send_c_store(make_ct(0)).Status == 0
    association.release()
    one.stop()
    process.wait(60)
    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines() if "(" in line]
    link = next(i for i, call in enumerate(calls) if call.startswith("link") and ".dcm" in call)
    before = [call.partition("(")[0] for call in calls[:link]]
    after = [call.partition("(")[0] for call in calls[link + 1 :]]
    assert before[-1] == "fdatasync"
    assert after[:2] == ["fsync", "sendto"]


def test_sigterm_lets_a_running_association_finish_and_takes_no_new_one(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    association = associate(one.port)
    assert association.send_c_store(make_ct(0)).Status == 0
    os.killpg(one.process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", one.port), timeout=60).close()
        except ConnectionRefusedError:
            break
        except ConnectionResetError:
            pass  # it closed in the middle of our handshake: the next try is refused
        time.sleep(0.05)
    else:
        pytest.fail("it still listens")
    assert association.send_c_store(make_ct(1)).Status == 0
    association.release()
    assert one.process.wait(60) == 0
    assert len(one.stored()) == 2
    assert one.outcomes(1) == ["released"]


def test_kill_9_in_mid_series_keeps_all_that_was_acknowledged(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    association = associate(one.port)
    acknowledged = set()
    for n in range(8):
        ds = make_ct(n)
        assert association.send_c_store(ds).Status == 0
        acknowledged.add(ds.SOPInstanceUID)
    one.stop(signal.SIGKILL)
    association.abort()
    one.start()
    assert set(one.stored()) == acknowledged
    assert one.outcomes(1) == ["lost"]
    again = associate(one.port)
    assert [again.send_c_store(make_ct(n)).Status for n in range(10)] == [0] * 10
    again.release()
    assert len(one.stored()) == 10


def test_the_death_of_one_association_is_recorded_and_the_others_live(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    doomed, other = associate(one.port), associate(one.port)
    assert doomed.send_c_store(make_ct(0)).Status == 0
    with one.journal() as journal:
        first, _ = journal.series.open_associations()
    os.kill(first.pid, signal.SIGKILL)
    assert one.outcomes(1) == ["lost"]
    assert other.send_c_store(make_ct(1)).Status == 0
    other.release()
    assert len(one.stored()) == 2


def test_a_listening_socket_is_taken_over_from_systemd(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        program = (
            "import os, sys, pathlib\n"
            f"os.dup2({listening.fileno()}, 3)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            "from appliance.receive.stage import main\n"
            "from appliance.settings import Settings\n"
            "sys.exit(main(Settings(state=pathlib.Path(sys.argv[1])), ready=lambda: print('up')))"
        )
        process = subprocess.Popen(
            [sys.executable, "-uc", program, str(tmp_path / "state")],
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        port = listening.getsockname()[1]
        assert (tmp_path / "state" / "run" / "receive.port").read_text() == f"{port}\n"
        ae = AE(ae_title="CT1")
        ae.add_requested_context(CTImageStorage)
        assert ae.associate("127.0.0.1", port).is_rejected
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        waiting = socket.create_connection(listening.getsockname(), timeout=60)
        waiting.close()  # not refused: the socket is still systemd's
