"""Writes the seeds: small, valid inputs of each target, `FOLDER/TARGET/NAME`.

    python corpus.py FOLDER BUNDLE [DICOM-FILE ...]

BUNDLE is a .scanside file. Of the DICOM files the headers are taken as they are, with the pixels
cut to 8 x 8. What a tool is missing for is left out, and said.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from targets import ROOT

from appliance.bundle import archive
from appliance.dicom import pdu
from appliance.dicom.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from appliance.dicom.policy import Proposed, Roles
from appliance.phantom import instances, radiograph
from appliance.phantom.chest import Phantom
from appliance.prior import packed
from appliance.prior.entry import CUBE, Cube, Entry, Facts, Image, ImageNames, Person
from appliance.records import Grid
from appliance.report import (
    BackendRef,
    BundleRef,
    Report,
    Scored,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)  # fmt: skip

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
CT, ENHANCED, VERIFICATION = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.1.1",
)
ENCODED = {
    "rle": ("1.2.840.10008.1.2.5", {"encoding_plugin": "pylibjpeg"}),
    "jpeg-ls": ("1.2.840.10008.1.2.4.80", {"encoding_plugin": "pyjpegls"}),
    "jpeg-ls-near": ("1.2.840.10008.1.2.4.81", {"encoding_plugin": "pyjpegls", "jls_error": 2}),
    "jpeg-2000": ("1.2.840.10008.1.2.4.90", {"encoding_plugin": "pylibjpeg"}),
    "jpeg-2000-lossy": ("1.2.840.10008.1.2.4.91", {"encoding_plugin": "pylibjpeg", "j2k_cr": [4]}),
}
DCMCJPEG = {
    "jpeg-lossless": "--encode-lossless",
    "jpeg-lossless-sv1": "--encode-lossless-sv1",
    "jpeg-extended": "--encode-extended",
    "jpeg-baseline": "--encode-baseline",
}
SIZE = 8


def images(count: int, seed: int = 0, size: int = SIZE) -> list[Dataset]:
    """A chest of `count` slices, 10 mm apart, of a patient whose name is SECRET."""
    hu = np.random.default_rng(seed).integers(-1000, 400, (count, size, size)).astype(np.int16)
    phantom = Phantom(hu, (10.0, 0.7, 0.7), (-100.0, -100.0, -100.0), ())
    made = list(instances.series(phantom))
    for image in made:
        image.PatientName, image.PatientID = "SECRET^NAME", "SECRET-ID"
    return made


def written(image: Dataset, syntax: str = EXPLICIT) -> bytes:
    uid, out = UID(syntax), io.BytesIO()
    image.file_meta.TransferSyntaxUID = uid
    image.save_as(out, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian,
                  enforce_file_format=True)  # fmt: skip
    return out.getvalue()


def encoded(image: Dataset, name: str) -> bytes:
    syntax, how = ENCODED[name]
    image.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    image.compress(UID(syntax), generate_instance_uid=False, **how)
    return written(image, syntax)


def by_dcmtk(image: Dataset, option: str) -> bytes | None:
    tool = shutil.which("dcmcjpeg")
    if tool is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        raw, coded = Path(folder) / "raw", Path(folder) / "coded"
        raw.write_bytes(written(image))
        subprocess.run([tool, option, "--uid-never", raw, coded], check=True, timeout=60)
        return coded.read_bytes()


def eight_bits(image: Dataset) -> Dataset:
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = bytes(range(SIZE * SIZE))
    image["PixelData"].VR = "OB"
    return image


def twelve_bits(image: Dataset) -> Dataset:
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
    image.PixelData = np.arange(SIZE * SIZE, dtype="<u2").tobytes()
    return image


def multi_frame(frames: int = 3) -> Dataset:
    """Enhanced CT: shared orientation and measures, position and rescale of each frame."""
    several = images(frames)
    image = several[0]
    groups = []
    for one in several:
        group, at, rescale = Dataset(), Dataset(), Dataset()
        at.ImagePositionPatient = one.ImagePositionPatient
        rescale.RescaleIntercept, rescale.RescaleSlope = -1024, 1
        rescale.RescaleType = "HU"
        group.PlanePositionSequence = Sequence([at])
        group.PixelValueTransformationSequence = Sequence([rescale])
        groups.append(group)
    shared, turned, measures = Dataset(), Dataset(), Dataset()
    turned.ImageOrientationPatient = image.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = image.PixelSpacing, 10
    shared.PlaneOrientationSequence = Sequence([turned])
    shared.PixelMeasuresSequence = Sequence([measures])
    image.SOPClassUID, image.NumberOfFrames = ENHANCED, frames
    image.PixelData = b"".join(one.PixelData for one in several)
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    image.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return image


def undefined_lengths(image: Dataset) -> Dataset:
    """A sequence in a sequence, both without a length (PS3.5 7.5)."""
    inner, outer = Dataset(), Dataset()
    inner.ReferencedSOPClassUID = inner.ReferencedSOPInstanceUID = "1.2.3"
    outer.ReferencedImageSequence = Sequence([inner])
    image.ReferencedStudySequence = Sequence([outer])
    for holder, name in ((image, "ReferencedStudySequence"), (outer, "ReferencedImageSequence")):
        holder[name].is_undefined_length = True
        holder[name].value[0].is_undefined_length_sequence_item = True
    return image


def dicom_files(real: list[Path]) -> Iterator[tuple[str, bytes]]:
    image = images(1)[0]
    yield "explicit", written(image)
    for name, syntax in {"implicit": IMPLICIT, "deflated": DEFLATED}.items():
        yield name, written(images(1)[0], syntax)
    big = images(1)[0]
    big.PixelData = np.frombuffer(big.PixelData, "<i2").byteswap().tobytes()
    yield "big-endian", written(big, BIG)
    for name in ENCODED:  # openjpeg needs 32 pixels for its six resolutions
        yield name, encoded(images(1, size=32 if "2000" in name else SIZE)[0], name)
    for name, option in DCMCJPEG.items():
        source = {"jpeg-baseline": eight_bits, "jpeg-extended": twelve_bits}.get(name)
        coded = by_dcmtk(source(images(1)[0]) if source else images(1)[0], option)
        if coded is None:
            sys.stdout.write(f"no seed {name}: dcmcjpeg is not installed (apt install dcmtk)\n")
        else:
            yield name, coded
    yield "multi-frame", written(multi_frame())
    yield "multi-frame-implicit", written(multi_frame(), IMPLICIT)
    yield "multi-frame-rle", encoded(multi_frame(), "rle")
    yield "undefined", written(undefined_lengths(images(1)[0]))
    for n, path in enumerate(real):
        yield f"real-{n}", cropped(path)


def cropped(path: Path) -> bytes:
    """A real header on the upper left of its image, private elements included."""
    image = pydicom.dcmread(path)
    pixels = image.pixel_array[:SIZE, :SIZE].astype("<u2" if image.PixelRepresentation == 0
                                                    else "<i2")  # fmt: skip
    image.Rows = image.Columns = SIZE
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OW"
    image["PixelData"].is_undefined_length = False
    image.PatientName, image.PatientID = "SECRET^NAME", "SECRET-ID"
    return written(image)


def associate(contexts: list[tuple[str, list[str]]], max_length: int = 16384) -> bytes:
    """A-ASSOCIATE-RQ of an allowed peer, with what else a toolkit proposes (PS3.7 D.3.3)."""
    item = pdu._item
    proposed = b"".join(
        item(0x20, bytes((2 * n + 1, 0, 0, 0)) + item(0x30, abstract.encode())
             + b"".join(item(0x40, uid.encode()) for uid in transfer))
        for n, (abstract, transfer) in enumerate(contexts)
    )  # fmt: skip
    user = item(0x51, struct.pack(">I", max_length)) + item(0x52, b"1.2.3")
    user += item(0x53, struct.pack(">HH", 5, 5)) + item(0x55, b"PEER")
    user += item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\1\1")
    user += item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 4) + b"pass")
    body = struct.pack(">HH", 1, 0) + b"SCANSIDE".ljust(16) + b"CT1".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + item(0x50, user)
    return pdu._pdu(pdu.ASSOCIATE_RQ, body)


def p_data(context: int, data: bytes, control: int, most: int = 400) -> bytes:
    """`data` in as many P-DATA-TF as it takes; the last one has bit 1 of its control set."""
    pieces = [data[at : at + most] for at in range(0, len(data), most)] or [b""]
    return b"".join(
        pdu._pdu(pdu.P_DATA, struct.pack(">IBB", len(piece) + 2, context,
                                         control | (2 if n == len(pieces) - 1 else 0)) + piece)
        for n, piece in enumerate(pieces)
    )  # fmt: skip


def store(context: int, file: bytes) -> bytes:
    """C-STORE-RQ and its data set, from a Part 10 file."""
    image = pydicom.dcmread(io.BytesIO(file))
    meta = 144 + int.from_bytes(file[140:144], "little")
    command = {
        pdu.SOP_CLASS: str(image.SOPClassUID), pdu.FIELD: pdu.C_STORE_RQ, pdu.MESSAGE_ID: 1,
        pdu.DATA_SET_TYPE: 1, pdu.SOP_INSTANCE: str(image.SOPInstanceUID),
    }  # fmt: skip
    return p_data(context, pdu.encode_command(command), 1) + p_data(context, file[meta:], 0)


def streams(files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    release = pdu._pdu(pdu.RELEASE_RQ, bytes(4))
    both = associate([(CT, [EXPLICIT, IMPLICIT]), (VERIFICATION, [IMPLICIT])])
    one = store(1, files["explicit"])
    echo = pdu.encode_command({pdu.SOP_CLASS: VERIFICATION, pdu.FIELD: pdu.C_ECHO_RQ,
                               pdu.MESSAGE_ID: 9, pdu.DATA_SET_TYPE: pdu.NO_DATA_SET})  # fmt: skip
    cancel = pdu.encode_command({pdu.FIELD: pdu.C_CANCEL_RQ, pdu.RESPONDED_TO: 1,
                                 pdu.DATA_SET_TYPE: pdu.NO_DATA_SET})  # fmt: skip
    yield "store", both + one + release
    yield "stores", both + b"".join(store(1, written(i)) for i in images(3, 5)) + release
    yield "store-twice", both + one + one + release
    yield "echo", both + p_data(3, echo, 1) + release
    yield "echo-store-echo", both + p_data(3, echo, 1) + one + p_data(3, echo, 1) + release
    yield "cancel", both + p_data(1, cancel, 1) + one + release
    yield "abort", both + one[: len(one) // 2] + pdu._pdu(pdu.ABORT, bytes(4))
    yield "implicit", associate([(CT, [IMPLICIT])]) + store(1, files["implicit"]) + release
    yield "deflated", associate([(CT, [DEFLATED])]) + store(1, files["deflated"]) + release
    yield "rle", associate([(CT, [ENCODED["rle"][0]])], 0) + store(1, files["rle"]) + release
    yield "small-pdus", associate([(CT, [EXPLICIT])], 128) + one + release
    yield "many", associate([(CT, [EXPLICIT])] * 128) + one + release
    yield "ask-and-answer", commitments() + release


def commitments() -> bytes:
    """An association of a peer that asks and answers storage commitment, and both of it."""
    said = dict(promises())
    roles = {PUSH_MODEL: Roles(scu=True, scp=True)}
    proposed = [Proposed(1, PUSH_MODEL, (EXPLICIT,))]
    action: dict[int, int | str] = {
        pdu.REQUESTED_CLASS: PUSH_MODEL, pdu.REQUESTED_INSTANCE: PUSH_MODEL_INSTANCE,
        pdu.FIELD: pdu.N_ACTION_RQ, pdu.ACTION_TYPE: 1, pdu.MESSAGE_ID: 1,
        pdu.DATA_SET_TYPE: pdu.DATA_SET,
    }  # fmt: skip
    event: dict[int, int | str] = {
        pdu.SOP_CLASS: PUSH_MODEL, pdu.SOP_INSTANCE: PUSH_MODEL_INSTANCE,
        pdu.FIELD: pdu.N_EVENT_REPORT_RQ, pdu.EVENT_TYPE: 2, pdu.MESSAGE_ID: 2,
        pdu.DATA_SET_TYPE: pdu.DATA_SET,
    }  # fmt: skip
    stream = pdu.request("CT1", "SCANSIDE", proposed, 16384, roles)
    stream += p_data(1, pdu.encode_command(action), 1) + p_data(1, said["1-True-False"][2:], 0)
    return stream + p_data(1, pdu.encode_command(event), 1) + p_data(1, said["2-True-True"][2:], 0)


def series() -> Iterator[tuple[str, bytes]]:
    def framed(files: list[bytes]) -> bytes:
        return b"".join(struct.pack("<I", len(file)) + file for file in files)

    yield "chest", framed([written(i) for i in images(12)])
    yield "short", framed([written(i) for i in images(3)])
    yield "twice", framed([written(i) for i in images(4)] * 2)
    yield "rle", framed([encoded(i, "rle") for i in images(12, 3)])
    yield "multi-frame", framed([written(multi_frame(12))])


def radiographs() -> Iterator[tuple[str, bytes]]:
    """One with each way to say how it is shown; of a patient called SECRET."""
    y, x = np.mgrid[:24, :20]
    pixels = (40 * y + 60 * x + 200 * ((x + y) % 2)).astype(np.uint16)
    table = Dataset()
    table.LUTDescriptor = [64, 0, 8]
    table.add_new(0x00283006, "OW", np.arange(64, dtype="<u2").tobytes())
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "no_window": {"WindowCenter": None, "WindowWidth": None, "PixelPaddingValue": 0},
        "tables": {"VOILUTSequence": [table], "ModalityLUTSequence": [table]},
        "sigmoid": {"VOILUTFunction": "SIGMOID", "PatientOrientation": ["F", "R"]},
        "polygon": {"ShutterShape": "POLYGONAL",
                    "VerticesOfThePolygonalShutter": [1, 1, 24, 1, 24, 20]},
        "circle": {"CollimatorShape": "CIRCULAR", "CenterOfCircularCollimator": [12, 10],
                   "RadiusOfCircularCollimator": 9},
        "processing": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"},
    }  # fmt: skip
    for name, tags in ways.items():
        image = radiograph.instance(pixels)
        image.PatientName = "SECRET^NAME"
        for tag, value in tags.items():
            if value is None:
                del image[tag]
            else:
                setattr(image, tag, value)
        yield name, written(image)


def commands() -> Iterator[tuple[str, bytes]]:
    report = "7bd57c66-b840-5348-bfcc-67f4c5659be8"
    for verb in ("ping", "pause", "resume", "update-check", "resend", "none"):
        payload = {"id": "7", "reply_to": f"{ROOT}/reply/desk/7"}
        if verb == "resend":
            payload["report_id"] = report
        yield verb, f"{ROOT}/cmd/{verb}".encode() + b"\0" + json.dumps(payload).encode()
    yield "empty", f"{ROOT}/cmd/ping".encode() + b"\0"


def promises() -> Iterator[tuple[str, bytes]]:
    """As pydicom writes them: type of the event, whether VRs are explicit, the data set."""
    for kind, explicit, open_ended in itertools.product((1, 2), (False, True), (False, True)):
        items = [Dataset() for _ in range(3)]
        for n, item in enumerate(items):
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, f"1.2.3.{n}"
            item.is_undefined_length_sequence_item = open_ended
        said = Dataset()
        said.TransactionUID = "2.25.7"
        said.RetrieveAETitle = "PACS"
        said.ReferencedSOPSequence = items[:2]
        if kind == 2:
            items[2].FailureReason = 0x0112
            said.FailedSOPSequence = items[2:]
        for element in said:
            element.is_undefined_length = open_ended and element.VR == "SQ"
        file = DicomBytesIO()
        file.is_little_endian, file.is_implicit_VR = True, not explicit
        write_dataset(file, said)
        head = bytes((kind, explicit))
        yield f"{kind}-{explicit}-{open_ended}", head + bytes(file.getvalue())


def entries() -> Iterator[tuple[str, bytes]]:
    """One as it is kept, and one whose sections are open (targets.with_streams)."""
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]]
    shape = (4, 5, 6)
    hu = np.zeros((CUBE,) * 3, np.int16)
    cube = Grid(hu.shape, (0.8,) * 3, np.diag([0.8, 0.8, 0.8, 1.0])[[2, 1, 0, 3]])
    facts = Facts(
        person=Person(key="0" * 64),
        names=ImageNames(study_uid="1.2", series_uid="1.2.3", sop_class_uid=CT),
        pseudonym="0" * 32,
        spacing_mm=(1.0, 0.7, 0.7),
        bundle_digest="a" * 64,
        pixel_digest="b" * 64,
        candidates=(Scored(score=0.5, center_lps_mm=(1.0, 2.0, 3.0)),),
        threshold=0.5,
    )
    report = Report(
        report_id=uuid.UUID(int=0),
        input_digest="b" * 64,
        revision=1,
        status=Status.ANALYSED,
        stage=Stage.FINAL,
        study=StudyRef(pseudonym="0" * 32),
        series=SeriesRef(slices=10),
        bundle=BundleRef(name="lung-nodule", version="1.0.0", digest="a" * 64),
        backend=BackendRef(name="reference", precision="fp32"),
    )
    values = np.arange(120, dtype=np.uint8).reshape(shape)
    image = Image(values, values > 60, values > 20, Grid(shape, (2.0,) * 3, matrix))
    for name, cubes in (
        ("bare", ()),
        ("cube", (Cube((1.0, 2.0, 3.0), 0.5, 1, None, hu, cube, hu == 0),)),
    ):
        data = packed.pack(Entry(facts, report, image, cubes, ""))
        yield name, data
        opened, at = [data[:42]], 42
        while at < len(data):
            length = int.from_bytes(data[at : at + 4], "little")
            section = zlib.decompress(data[at + 4 : at + 4 + length])
            opened += [struct.pack("<I", len(section)), section]
            at += 4 + length
        yield f"{name}-open", b"".join(opened)


def bundles(bundle: bytes) -> dict[str, list[tuple[str, bytes]]]:
    entries = archive.read(bundle)
    npz = next(data for name, data in sorted(entries.items()) if name.endswith("classify.npz"))
    one, array = io.BytesIO(), np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(one, array)
    other = io.BytesIO()
    np.save(other, np.asfortranarray(array[:, :, 0]))
    small = dict.fromkeys(("a", "b/c", "manifest.json"), b"x")
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    sealed = archive.write(entries | {"manifest.sig": key.sign(entries["manifest.json"])})
    return {
        "archive": [("bundle", bundle), ("signed", sealed), ("small", archive.write(small))],
        "manifest": [("tiny", entries["manifest.json"])],
        "golden": [("npz", npz), ("array", one.getvalue()), ("fortran", other.getvalue())],
        "network": [(n, data) for n, data in sorted(entries.items()) if n.endswith(".onnx")],
        "key": [("pem", pem), ("raw", raw)],
    }


def main(folder: Path, bundle: Path, real: list[Path]) -> None:
    warnings.simplefilter("ignore")
    files = dict(dicom_files(real))
    seeds = {
        "peek": list(files.items()),
        "decode": list(files.items()),
        "radiograph": list(radiographs()),
        "series": list(series()),
        "dul": list(streams(files)),
        "cmd": list(commands()),
        "promise": list(promises()),
        "entry": list(entries()),
        **bundles(bundle.read_bytes()),
    }
    for target, inputs in seeds.items():
        (folder / target).mkdir(parents=True)
        for name, data in inputs:
            (folder / target / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
