"""What is fuzzed: each target takes bytes and raises nothing; what it raises is a finding.

Refusals by name are caught here. Beyond that each target checks what must hold of any input: an
answer of success has its file in the spool, a fold does not depend on the order of arrival, no
refusal repeats the patient's name. An instance of the seeds is of a patient called SECRET.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import struct
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from appliance import line
from appliance.bundle import archive, golden, graph, manifest, trust
from appliance.bundle.trust import Bundle
from appliance.dicom import association, commitment, pdu
from appliance.dicom.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from appliance.errors import BundleRefused, InstanceRefused, SeriesRefused
from appliance.preprocess import projection
from appliance.preprocess.spec import Collimation, Display, Square
from appliance.prior import packed
from appliance.publish import commands
from appliance.receive.intake import Intake
from appliance.receive.peek import peek
from appliance.records import Result
from appliance.report import Status
from appliance.results.message import Command
from appliance.series import pixels, radiograph
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.spool import Spool

Target = Callable[[bytes], None]
SECRET = "SECRET"
RADIOGRAPH_OPS = (Display(), Collimation(), Square(size=8))
ROOT = "scanside/v1/site/device"
SENDER = {"ae_title": "CT1", "host": "127.0.0.1", "commitment": "CT1@127.0.0.1:104"}
ARCHIVE = {"name": "pacs", "host": "127.0.0.1", "called_ae": "CT1", "commitment": True}
"""The same peer, so that it may ask and answer storage commitment."""
EMPTY_EVERY = 500
"""Inputs after which what was stored is thrown away, so that the folders stay small."""


def _tag(group: int, element: int) -> bytes:
    return struct.pack("<HH", group, element)


_ITEMS = [_tag(0xFFFE, 0xE000), _tag(0xFFFE, 0xE00D), _tag(0xFFFE, 0xE0DD)]
_DICOM = [
    *(b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN "
      b"UR US UT UV").split(),
    *_ITEMS, b"\xff\xff\xff\xff", b"\0\0\0\0", _ITEMS[0] + b"\xff\xff\xff\xff",
    b"SQ\0\0\xff\xff\xff\xff", b"OB\0\0\xff\xff\xff\xff", b"UN\0\0\xff\xff\xff\xff",
    *(_tag(0x0028, e) for e in (2, 4, 8, 0x10, 0x11, 0x30, 0x100, 0x101, 0x102, 0x103, 0x120,
      0x121, 0x1052, 0x1053, 0x1054, 0x3000, 0x9110)),
    *(_tag(0x0020, e) for e in (0xD, 0xE, 0x12, 0x13, 0x32, 0x37, 0x52, 0x9111, 0x9113, 0x9116)),
    *(_tag(0x0008, e) for e in (5, 8, 0x16, 0x18, 0x60, 0x1140)), _tag(0x0018, 0x50),
    _tag(0x0018, 0x1120), _tag(0x5200, 0x9229), _tag(0x5200, 0x9230), _tag(0x7FE0, 0x10),
    _tag(0x7FE0, 8), _tag(0x7FE0, 1), _tag(0x0002, 0x10),
    *(f"1.2.840.10008.1.2{end}".encode() for end in ("", ".1", ".2", ".1.99", ".5", ".4.50",
      ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.201", ".4.203", ".4.100")),
    b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.1.1.2.1", b"../../etc", b"MONOCHROME1",
    b"RGB", b"LOCALIZER", b"DERIVED", b"SECRET^NAME", b"1\\0\\0\\0\\1\\0", b"0\\0\\0\\0\\0\\0",
    *(bytes((0xFF, mark)) for mark in (0xD8, 0xD9, 0xC0, 0xC3, 0xC4, 0xDA, 0xDB, 0xF7, 0xF8, 0x4F,
      0x51, 0x52, 0x5C, 0x90, 0x93, 0x91, 0x64)),
]  # fmt: skip
_RADIOGRAPH = [
    *_DICOM,
    *(_tag(0x0028, e) for e in (0x34, 0x1040, 0x1041, 0x1050, 0x1051, 0x1056, 0x3002, 0x3006,
      0x3010)),
    *(_tag(0x0018, e) for e in (0x1164, 0x1600, 0x1602, 0x1604, 0x1606, 0x1608, 0x1610, 0x1612,
      0x1620, 0x1700, 0x1720, 0x5101)),
    _tag(0x0020, 0x20), _tag(0x0054, 0x220), _tag(0x2050, 0x20),
    b"RECTANGULAR", b"CIRCULAR", b"POLYGONAL", b"INVERSE", b"IDENTITY", b"SIGMOID", b"LINEAR_EXACT",
    b"LATERAL", b"F\\R", b"A\\F", b"1e30", b"-1", b"0", b"1.2.840.10008.5.1.4.1.1.1.1.1",
]  # fmt: skip
_DUL = [
    *(bytes((kind, 0)) for kind in (*range(10), 0x10, 0x20, 0x21, 0x30, 0x40, 0x50, 0x51, 0x52,
      0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0xFF)),
    *(bytes((kind, 0)) + struct.pack(">I", length) for kind in (1, 4, 5, 7)
      for length in (0, 4, 6, 68, 0xFFFFFFFF)),
    *(struct.pack(">IBB", size, 1, control) for size in (2, 6, 0xFFFFFFFF) for control in range(4)),
    *(struct.pack("<HHI", 0, element, length) for element in (0, 2, 0x100, 0x110, 0x800, 0x1000)
      for length in (0, 2, 4, 0xFFFFFFFF)),
    *(struct.pack("<H", field) for field in (1, 0x8001, 0x10, 0x20, 0x21, 0x30, 0x100, 0x0FFF,
      0x101)),
    b"SCANSIDE        ", b"CT1             ",
]  # fmt: skip
_JSON = [token.encode() for token in (
    "{", "}", "[", "]", ",", ":", '"', "null", "true", "false", "NaN", "Infinity", "-Infinity",
    "1e999", "-1", "1.5", "99999999999999999999", '"\\u0000"', '"\\ud800"', '"../x"', '{"":',
    "[" * 50, '{"a":' * 50, '"op":"patch"', '"op":"crop"', '"version":2', '"schema":"x"', "[1,-1]",
)]  # fmt: skip
_COMMAND = [token.encode() for token in (
    '"reply_to"', '"report_id"', '"id"', f'"{ROOT}/reply/x"', f'"{ROOT}/reply/+"', "/cmd/", "#",
    f"{ROOT}/reply/../status", f"{ROOT}/cmd/resend", f"{ROOT}/cmd/pause", f"{ROOT}/cmd/ping",
    '"00000000-0000-0000-0000-000000000000"', "\u2028", "\0",
)]  # fmt: skip
_NPY = [b"\x93NUMPY\x01\0", b"'descr': '<f4'", b"'|O'", b"'<f8'", b"'fortran_order': True",
        b"(1,)", b"(-1,)", b"(4294967296, 4294967296)", b"(0, 9)", b"()", b"(" * 60, b"PK\3\4",
        b"PK\1\2", b"PK\5\6"]  # fmt: skip
_ONNX = [
    b"Loop",
    b"If",
    b"Scan",
    b"Constant",
    b"Resize",
    b"ConstantOfShape",
    b"ai.onnx.ml",
    b"com.microsoft",
    b"location",
    b"/etc/passwd",
    b"\x6a\x04",
    b"\x70\x01",
    b"\x32\x00",
    b"\x3a\x00",
    b"\xca\x01\x00",
    b"\x0a\x00",
    b"\x2a\x00",
    b"\xff" * 9 + b"\x01",
    b"\x08\x80\xca\xb5\xee\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\x42\x04\x0a\x00\x10\x12",
]
WORDS = {
    "peek": _DICOM,
    "decode": _DICOM,
    "radiograph": _RADIOGRAPH,
    "series": _DICOM,
    "dul": [*_DUL, *_DICOM],
    "archive": [b"ustar\x0000", b"ustar  \0", b"0", b"1", b"2", b"5", b"x", b"L", b"../", b"/",
                b"manifest.json", b"manifest.sig", b"77777777777\0", b"\x80", bytes(512)],
    "manifest": _JSON,
    "golden": _NPY,
    "network": _ONNX,
    "entry": [*_JSON, b"SCANPRIO\x01\x00", b"SCANPRIO\x02\x00", b'"shape":[48,48,48]',
              b'"shape":[1024,1024,24]', b'"shape":[1,1,1]', b'"body":true', b'"finding":1',
              b'"version":1', b'"cubes":[]', b"\x78\x5e\xed\xc1", bytes(4), b"\xff\xff\xff\xff"],
    "key": [b"-----BEGIN PUBLIC KEY-----", b"\n", b"=", b"-----BEGIN EC PRIVATE KEY-----"],
    "cmd": [*_JSON, *_COMMAND],
    "promise": [
        *_DICOM,
        *(_tag(0x0008, e) for e in (0x1150, 0x1155, 0x1195, 0x1197, 0x1198, 0x1199)),
    ],
}  # fmt: skip


@contextmanager
def opened(name: str, seeds: Path) -> Iterator[Target]:
    """The target of that name; `seeds` is the folder of all seeds."""
    if name == "dul":
        with tempfile.TemporaryDirectory() as folder:
            one = Receiving(Path(folder))
            yield one
            one.journal.close()
    elif name == "series":
        bundle = (seeds / "archive" / "bundle").read_bytes()
        yield Series(trust.check(bundle).bundle)
    else:
        yield PLAIN[name]


def a_look(data: bytes) -> None:
    said = ""
    try:
        peek(data)
    except InstanceRefused as e:
        said = e.text
    assert SECRET not in said


def a_decode(data: bytes) -> None:
    with suppress(SeriesRefused):
        pixels.header(data)
    said = ""
    try:
        for image in pixels.read(data):
            assert image.hu.ndim == 2
    except SeriesRefused as e:
        said = f"{e.text} {e.reason}"
    assert SECRET not in said


def a_radiograph(data: bytes) -> None:
    said = ""
    try:
        seen = projection.tensor(radiograph.read(data), RADIOGRAPH_OPS)
        assert isinstance(seen, str) or np.all((seen.values >= 0) & (seen.values <= 1))
    except SeriesRefused as e:
        said = f"{e.text} {e.reason}"
    assert SECRET not in said


class Series:
    """A series through the line, as far as goes without networks.

    Input: instances, each with its length before it (4 bytes, little endian); what is left is one.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __call__(self, data: bytes) -> None:
        instances = list(self.instances(data))
        result = self.result(instances)
        assert result.status is Status.NOT_ANALYSED
        assert result.reasons
        assert SECRET not in f"{result.reasons} {result.limitations}"
        if zlib.crc32(data) % 4 == 0:
            assert result == self.result(instances[::-1]), "the order of arrival counts"

    def result(self, instances: list[bytes]) -> Result:
        fold = line.begin([self.bundle])
        for one in instances:
            fold = line.add(fold, one)
        return line.finish(fold, self.bundle, None)

    @staticmethod
    def instances(data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 4], "little")
            if length > len(data) - at - 4:
                yield data[at:]
                return
            yield data[at + 4 : at + 4 + length]
            at += 4 + length


