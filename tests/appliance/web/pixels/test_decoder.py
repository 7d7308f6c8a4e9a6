"""The process that decodes: every syntax, hostile files, its limits, and what replaces it."""

from __future__ import annotations

import os
import signal
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from appliance.dicom import syntaxes
from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.preprocess import projection
from appliance.series import pixels, radiograph
from appliance.web.pixels import child
from appliance.web.pixels.asked import Place
from appliance.web.pixels.decoder import HEAD_BYTES, Busy, Decoder, NotShown
from rigs.xray import Xray

PATIENCE_S = 60.0
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder(limit_s=PATIENCE_S)
    yield made
    made.close()


def slice_of(hu: NDArray[np.int16]) -> Dataset:
    """One CT image."""
    return next(instances.series(Phantom(hu[None], (2.0, 0.7, 0.9), (-10.0, 5.0, 7.0), ())))


def ramp(rows: int = 48, columns: int = 64) -> NDArray[np.int16]:
    y, x = np.mgrid[:rows, :columns]
    return (y * 30 - x * 7 - 500).astype(np.int16)


def answer(decoder: Decoder, data: bytes, name: str = "one", frame: int = 0) -> NDArray[np.int16]:
    said, found = decoder.image(name, frame, lambda: data)
    kind = "<i2" if said.bits == 16 else "u1"
    return np.frombuffer(found, kind).reshape(said.rows, said.columns)


def described(decoder: Decoder, data: bytes) -> tuple[Place, ...]:
    (found,) = decoder.describe("one", [data])
    assert found.error is None
    return found.places


def coded(image: Dataset, code: bytes, syntax: str) -> bytes:
    image.PixelData = encapsulate([code])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = UID(syntax)
    return instances.packed(image)


def deflated(image: Dataset, more: bytes = b"") -> bytes:
    """The image under Deflated Explicit VR Little Endian, and bytes behind it, deflated too."""
    image.file_meta.TransferSyntaxUID = UID(syntaxes.EXPLICIT_LE)
    plain = instances.packed(image)
    length = int(struct.unpack_from("<I", plain, 140)[0])
    begin = 144 + length
    image.file_meta.TransferSyntaxUID = UID(syntaxes.DEFLATED_LE)
    head = instances.packed(image)
    end = 144 + int(struct.unpack_from("<I", head, 140)[0])
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return head[:end] + squeeze.compress(plain[begin:] + more) + squeeze.flush()


def test_an_image_comes_as_hu_and_with_its_place(decoder: Decoder) -> None:
    hu = ramp()
    data = instances.packed(slice_of(hu))
    np.testing.assert_array_equal(answer(decoder, data), hu)
    places = described(decoder, data)
    assert [(one.rows, one.columns, one.number) for one in places] == [(48, 64, 1)]
    assert places[0].position == (-10.0, 5.0, 7.0)
    assert places[0].spacing == (0.7, 0.9)
    assert places[0].aspect == pytest.approx(0.7 / 0.9)


def test_the_beginning_of_a_file_is_enough_for_its_place(decoder: Decoder) -> None:
    data = instances.packed(slice_of(ramp(256, 256)))
    found = decoder.describe("some", [data, data[:HEAD_BYTES], data[:400], b""])
    assert found[1] == found[0]
    assert [one.error is None for one in found] == [True, True, False, False]


@pytest.mark.parametrize("syntax", [syntaxes.RLE, syntaxes.JPEG_LS, syntaxes.JPEG_2000_LOSSLESS])
def test_a_compressed_image_is_decoded_although_nothing_can_be_opened(
    decoder: Decoder, syntax: str
) -> None:
    image, hu = slice_of(ramp()), ramp()
    image.compress(UID(syntax), generate_instance_uid=False)
    np.testing.assert_array_equal(answer(decoder, instances.packed(image)), hu)


