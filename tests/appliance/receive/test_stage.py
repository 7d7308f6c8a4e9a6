"""Scenarios of receiving, with real peers. The receiver is a child process on a free port."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE

from appliance.report import SeriesKey
from appliance.store import heartbeat
from appliance.store.events import AssociationRefused, HeaderChanged, InstanceRefused
from rigs.peers import until
from rigs.receiver import ALLOW, MakeImage, RawScu, Receiver, StartReceiver

Start = Callable[..., Any]


def associate(port: int, *syntaxes: str, called: str = "SCANSIDE", title: str = "CT1") -> Any:
    ae = AE(ae_title=title)
    for syntax in syntaxes or (ExplicitVRLittleEndian,):
        ae.add_requested_context(CTImageStorage, syntax)
    association = ae.associate("127.0.0.1", port, ae_title=called)
    assert association.is_established
    return association


def storescu(dcmtk: Start, port: int, folder: Path, *options: str) -> tuple[int, bytes]:
    process = dcmtk(
        "storescu", "-aet", "CT1", "-aec", "SCANSIDE", *options, "127.0.0.1", port, "+sd", folder
    )
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_a_scanner_sends_a_series_and_it_is_in_the_spool_as_it_was(
    receiver: StartReceiver, dcmtk: Start, make_ct: MakeImage, save: Start
) -> None:
    one = receiver()
    sent = [make_ct(n) for n in range(5)]
    code, output = storescu(dcmtk, one.port, save(sent))
    assert code == 0, output
    stored = one.stored()
    assert set(stored) == {ds.SOPInstanceUID for ds in sent}
    for ds in sent:
        read = pydicom.dcmread(stored[ds.SOPInstanceUID])
        assert read == ds
        assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert read.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert read.file_meta.ImplementationVersionName.startswith("SCANSIDE")
    assert one.outcomes(1) == ["released"]
    with one.journal() as journal:
        (arrival,) = journal.series.arrivals(
            SeriesKey(sent[0].StudyInstanceUID, sent[0].SeriesInstanceUID)
        )
        assert (arrival.instances, arrival.association.calling_ae) == (5, "CT1")
        assert arrival.first_at <= arrival.last_at
    assert not list((one.state / "incoming").iterdir())


def test_nothing_that_names_the_patient_is_in_the_log_or_the_journal(
    receiver: StartReceiver, make_ct: MakeImage, raw_scu: type[RawScu]
) -> None:
    one = receiver()
    association = associate(one.port)
    association.send_c_store(make_ct(0))
    association.release()
    peer = raw_scu(one.port)
    peer.store(b"1.2.3", b"SECRET^NAME")
    peer.release()
    assert one.outcomes(2) == ["released", "released"]
    one.stop()
    assert "SECRET" not in one.log.read_text()
    for path in one.state.glob("journal*"):
        assert b"SECRET" not in path.read_bytes()


def test_echo_is_answered_under_the_same_policy(receiver: StartReceiver, dcmtk: Start) -> None:
    one = receiver()
    for title, expected in (("CT1", 0), ("UNKNOWN", 1)):
        process = dcmtk("echoscu", "-aet", title, "-aec", "SCANSIDE", "127.0.0.1", one.port)
        process.communicate(timeout=60)
        assert process.returncode == expected


def test_the_same_instance_twice_is_success_and_stored_once(
    receiver: StartReceiver, dcmtk: Start, make_ct: MakeImage, save: Start
) -> None:
    one = receiver()
    folder = save([make_ct(n) for n in range(3)])
    for _ in range(2):
        code, output = storescu(dcmtk, one.port, folder)
        assert code == 0, output
    assert len(one.stored()) == 3
    assert one.events(InstanceRefused) == []


@pytest.mark.parametrize(
    "syntax",
    [
        RLELossless,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        JPEG2000Lossless,
    ],
)
def test_the_same_instance_in_another_transfer_syntax_is_success_and_stored_once(
    receiver: StartReceiver, make_ct: MakeImage, syntax: Any
) -> None:
    one = receiver()
    first, second = make_ct(0), make_ct(0)
    if syntax.is_encapsulated:
        second.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        pixels = second.pixel_array
        second.PixelData = pixels.astype(">i2").tobytes()
    second.file_meta.TransferSyntaxUID = syntax
    second._read_implicit = syntax.is_implicit_VR
    association = associate(one.port, ExplicitVRLittleEndian, syntax)
    assert association.send_c_store(first).Status == 0
    fresh = pydicom.Dataset(second)
    fresh.file_meta = second.file_meta
    assert association.send_c_store(fresh).Status == 0
    association.release()
    assert len(one.stored()) == 1
    (path,) = one.stored().values()
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize("modality", ["CR", "DX", "MR"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_the_same_image_in_another_syntax_is_a_duplicate_in_every_modality(
    receiver: StartReceiver, make_ct: MakeImage, syntax: Any, modality: str
) -> None:
    classes = {
        "CR": "1.2.840.10008.5.1.4.1.1.1",
        "DX": "1.2.840.10008.5.1.4.1.1.1.1",
        "MR": "1.2.840.10008.5.1.4.1.1.4",
    }
    one, uid = receiver(), generate_uid()
    first, again, other = (
        make_ct(n, Modality=modality, SOPClassUID=classes[modality], SOPInstanceUID=uid)
        for n in (0, 0, 1)
    )
    again.compress(syntax, generate_instance_uid=False)
    ae = AE(ae_title="CT1")
    for accepted in (ExplicitVRLittleEndian, syntax):
        ae.add_requested_context(classes[modality], accepted)
    association = ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE")
    statuses = [association.send_c_store(ds).Status for ds in (first, again, other)]
    association.release()
    assert statuses == [0, 0, 0x0111]
    assert len(one.stored()) == 1


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian])
def test_what_comes_compressed_is_stored_as_it_came(
    receiver: StartReceiver, make_ct: MakeImage, syntax: Any
) -> None:
    one = receiver()
    ds = make_ct(0)
    pixels = ds.pixel_array
    if syntax.is_encapsulated:
        ds.compress(syntax, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = syntax
    association = associate(one.port, syntax)
    assert association.send_c_store(ds).Status == 0
    association.release()
    (path,) = one.stored().values()
    read = pydicom.dcmread(path)
    assert read.file_meta.TransferSyntaxUID == syntax
    assert (read.pixel_array == pixels).all()


def test_other_content_under_a_known_uid_is_0111_and_both_are_in_the_journal(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    association = associate(one.port)
    first = make_ct(0)
    assert association.send_c_store(first).Status == 0
    other = make_ct(1, SOPInstanceUID=first.SOPInstanceUID)
    status = association.send_c_store(other)
    assert status.Status == 0x0111
    assert "other content" in status.ErrorComment
    association.release()
    (path,) = one.stored().values()
    assert pydicom.dcmread(path).InstanceNumber == 1
    (event,) = one.events(InstanceRefused)
    assert event.subject == first.SOPInstanceUID
    assert event.code == "duplicate_sop_instance"
    assert event.sha256 != event.sha256_stored


CORRECTED = {"PatientID": "OTHER-ID", "BodyPartExamined": "HEAD"}
RENAMED = {"PatientName": "SECRET^NAME^^DR"}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_corrected_header_is_0111_and_the_journal_names_what_changed(
    receiver: StartReceiver, make_ct: MakeImage, syntax: Any
) -> None:
    one = receiver()
    images = [make_ct(n, **(CORRECTED if again else {})) for again in (False, True) for n in (0, 1)]
    if syntax.is_encapsulated:
        for ds in images[2:]:
            ds.compress(syntax, generate_instance_uid=False)
    ae = AE(ae_title="CT1")
    for accepted in {ExplicitVRLittleEndian, syntax}:
        ae.add_requested_context(CTImageStorage, accepted)
    association = ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE")
    answers = [association.send_c_store(ds) for ds in images]
    association.release()
    assert [answer.Status for answer in answers] == [0, 0, 0x0111, 0x0111]
    assert "another header" in answers[2].ErrorComment
    assert {pydicom.dcmread(path).PatientID for path in one.stored().values()} == {"SECRET-ID"}
    (event,) = one.events(HeaderChanged)
    assert (event.subject, event.study) == (images[0].SeriesInstanceUID, images[0].StudyInstanceUID)
    assert (event.instance, event.refused) == (images[0].SOPInstanceUID, True)
    assert event.changed == ("Patient ID", "body part")
    assert {event.code for event in one.events(InstanceRefused)} == {"changed_header"}
    assert "SECRET" not in one.log.read_text()
    assert "OTHER-ID" not in one.log.read_text()


def test_the_spelling_of_a_name_alone_is_success_and_the_first_one_stays(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    association = associate(one.port)
    for changes in ({}, RENAMED):
        assert association.send_c_store(make_ct(0, **changes)).Status == 0
    association.release()
    (path,) = one.stored().values()
    assert pydicom.dcmread(path).PatientName == "SECRET^NAME"
    (event,) = one.events(HeaderChanged)
    assert (event.changed, event.refused) == (("name",), False)
    assert one.events(InstanceRefused) == []


def test_an_unknown_ae_is_rejected_and_the_journal_says_which_setting_to_change(
    receiver: StartReceiver, dcmtk: Start, make_ct: MakeImage, save: Start
) -> None:
    one = receiver()
    process = dcmtk(
        "storescu", "-aet", "CT2", "-aec", "SCANSIDE", "127.0.0.1", one.port, "+sd",
        save([make_ct()]),
    )  # fmt: skip
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Calling AE Title Not Recognized" in output
    (event,) = one.events(AssociationRefused)
    assert event.subject == "CT2"
    assert event.remedy == 'add [[dicom.allow]] ae_title = "CT2" host = "127.0.0.1"'
    assert one.stored() == {}


def test_an_unknown_called_ae_and_one_association_too_many_are_rejected(
    receiver: StartReceiver,
) -> None:
    one = receiver(dicom="max_associations = 1")
    ae = AE(ae_title="CT1")
    ae.add_requested_context(CTImageStorage)
    assert ae.associate("127.0.0.1", one.port, ae_title="OTHER").is_rejected
    first = associate(one.port)
    second = ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE")
    assert second.is_rejected
    assert second.acceptor.primitive.result == 2, "transient"
    first.release()
    texts = [e.text for e in one.events(AssociationRefused)]
    assert "1 are open" in texts[0]
    assert "called 'OTHER', this is 'SCANSIDE'" in texts[1]


def fullness(one: Receiver) -> list[str]:
    """What `receive` says that it suffers from."""
    beat = heartbeat.read(one.state, "receive")
    assert beat is not None
    return [trouble.text for trouble in beat.troubles]


def test_one_sender_never_keeps_the_other_scanner_out(receiver: StartReceiver) -> None:
    other = '[[dicom.allow]]\nae_title = "CT2"\nhost = "127.0.0.1"\n'
    one = receiver(dicom="max_associations = 4", more=ALLOW + other)
    held = [associate(one.port) for _ in range(3)]
    ae = AE(ae_title="CT1")
    ae.add_requested_context(CTImageStorage)
    refused = ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE").acceptor.primitive
    assert (refused.result, refused.result_source, refused.diagnostic) == (2, 3, 2)
    until(lambda: any("share" in text for text in fullness(one)))
    (event,) = one.events(AssociationRefused)
    assert "'CT1' from 127.0.0.1 has 3 open, its share of 4" in event.text
    assert "[dicom] share" in event.remedy
    scanner = AE(ae_title="CT2")
    scanner.add_requested_context(CTImageStorage)
    with_place = scanner.associate("127.0.0.1", one.port, ae_title="SCANSIDE")
    assert with_place.is_established
    held.pop().release()
    until(lambda: not fullness(one))
    held.append(associate(one.port))
    for association in (*held, with_place):
        association.release()


def test_our_own_doctor_leaves_no_refusal_behind(receiver: StartReceiver) -> None:
    one = receiver()
    for calling in ("SCANSIDE", "CT9"):
        ae = AE(ae_title=calling)
        ae.add_requested_context(CTImageStorage)
        assert ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE").is_rejected
    assert [event.subject for event in one.events(AssociationRefused)] == ["CT9"]
    with one.journal() as journal:
        assert journal.series.open_associations() == []


def test_a_doctor_that_finds_no_place_is_no_illness(receiver: StartReceiver) -> None:
    both = "".join(
        f'[[dicom.allow]]\nae_title = "{title}"\nhost = "127.0.0.1"\n'
        for title in ("CT1", "CT2", "SCANSIDE")
    )
    one = receiver(dicom="max_associations = 2", more=both)
    held = [associate(one.port), associate(one.port, title="CT2")]
    for calling, refusals in (("SCANSIDE", []), ("CT1", ["CT1"])):
        ae = AE(ae_title=calling)
        ae.add_requested_context(CTImageStorage)
        assert ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE").is_rejected
        assert [event.subject for event in one.events(AssociationRefused)] == refusals
    until(lambda: ["all associations are open" in text for text in fullness(one)] == [True])
    for association in held:
        association.release()
    until(lambda: not fullness(one))


def test_a_killed_receive_keeps_the_next_one_out_no_longer_than_its_children_need(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    association = associate(one.port)
    one.process.kill()  # its child, which serves the association, lives on
    one.process.wait()
    one.start()
    other = associate(one.port)
    assert other.send_c_store(make_ct(0)).Status == 0
    assert association.send_c_store(make_ct(1)).Status == 0
    other.release()
    association.release()
    assert len(one.stored()) == 2


def test_four_senders_at_once_lose_nothing(
    receiver: StartReceiver, dcmtk: Start, make_ct: MakeImage, save: Start
) -> None:
    one = receiver()
    expected, processes = set(), []
    for sender in range(4):
        series = generate_uid()
        sent = [
            make_ct(n, SeriesInstanceUID=series, SOPInstanceUID=generate_uid()) for n in range(15)
        ]
        expected |= {ds.SOPInstanceUID for ds in sent}
        folder = save(sent, f"sender{sender}")
        processes.append(
            dcmtk(
                "storescu", "-aet", "CT1", "-aec", "SCANSIDE", "127.0.0.1", one.port, "+sd", folder
            )
        )
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    assert set(one.stored()) == expected
    assert one.outcomes(4) == ["released"] * 4
    with one.journal() as journal:
        assert len(journal.series.all("open")) == 4


def test_the_same_series_sent_twice_at_once_is_stored_once(
    receiver: StartReceiver, dcmtk: Start, make_ct: MakeImage, save: Start
) -> None:
    one = receiver()
    folder = save([make_ct(n) for n in range(30)])
    processes: list[subprocess.Popen[bytes]] = [
        dcmtk("storescu", "-aet", "CT1", "-aec", "SCANSIDE", "127.0.0.1", one.port, "+sd", folder)
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    assert len(one.stored()) == 30
    assert one.events(InstanceRefused) == []
    assert one.outcomes(2) == ["released"] * 2
    with one.journal() as journal:
        (series,) = journal.series.all()
        assert sum(a.instances for a in journal.series.arrivals(series.key)) == 30


def test_what_a_scanner_sends_along_does_not_break_the_study(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    private = "1.3.12.2.1107.5.9.1"
    classes = ["1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.11.1", private]
    ae = AE(ae_title="CT1")
    for uid in (CTImageStorage, *classes, "1.2.840.10008.5.1.4.1.2.2.1"):
        ae.add_requested_context(uid)
    association = ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE")
    accepted = {str(c.abstract_syntax) for c in association.accepted_contexts}
    assert accepted == {CTImageStorage, *classes}, "storage yes, query no"
    for n, uid in enumerate(classes):
        ds = make_ct(n, SOPClassUID=uid)
        del ds.PixelData
        assert association.send_c_store(ds).Status == 0
    association.release()
    assert len(one.stored()) == 3


def test_each_stored_instance_and_the_end_wake_the_next_stage(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.bind(str(one.state / "run" / "work.sock"))
        bell.settimeout(60)
        association = associate(one.port)
        ds = make_ct(0)
        for _ in range(2):  # the second time is a duplicate: nothing new
            association.send_c_store(ds)
        hint = bell.recv(4096)
        association.release()
        end = bell.recv(4096)
    assert ds.SeriesInstanceUID.encode() in hint
    assert ds.StudyInstanceUID.encode() in hint
    assert b"association" in end


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_with_tls_only_a_peer_with_a_known_certificate_is_heard(
    receiver: StartReceiver, make_ct: MakeImage, tmp_path: Path
) -> None:
    ours, scanner, stranger = (certificate(tmp_path, n) for n in ("ours", "scanner", "stranger"))
    lines = "".join(
        f'{name} = "{path}"\n'
        for name, path in (("ca", scanner[0]), ("cert", ours[0]), ("key", ours[1]))
    )
    allow = '[[dicom.allow]]\nae_title = "CT1"\nhost = "127.0.0.1"\n'
    one = receiver(more=f"[dicom.tls]\n{lines}{allow}")
    ae = AE(ae_title="CT1")
    ae.acse_timeout = 60
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    for peer, allowed in ((stranger, False), (scanner, True)):
        context = ssl.create_default_context(cafile=str(ours[0]))
        context.load_cert_chain(*peer)
        association = ae.associate(
            "127.0.0.1", one.port, ae_title="SCANSIDE", tls_args=(context, "127.0.0.1")
        )
        assert association.is_established == allowed
    assert association.send_c_store(make_ct(0, size=512)).Status == 0
    association.release()
    assert not ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE").is_established
    assert len(one.stored()) == 1