class Receiving:
    """One association of `receive` on a socket pair, with a real spool and journal behind it.

    Input: all that the peer ever sends, which then closes its half of the connection.
    """

    def __init__(self, state: Path) -> None:
        allow = {"allow": [SENDER], "commitment": "relay"}
        keys = {"dicom": allow, "retain": {"reserve_mb": 0}, "deliver": [ARCHIVE]}
        self.settings = Settings.model_validate({"state": state, **keys})
        self.state = state
        self.tried = 0
        self._open()

    def _open(self) -> None:
        self.journal = Journal.open(self.state)
        self.spool = Spool(self.state)

    def __call__(self, data: bytes) -> None:
        self.tried += 1
        if self.tried % EMPTY_EVERY == 0:
            self.journal.close()
            for path in self.state.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._open()
        ours, peer = socket.socketpair()
        with ours, peer:
            for end in (ours, peer):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 << 20)
            peer.settimeout(5)
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            intake = Intake(self.settings, self.journal, self.spool, host="127.0.0.1")
            association.serve(ours, intake, max_pdu=16384, idle_s=5.0)
            ours.close()
            answer = b"".join(iter(lambda: peer.recv(1 << 16), b""))
        self.check(answer)

    def check(self, answer: bytes) -> None:
        """Whole PDUs, and a file for each success; nothing half is left behind."""
        at, command = 0, b""
        while at < len(answer):
            kind, length = struct.unpack_from(">BxI", answer, at)
            assert kind in {2, 3, 4, 6, 7}
            assert length <= len(answer) - at - 6
            if kind == pdu.P_DATA:
                command += answer[at + 12 : at + 6 + length]
                if answer[at + 11] & 2:
                    self.stored(pdu.parse_command(command))
                    command = b""
            at += 6 + length
        assert not command
        assert not any((self.state / "incoming").iterdir())
        assert not self.journal.series.open_associations()
        assert not self.journal.commitments.to_tell(1), "nothing was asked of an archive yet"

    def stored(self, said: dict[int, int | str]) -> None:
        if (said[pdu.FIELD], said[pdu.STATUS]) == (pdu.C_STORE_RQ | pdu.RESPONSE, 0):
            name = f"{said[pdu.SOP_INSTANCE]}.dcm"
            assert any(self.state.glob(f"spool/*/*/{name}")), f"no file {name} of a success"


