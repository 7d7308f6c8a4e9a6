"""What mutation found once, each as the smallest input that shows it; mended at its root.

The names say what must hold. Inputs are made here from valid files, so that they can be read.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from appliance import line
from appliance.errors import SeriesRefused
from appliance.lines import radiograph
from appliance.lines.radiograph import View
from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.reasons import Code
from appliance.series import assemble, pixels


def image(size: int = 8) -> Dataset:
    hu = np.random.default_rng(1).integers(-1000, 400, (1, size, size)).astype(np.int16)
    return next(iter(instances.series(Phantom(hu, (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), ()))))


def written(ds: Dataset) -> bytes:
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_an_unknown_vr_within_a_functional_group_is_refused() -> None:
    """`work` died of NotImplementedError: an element of no known VR and no length in a group."""
    group, at = Dataset(), Dataset()
    at.ImagePositionPatient = [0, 0, 0]
    group.PlanePositionSequence = Sequence([at])
    ds = image()
    ds.NumberOfFrames = 1
    ds.PerFrameFunctionalGroupsSequence = Sequence([group])
    good = written(ds)
    known = b"\x20\x00\x13\x91SQ\0\0"
    assert good.count(known) == 1
    bad = good.replace(known, b"\x20\x00\x13\x91WQ\0\0")
    with pytest.raises(SeriesRefused) as header:
        pixels.header(bad)
    assert header.value.reason.code is Code.UNREADABLE
    fold = line.add(line.begin(()), bad)
    assert [reason.code for reason in fold.share(None).refusals] == [Code.UNREADABLE]


def test_one_image_under_two_headers_is_the_same_series_in_any_order() -> None:
    """The header that was kept of one instance that came twice was that of the first to arrive."""
    (one,) = pixels.read(written(image()))
    fold = line.add(line.begin(()), written(image()))
    plane = fold.share(None).images[0]
    assert plane.digest == one.digest
    twin = replace(plane, header=replace(plane.header, study_uid="1.2.3"))
    for last in (1.0, 2.0):  # with another plane whose study tells them apart
        at = replace(plane.geometry, position_lps_mm=(0.0, 0.0, last))
        header = replace(plane.header, sop_instance_uid="1.2.4")
        other = replace(plane, geometry=at, header=header, digest="another")
        given = [plane, twin, other]
        assert assemble.assemble(given, None) == assemble.assemble(given[::-1], None)


def test_the_facts_of_an_image_that_came_under_two_headers_do_not_depend_on_the_order() -> None:
    """The report had the thickness of the header that arrived first."""
    thick, thin = image(), image()
    thick.SliceThickness, thin.SliceThickness = 10, 1
    results = [
        line.process(map(written, given), None, None) for given in ((thick, thin), (thin, thick))
    ]
    assert results[0] == results[1]
    thin.SliceThickness, thin.PatientID = 10, "another"
    last = image()
    last.SOPInstanceUID, last.ImagePositionPatient = "2.25.4", [0, 0, 5]
    twins = [written(one) for one in (thick, thin, last)]
    assert line.process(twins, None, None) == line.process(twins[::-1], None, None)
    view = View(pixels.header(written(image())), np.zeros((2, 2), np.float32), np.eye(3), "same")
    twin = replace(view, header=replace(view.header, thickness_mm=9.0))
    assert radiograph.in_order([view, twin]) == radiograph.in_order([twin, view])
    assert len(radiograph.in_order([view, twin])) == 1


def coded(size: int) -> tuple[Dataset, bytes]:
    """An image in JPEG 2000, and its codestream."""
    ds = image(size)
    ds.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    (code,) = generate_frames(ds.PixelData, number_of_frames=1)
    return ds, code[: code.rindex(b"\xff\xd9") + 2]


def jp2(size: int, first: bytes, code: bytes) -> bytes:
    """A JP2 file (ISO 15444-1 I.5) with `first` in a box of no meaning before its codestream."""

    def box(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", 8 + len(data)) + kind + data

    header = box(b"ihdr", struct.pack(">IIHBBBB", size, size, 1, 0x8F, 7, 0, 0))
    header += box(b"colr", b"\1\0\0" + struct.pack(">I", 17))
    boxes = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return boxes + box(b"uuid", bytes(16) + first) + box(b"jp2h", header) + box(b"jp2c", code)


def encapsulated(ds: Dataset, code: bytes) -> bytes:
    ds.PixelData = encapsulate([code + b"\0" * (len(code) % 2)])
    return written(ds)


def test_the_size_of_jpeg_2000_is_that_of_the_codestream_that_is_decoded() -> None:
    """2 KB cost 1.7 GB and 8 s: the size was read from the first thing that looked like one."""
    ds, code = coded(32)
    at = code.index(b"\xff\x51") + 6
    large = bytearray(code)
    for place in (at, at + 16):  # Xsiz and Ysiz, XTsiz and YTsiz (ISO 15444-1 A.5.1)
        struct.pack_into(">II", large, place, 16384, 16384)
    bomb = jp2(16384, code[:60], bytes(large))
    endless = bomb.replace(struct.pack(">I", 84) + b"uuid", bytes(4) + b"uuid")
    assert endless != bomb
    for broken in (bomb, endless, bomb[:60] + b"\xff\xd9", bytes(12) + code):
        with pytest.raises(SeriesRefused) as refusal:
            pixels.read(encapsulated(ds, broken))
        assert refusal.value.reason.code is Code.UNDECODABLE_PIXELS
        assert ("coded as 16384 x 16384" in refusal.value.text) == (broken is bomb)


def test_jpeg_2000_in_a_jp2_file_is_still_read() -> None:
    """PS3.5 A.4.4 forbids the boxes; some writers put them there."""
    ds, code = coded(32)
    (plain,) = pixels.read(written(ds))
    (same,) = pixels.read(encapsulated(ds, jp2(32, b"", code)))
    assert same.digest == plain.digest


PEAK = """
import sys
from pathlib import Path
from appliance.errors import SeriesRefused
from appliance.series import pixels
data = sys.stdin.buffer.read()
try:
    pixels.read(data)
except SeriesRefused as e:
    print(e.reason.code.value)
status = Path("/proc/self/status").read_text()  # ru_maxrss begins with what the parent held
print(int(status.partition("VmHWM:")[2].split()[0]) >> 10)
"""


def test_a_frame_larger_than_any_scanner_s_is_refused_before_memory_is_spent() -> None:
    """JPEG-LS of 300 bytes that says 16384 x 16384 cost 1.1 GB before it broke off."""
    ds = image()
    ds.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
    (code,) = generate_frames(ds.PixelData, number_of_frames=1)
    large = bytearray(code)
    struct.pack_into(">HH", large, code.index(b"\xff\xf7") + 5, 16384, 16384)
    ds.PixelData = encapsulate([bytes(large)])
    ds.Rows = ds.Columns = 16384
    done = subprocess.run(
        [sys.executable, "-c", PEAK], input=written(ds), capture_output=True, check=True, timeout=60
    )
    code_value, peak_mb = done.stdout.split()
    assert code_value == b"too_large"
    assert int(peak_mb) < 400
