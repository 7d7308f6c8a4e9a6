"""The scanner: valid instances, and a sender that a real receiver (dcmtk storescp) understands."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from appliance.demo.scanner import NOT_SUPPORTED, UNSENDABLE, Address, SendError, main, send, series
from appliance.phantom.chest import Phantom

STORESCP = Path("/usr/bin/storescp")  # Debian's dcmtk; pynetdicom installs one of the same name
needs_dcmtk = pytest.mark.skipif(
    not STORESCP.is_file(), reason="no /usr/bin/storescp: apt install dcmtk"
)

TYPE_1 = (  # PS3.3 A.3: present and not empty
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "FrameOfReferenceUID",
    "ImageType",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
    "RescaleIntercept",
    "RescaleSlope",
    "PatientPosition",
    "KVP",
    "SliceThickness",
    "BodyPartExamined",
    "ConvolutionKernel",
    "InstanceNumber",
    "AcquisitionNumber",
)
TYPE_2 = (  # present, may be empty
    "PatientBirthDate",
    "ReferringPhysicianName",
    "AccessionNumber",
    "StudyID",
    "PositionReferenceIndicator",
    "PatientName",
    "PatientID",
    "PatientSex",
    "StudyDate",
    "StudyTime",
)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """Five small slices whose every voxel is its own value, to catch a flip or a shift."""
    hu = (np.arange(5 * 24 * 20).reshape(5, 24, 20) - 1024).astype(np.int16)
    hu[-1, -1, -1] = 3071
    return Phantom(hu, (2.5, 0.7, 0.7), (-6.65, -8.05, -40.0), ())


@pytest.fixture
def folder(phantom: Phantom, tmp_path: Path) -> Path:
    out = tmp_path / "exam" / "sub"
    out.mkdir(parents=True)
    for image in series(phantom):
        dcmwrite(out / f"{image.InstanceNumber:03d}.dcm", image, enforce_file_format=True)
    return out.parent


Receiver = Callable[..., tuple[Address, Path]]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Starts a storescp with the given options; returns its address and its folder."""
    children = []

    def start(*options: str) -> tuple[Address, Path]:
        inbox = tmp_path / f"inbox{len(children)}"
        inbox.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        child = subprocess.Popen(
            [str(STORESCP), "-od", str(inbox), "-aet", "STORE", *options, str(port)],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        children.append(child)
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                break
            except OSError:
                assert time.monotonic() < until, "storescp did not start"
                time.sleep(0.02)
        return Address("STORE", "127.0.0.1", port), inbox

    yield start
    for child in children:
        child.terminate()
        child.wait(60)


def arrived(inbox: Path) -> dict[str, Dataset]:
    images = [dcmread(p) for p in inbox.iterdir()]
    return {str(i.SOPInstanceUID): i for i in images}


# --- the series ---


def test_a_series_survives_disk_and_gives_back_the_hu(phantom: Phantom, folder: Path) -> None:
    images = [dcmread(p) for p in sorted(folder.rglob("*.dcm"))]
    assert len(images) == 5
    assert [i.InstanceNumber for i in images] == [1, 2, 3, 4, 5]
    for image in images:
        x, y, z = (float(v) for v in image.ImagePositionPatient)
        assert (x, y) == pytest.approx(phantom.origin_lps_mm[:2])
        k = round((z - phantom.origin_lps_mm[2]) / phantom.spacing_mm[0])
        assert z == pytest.approx(phantom.origin_lps_mm[2] + k * phantom.spacing_mm[0])
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        assert np.array_equal(hu, phantom.hu[k])
        assert [float(v) for v in image.PixelSpacing] == [0.7, 0.7]
        assert [float(v) for v in image.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    # the first image is that nearest to the head
    assert images[0].ImagePositionPatient[2] > images[-1].ImagePositionPatient[2]


def test_instances_have_what_the_ct_image_iod_demands(phantom: Phantom) -> None:
    image = next(series(phantom))
    for keyword in TYPE_1:
        assert keyword in image, keyword
        assert image[keyword].value not in ("", None), keyword
    for keyword in TYPE_2:
        assert keyword in image, keyword
    assert list(image.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert image.SOPClassUID == CTImageStorage
    assert image.PatientName == "PHANTOM^CHEST"
    assert image.Manufacturer == "Scanside"
    assert (image.PixelRepresentation, image.BitsStored, image.HighBit) == (1, 16, 15)


def test_uids_are_derived_valid_and_one_a_image(phantom: Phantom) -> None:
    first, again = list(series(phantom)), list(series(phantom))
    assert [i.SOPInstanceUID for i in first] == [i.SOPInstanceUID for i in again]
    assert len({i.SOPInstanceUID for i in first}) == 5
    common = {(i.StudyInstanceUID, i.SeriesInstanceUID, i.FrameOfReferenceUID) for i in first}
    assert len(common) == 1
    assert all(i.SOPInstanceUID.is_valid for i in first)
    assert all(i.file_meta.MediaStorageSOPInstanceUID == i.SOPInstanceUID for i in first)
    changed = Phantom(phantom.hu + np.int16(0), (2.5, 0.8, 0.8), phantom.origin_lps_mm, ())
    assert next(series(changed)).SeriesInstanceUID != first[0].SeriesInstanceUID
    named = next(series(phantom, study_uid="1.2.3", series_uid="1.2.4"))
    assert (named.StudyInstanceUID, named.SeriesInstanceUID) == ("1.2.3", "1.2.4")


# --- sending ---


@needs_dcmtk
def test_a_generated_series_arrives_as_it_was_made(phantom: Phantom, receiver: Receiver) -> None:
    to, inbox = receiver()
    told = []
    summary = send(series(phantom), to, progress=lambda *n: told.append(n))
    assert (summary.sent, summary.failed) == (5, ())
    assert told == [(n, 5) for n in range(1, 6)]
    got = arrived(inbox)
    for image in series(phantom):
        other = got[str(image.SOPInstanceUID)]
        assert other.PixelData == image.PixelData
        assert other.ImagePositionPatient == image.ImagePositionPatient


@needs_dcmtk
def test_no_answer_of_a_fast_peer_is_lost(receiver: Receiver) -> None:
    """pynetdicom's reactor took about one answer in 300 away from the sender."""
    many = Phantom(np.zeros((400, 4, 4), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ())
    to, _ = receiver("--ignore")
    before = threading.active_count()
    assert send(series(many), to, timeout_s=60.0).sent == 400
    until = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before  # the reactor was set free and has ended


@needs_dcmtk
def test_a_folder_is_walked_and_what_is_no_dicom_is_skipped(
    folder: Path, receiver: Receiver
) -> None:
    (folder / "notes.txt").write_text("no DICOM")
    (folder / "empty").touch()
    (folder / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    to, inbox = receiver()
    summary = send([folder], to)
    assert (summary.sent, summary.failed, summary.skipped) == (5, (), 3)
    assert len(arrived(inbox)) == 5


@needs_dcmtk
def test_compressed_files_are_sent_as_they_are(folder: Path, receiver: Receiver) -> None:
    path = folder / "sub" / "001.dcm"
    image = dcmread(path)
    image.compress(RLELossless, generate_instance_uid=False)
    image.save_as(path)
    to, inbox = receiver("+xa")
    assert send([folder], to).sent == 5
    got = arrived(inbox)
    assert got[str(image.SOPInstanceUID)].file_meta.TransferSyntaxUID == RLELossless
    assert got[str(image.SOPInstanceUID)].PixelData == image.PixelData
    syntaxes = [str(i.file_meta.TransferSyntaxUID) for i in got.values()]
    assert syntaxes.count(ExplicitVRLittleEndian) == 4


@needs_dcmtk
def test_a_peer_without_the_compressed_syntax_gets_the_others_and_the_rest_is_reported(
    folder: Path, receiver: Receiver
) -> None:
    path = folder / "sub" / "002.dcm"
    image = dcmread(path)
    image.compress(RLELossless, generate_instance_uid=False)
    image.save_as(path)
    to, inbox = receiver()  # uncompressed alone
    summary = send([folder], to)
    assert summary.sent == 4
    assert summary.failed == ((str(image.SOPInstanceUID), NOT_SUPPORTED),)
    assert len(arrived(inbox)) == 4
    only = folder / "only"
    only.mkdir()
    path.rename(only / "x.dcm")
    with pytest.raises(SendError, match="accepts none") as caught:
        send([only], to)
    assert "transfer syntax" in caught.value.remedy


@needs_dcmtk
def test_a_peer_with_implicit_vr_alone_gets_the_same_pixels(
    phantom: Phantom, receiver: Receiver
) -> None:
    to, inbox = receiver("+xi")
    assert send(series(phantom), to).sent == 5
    got = arrived(inbox)
    assert {i.file_meta.TransferSyntaxUID for i in got.values()} == {ImplicitVRLittleEndian}
    for image in series(phantom):
        assert got[str(image.SOPInstanceUID)].PixelData == image.PixelData


@needs_dcmtk
def test_a_refused_instance_is_reported_with_its_status(
    phantom: Phantom, receiver: Receiver
) -> None:
    to, inbox = receiver()
    inbox.rmdir()  # storescp answers "out of resources" (A7xx)
    summary = send(series(phantom), to)
    assert summary.sent == 0
    assert [uid for uid, _ in summary.failed] == [str(i.SOPInstanceUID) for i in series(phantom)]
    assert {status >> 8 for _, status in summary.failed} == {0xA7}


@needs_dcmtk
def test_an_instance_without_uid_does_not_stop_the_others(folder: Path, receiver: Receiver) -> None:
    path = folder / "sub" / "003.dcm"
    image = dcmread(path)
    image.SOPInstanceUID = ""
    image.save_as(path)
    to, inbox = receiver()
    summary = send([folder], to)
    assert summary.sent == 4
    assert summary.failed == ((str(path), UNSENDABLE),)
    assert len(arrived(inbox)) == 4


@needs_dcmtk
def test_a_rejected_association_says_who_and_what_to_do(
    phantom: Phantom, receiver: Receiver
) -> None:
    to, _ = receiver("--refuse")
    with pytest.raises(SendError, match=r"rejected the association of CT01") as caught:
        send(series(phantom), to, calling="CT01")
    assert "CT01" in caught.value.remedy
    assert "STORE" in caught.value.remedy


@needs_dcmtk
def test_a_peer_that_aborts_ends_the_sending_with_an_error(
    phantom: Phantom, receiver: Receiver
) -> None:
    to, _ = receiver("--abort-after")
    with pytest.raises(SendError, match=r"ended the association after [01] of 5"):
        send(list(series(phantom)), to)


def test_no_peer_is_an_error_with_host_and_port(phantom: Phantom) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # bound, but nobody listens
        with pytest.raises(SendError, match=rf"no connection to 127\.0\.0\.1:{port}"):
            send(series(phantom), Address("STORE", "127.0.0.1", port))


def test_nothing_to_send_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    to = Address("STORE", "127.0.0.1", 1)
    with pytest.raises(SendError, match="nothing to send"):
        send([tmp_path], to)
    with pytest.raises(SendError, match="nothing to send"):
        send(iter(()), to)
    with pytest.raises(SendError, match="does not exist"):
        send([tmp_path / "none"], to)


@pytest.mark.parametrize(
    "text",
    ["", "SCANSIDE", "SCANSIDE@host", "@h:104", "A@:104", "A@h:0", "A@h:70000", "A" * 17 + "@h:1"],
)
def test_a_wrong_address_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"AE|port"):
        Address.parse(text)


def test_an_address_is_parsed_and_printed() -> None:
    assert Address.parse("SCANSIDE@10.0.0.5:11112") == Address("SCANSIDE", "10.0.0.5", 11112)
    assert str(Address.parse("MY AE@box.local:104")) == "MY AE@box.local:104"


@needs_dcmtk
def test_the_verb_has_exit_codes(
    folder: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    to, inbox = receiver()
    assert main(folder, str(to), "SCANNER") == 0
    assert "5 sent to STORE@127.0.0.1" in capsys.readouterr().out
    assert len(arrived(inbox)) == 5
    assert main(folder, "nobody", "SCANNER") == 2
    assert main(folder / "none", str(to), "SCANNER") == 1
    assert "does not exist" in capsys.readouterr().err
    inbox.rename(inbox.with_name("gone"))
    assert main(folder, str(to), "SCANNER") == 1
    assert "0xA7" in capsys.readouterr().err


def test_a_file_that_may_not_be_read_is_an_error_and_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(SendError, match=r"a\.dcm: Permission denied"):
        send([tmp_path / "a.dcm"], Address("X", "127.0.0.1", 1))