def an_archive(data: bytes) -> None:
    """As it came, and with its header sums made right, so that what lies behind them is reached."""
    for one in (data, with_sums(data)):
        with suppress(BundleRefused):
            loaded = trust.check(one, "0.1.0")
            assert archive.read(one)
            with suppress(BundleRefused):
                trust.signer(loaded, ())


def with_sums(data: bytes) -> bytes:
    """A ustar archive whose headers have the sums that belong to them, as far as it can be read."""
    whole, at = bytearray(data), 0
    while at + 512 <= len(whole) and any(whole[at : at + 512]):
        total = sum(whole[at : at + 512]) - sum(whole[at + 148 : at + 156]) + 8 * 0x20
        whole[at + 148 : at + 156] = b"%06o\0 " % (total & 0o777777)
        size = bytes(whole[at + 124 : at + 135]).strip(b"\0 ")
        at += 512 + -(-int(size, 8) // 512) * 512 if size and not size.strip(b"01234567") else 512
    return bytes(whole)


def a_manifest(data: bytes) -> None:
    with suppress(BundleRefused):
        read = manifest.read(data, "0.1.0")
        again = manifest.read(manifest.write(read))
        assert again == read
        assert manifest.write(again) == manifest.write(read)


def a_golden(data: bytes) -> None:
    """An .npz, or one array that is put into one with the right sum."""
    if not data.startswith(b"PK"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as npz:
            npz.writestr("input.npy", data)
        data = file.getvalue()
    with suppress(BundleRefused):
        for array in golden.arrays("case", data).values():
            assert array.nbytes <= len(data) << 12


def a_network(data: bytes) -> None:
    """What is accepted has nothing that is forbidden, as the library of ONNX reads it."""
    with suppress(BundleRefused):
        graph.check("network.onnx", data)
        try:
            model = onnx.load_from_string(data)
        except DecodeError:  # such as a name that is no UTF-8: nothing runs it
            return
        assert not model.functions
        assert {one.domain for one in model.opset_import} <= {"", "ai.onnx"}
        for node in model.graph.node:
            assert node.domain in {"", "ai.onnx"}
            assert not any(a.HasField("g") or a.graphs for a in node.attribute)
        constants = [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
        for tensor in [*model.graph.initializer, *constants]:
            assert tensor.data_location == onnx.TensorProto.DEFAULT
            assert not tensor.external_data
            assert all(0 <= dim <= graph.MAX_AXIS for dim in tensor.dims)


def a_key(data: bytes) -> None:
    with suppress(BundleRefused):
        trust.public_key("one.pub", data)


class Desk:
    def resend(self, report_id: uuid.UUID) -> int:
        assert isinstance(report_id, uuid.UUID)
        return 0

    def check_for_update(self) -> bool:
        return False

    def set_paused(self, paused: bool) -> bool:
        return paused


def a_command(data: bytes) -> None:
    """Topic, NUL, payload."""
    topic, _, payload = data.partition(b"\0")
    for retained in (False, True):
        found = commands.parse(ROOT, topic.decode("utf-8", "replace"), payload, retained=retained)
        if found.reply_to is not None:
            assert found.reply_to.startswith("reply/")
            assert not set(found.reply_to) & set("+#\0")
        if isinstance(found, commands.Asked):
            assert not retained
            assert isinstance(found.command, Command)
            json.dumps(commands.obey(found, Desk()).text)


def a_promise(data: bytes) -> None:
    """Type of the event, whether VRs are explicit, and a data set of storage commitment: what is
    read is written and read again as the same."""
    kind, syntax = data[:1] or b"\0", EXPLICIT_LE if data[1:2] == b"\1" else IMPLICIT_LE
    with suppress(commitment.Malformed):
        asked = commitment.read_request(data[2:], syntax)
        assert commitment.read_request(commitment.written_request(asked, syntax), syntax) == asked
    with suppress(commitment.Malformed):
        said = commitment.read_answer(kind[0], data[2:], syntax)
        assert commitment.read_answer(*commitment.written_answer(said, syntax), syntax) == said


def an_entry(data: bytes) -> None:
    """As it came; with the digest that belongs to it; and with its sections packed, as if they had
    been open: so that what lies behind these is reached."""
    for one in (data, sealed(data), sealed(with_streams(data))):
        with suppress(ValueError):
            read = packed.unpacked(one)
            again = packed.unpacked(packed.pack(read))
            assert (again.facts, again.report) == (read.facts, read.report)
            assert [cube.center_lps_mm for cube in again.cubes] == [
                cube.center_lps_mm for cube in read.cubes
            ]
            assert np.array_equal(again.image.values, read.image.values)


def sealed(data: bytes) -> bytes:
    """An entry whose digest is that of what lies behind it."""
    return data[:10] + hashlib.sha256(data[42:]).digest() + data[42:]


def with_streams(data: bytes) -> bytes:
    """An entry, each section of which is the zlib stream of what stood there."""
    made, at = [data[:42]], 42
    while at + 4 <= len(data):
        length = min(int.from_bytes(data[at : at + 4], "little"), len(data))
        stream = zlib.compress(data[at + 4 : at + 4 + length], 1)
        made += [struct.pack("<I", len(stream)), stream]
        at += 4 + length
    return b"".join(made)


PLAIN: dict[str, Target] = {
    "peek": a_look,
    "decode": a_decode,
    "radiograph": a_radiograph,
    "archive": an_archive,
    "manifest": a_manifest,
    "golden": a_golden,
    "network": a_network,
    "key": a_key,
    "cmd": a_command,
    "promise": a_promise,
    "entry": an_entry,
}