@pytest.mark.parametrize("syntax", [syntaxes.JPEG_LOSSLESS_SV1, syntaxes.JPEG_BASELINE])
def test_a_jpeg_is_decoded_although_nothing_can_be_opened(decoder: Decoder, syntax: str) -> None:
    lossless = syntax == syntaxes.JPEG_LOSSLESS_SV1
    words = (ramp() // 16 + 100).clip(0, 255).astype(np.uint8 if not lossless else np.uint16)
    image = slice_of(ramp())
    image.BitsAllocated, image.BitsStored, image.PixelRepresentation = 8 * words.itemsize, 8, 0
    if lossless:
        image.BitsStored = 16
    image.HighBit, image.RescaleIntercept = image.BitsStored - 1, 0
    code = imagecodecs.jpeg8_encode(words, level=95, lossless=lossless)
    data = coded(image, code, syntax)
    expected = pixels.read(data)[0].hu
    np.testing.assert_array_equal(answer(decoder, data), expected)
    assert np.ptp(expected) > 10


def test_fractions_are_rounded_and_values_cut_to_sixteen_bits(decoder: Decoder) -> None:
    image = slice_of(ramp())
    image.RescaleSlope, image.RescaleIntercept = "40.25", "0"
    data = instances.packed(image)
    expected = np.clip(np.rint(pixels.read(data)[0].hu), -32768, 32767).astype(np.int16)
    np.testing.assert_array_equal(answer(decoder, data), expected)
    assert expected.max() == 32767


def test_a_radiograph_comes_upright_and_grey_as_it_is_displayed(decoder: Decoder) -> None:
    made = Xray()
    data = made.bytes(made.image(PatientOrientation=["F", "R"]))
    shown = radiograph.read(data)
    said, found = decoder.image("x", 0, lambda: data)
    assert said.bits == 8
    grey = np.frombuffer(found, np.uint8).reshape(said.rows, said.columns)
    np.testing.assert_array_equal(grey, np.rint(255 * projection.display(shown)).astype(np.uint8))
    places = described(decoder, data)
    assert (places[0].rows, places[0].columns) == shown.stored.shape
    assert places[0].to_stored is not None
    np.testing.assert_allclose(places[0].to_stored, shown.to_stored)


def multi_frame(count: int) -> bytes:
    image = slice_of(ramp())
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID(ENHANCED_CT)
    image.NumberOfFrames = count
    frames = [ramp() + 1024 + n for n in range(count)]
    image.PixelData = np.stack(frames).astype("<i2").tobytes()
    shared, own = Dataset(), []
    orientation, measures, values = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.7, 0.9]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024, "HU"
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [values]
    for n in range(count):
        position, one = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, n]
        one.PlanePositionSequence = [position]
        own.append(one)
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = own
    return instances.packed(image)


def test_an_instance_of_several_frames_is_sent_once(decoder: Decoder) -> None:
    data, sent = multi_frame(3), []
    places = described(decoder, data)
    assert [one.position for one in places] == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]

    def read() -> bytes:
        sent.append(1)
        return data

    for frame in (2, 0, 1):
        _, found = decoder.image("many", frame, read)
        np.testing.assert_array_equal(np.frombuffer(found, "<i2"), (ramp() + frame).ravel())
    assert len(sent) == 1
    with pytest.raises(NotShown, match="no frame 4"):
        decoder.image("many", 3, read)


# Hostile files: each is refused with its reason, and the process goes on with the next one.


def bomb(image: Dataset) -> bytes:
    """A code of a few bytes that claims 65535 x 65535 pixels."""
    image.Rows = image.Columns = 65535
    code = b"\xff\xd8\xff\xf7\x00\x0b\x10\xff\xff\xff\xff\x01\x01\x11\x00\xff\xd9"
    return coded(image, code, syntaxes.JPEG_LS)


def without_pixels(image: Dataset) -> bytes:
    image.Rows = image.Columns = 65535
    return instances.packed(image)


def truncated(image: Dataset) -> bytes:
    words = (ramp() + 1024).astype(np.uint16)
    code = imagecodecs.jpeg8_encode(words, lossless=True)
    return coded(image, code[: len(code) // 2], syntaxes.JPEG_LOSSLESS_SV1)


def broken(image: Dataset) -> bytes:
    words = (ramp() + 1024).astype(np.uint16)
    code = bytearray(imagecodecs.jpeg8_encode(words, lossless=True))
    code[len(code) // 2 : len(code) // 2 + 40] = bytes(range(0xC0, 0xC0 + 40))
    return coded(image, bytes(code), syntaxes.JPEG_2000_LOSSLESS)


HOSTILE: dict[str, Callable[[Dataset], bytes]] = {
    "65535 x 65535 in the header": without_pixels,
    "65535 x 65535 in the code": bomb,
    "a truncated JPEG": truncated,
    "a code of another kind": broken,
    "no DICOM": lambda _: b"\0" * 4096,
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_the_next_image_is_shown(decoder: Decoder, name: str) -> None:
    good = instances.packed(slice_of(ramp()))
    answer(decoder, good)
    before = decoder.pid
    data = HOSTILE[name](slice_of(ramp()))
    with pytest.raises(NotShown) as caught:
        answer(decoder, data, "bad")
    assert caught.value.text
    np.testing.assert_array_equal(answer(decoder, good), ramp())
    assert decoder.pid == before


@pytest.mark.long
def test_a_decompression_bomb_gets_no_more_memory_than_it_may_have(decoder: Decoder) -> None:
    image = slice_of(ramp())
    data = deflated(image, bytes(640 << 20))
    assert len(data) < 2 << 20
    good = instances.packed(slice_of(ramp()))
    answer(decoder, good)
    before = decoder.pid
    with pytest.raises(NotShown):
        answer(decoder, data, "bomb")
    assert decoder.pid == before
    assert peak_bytes(before) < 2 * child.ROOM_BYTES
    np.testing.assert_array_equal(answer(decoder, good), ramp())


def peak_bytes(pid: int | None) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


# What the process may do.


def test_it_can_open_nothing_and_has_limits(decoder: Decoder) -> None:
    answer(decoder, instances.packed(slice_of(ramp())))
    proc = Path(f"/proc/{decoder.pid}")
    limits = proc.joinpath("limits").read_text(encoding="ascii")
    soft = {line[:25].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert soft["Max open files"] == "0"
    assert soft["Max file size"] == "0"
    assert soft["Max core file size"] == "0"
    assert int(soft["Max address space"]) < 4 * child.ROOM_BYTES
    opened = {os.readlink(one).partition(":")[0] for one in proc.joinpath("fd").iterdir()}
    assert "socket" not in opened
    assert proc.joinpath("oom_score_adj").read_text(encoding="ascii").strip() == "1000"
    assert "NoNewPrivs:\t1" in proc.joinpath("status").read_text(encoding="ascii")


def test_it_has_a_network_of_its_own_where_the_system_lets_it(decoder: Decoder) -> None:
    answer(decoder, instances.packed(slice_of(ramp())))
    if os.geteuid() != 0:
        pytest.skip("only root is sure to get one")
    assert os.readlink(f"/proc/{decoder.pid}/ns/net") != os.readlink("/proc/self/ns/net")


def test_one_that_was_ended_between_two_questions_is_replaced(decoder: Decoder) -> None:
    data = instances.packed(slice_of(ramp()))
    answer(decoder, data)
    before = decoder.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    np.testing.assert_array_equal(answer(decoder, data), ramp())
    assert decoder.pid not in {None, before}


def test_one_that_does_not_answer_is_ended_and_after_the_second_time_its_image_is_refused() -> None:
    decoder = Decoder(limit_s=PATIENCE_S)
    data = instances.packed(slice_of(ramp()))
    try:
        answer(decoder, data)
        stopped = decoder.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        decoder.limit_s = 0.2
        with pytest.raises(Busy, match="is replaced"):
            answer(decoder, data, "slow")
        decoder.limit_s = PATIENCE_S
        np.testing.assert_array_equal(answer(decoder, data), ramp())
        after = decoder.pid
        assert after not in {None, stopped}
        np.testing.assert_array_equal(answer(decoder, data, "slow"), ramp())
        os.kill(after or 0, signal.SIGSTOP)
        decoder.limit_s = 0.2
        with pytest.raises(Busy, match="is replaced"):
            answer(decoder, data, "slow")
        decoder.limit_s = PATIENCE_S
        with pytest.raises(NotShown, match="ended the program"):
            answer(decoder, data, "slow")
        np.testing.assert_array_equal(answer(decoder, data), ramp())
    finally:
        decoder.close()


def test_who_comes_when_enough_wait_is_sent_away_at_once() -> None:
    decoder = Decoder(limit_s=PATIENCE_S, waiting=1)
    data = instances.packed(slice_of(ramp()))
    reading, go_on = threading.Event(), threading.Event()

    def slowly() -> bytes:
        reading.set()
        assert go_on.wait(PATIENCE_S)
        return data

    first = threading.Thread(target=lambda: decoder.image("one", 0, slowly))
    first.start()
    try:
        assert reading.wait(PATIENCE_S)
        with pytest.raises(Busy):
            answer(decoder, data, "two")
    finally:
        go_on.set()
        first.join(PATIENCE_S)
    np.testing.assert_array_equal(answer(decoder, data, "two"), ramp())
    decoder.close()


def test_it_is_there_before_anybody_asks_where_it_was_called() -> None:
    decoder = Decoder(limit_s=PATIENCE_S)
    decoder.warm()
    before = decoder.pid
    assert before is not None
    np.testing.assert_array_equal(answer(decoder, instances.packed(slice_of(ramp()))), ramp())
    assert decoder.pid == before
    decoder.close()


def test_it_ends_with_who_asks() -> None:
    decoder = Decoder(limit_s=PATIENCE_S)
    answer(decoder, instances.packed(slice_of(ramp())))
    pid = decoder.pid
    decoder.close()
    assert decoder.pid is None
    assert not Path(f"/proc/{pid}").exists()


def test_something_else_may_go_first_before_each_image_and_before_no_description() -> None:
    passed: list[str] = []
    decoder = Decoder(limit_s=PATIENCE_S, give_way=lambda: passed.append("before"))

    def read() -> bytes:
        passed.append("read")
        return instances.packed(slice_of(ramp()))

    decoder.describe("one", [instances.packed(slice_of(ramp()))])
    assert passed == []
    decoder.image("one", 0, read)
    assert passed == ["before", "read"]
    decoder.close()
