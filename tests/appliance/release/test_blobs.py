"""A file and back: the very bytes that were signed, or nothing."""

from __future__ import annotations

import struct

import pytest
import zstandard

from appliance.bundle import archive
from appliance.errors import ReleaseRefused
from appliance.release import blobs
from appliance.release.record import MAX_LIST_BYTES, Blob, Contents, Entry, write


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000], ids=["none", "one", "many"])
@pytest.mark.parametrize("dense", [True, False])
def test_what_is_packed_comes_back(data: bytes, dense: bool) -> None:
    blob, frame = blobs.pack(data, dense=dense)
    assert blob.packed == len(frame)
    assert blobs.unpack(blob, frame) == data
    assert blobs.pack(data, dense=dense) == (blob, frame)


def test_a_frame_that_was_changed_anywhere_is_refused() -> None:
    data = b"".join(struct.pack(">I", n * n) for n in range(200))
    blob, frame = blobs.pack(data)
    codes = set()
    for at in range(len(frame)):
        changed = frame[:at] + bytes([frame[at] ^ 0x10]) + frame[at + 1 :]
        try:
            # a bit of the frame's head that is reserved may change and mean nothing
            codes.add("" if blobs.unpack(blob, changed) == data else "other bytes")
        except ReleaseRefused as e:
            codes.add(e.code)
    assert (
        {"blob_frame", "blob_digest"} <= codes <= {"", "blob_frame", "blob_digest", "blob_length"}
    )


@pytest.mark.parametrize("change", [slice(0, -1), slice(1, None), slice(0, 0)])
def test_a_frame_that_was_cut_is_refused(change: slice) -> None:
    blob, frame = blobs.pack(b"some bytes" * 50)
    cut = frame[change]
    same = blob.model_copy(update={"packed": max(1, len(cut))})
    with pytest.raises(ReleaseRefused):
        blobs.unpack(same, cut)
    with pytest.raises(ReleaseRefused) as refused:
        blobs.unpack(blob, cut)
    assert refused.value.code == "blob_length"


def test_what_stands_behind_the_end_of_a_frame_is_refused() -> None:
    blob, frame = blobs.pack(b"some bytes")
    for more in (b"\0", frame):
        longer = blob.model_copy(update={"packed": len(frame + more)})
        with pytest.raises(ReleaseRefused) as refused:
            blobs.unpack(longer, frame + more)
        assert refused.value.code == "blob_frame"


def test_a_frame_that_says_no_length_or_a_wrong_one_is_refused() -> None:
    data = b"\0" * 100_000
    blob, honest = blobs.pack(data)
    silent = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(data)
    assert zstandard.frame_content_size(honest) == len(data)
    for frame in (silent, honest.replace(struct.pack("<I", len(data)), struct.pack("<I", 70_000))):
        assert frame != honest
        for length in (len(data), 70_000):
            said = Blob(digest=blob.digest, length=length, packed=len(frame))
            with pytest.raises(ReleaseRefused):
                blobs.unpack(said, frame)


def test_a_list_that_is_longer_than_any_list_is_not_unpacked() -> None:
    blob, frame = blobs.pack(b" " * (MAX_LIST_BYTES + 1))
    for read in (blobs.read_contents, blobs.read_lock):
        with pytest.raises(ReleaseRefused) as refused:
            read(blob, frame)
        assert refused.value.code == "blob_length"


def test_a_bundle_comes_out_again_of_its_files(tiny_bytes: bytes) -> None:
    entries = archive.read(tiny_bytes)
    files = tuple(
        Entry(name=name, **blobs.pack(entries[name])[0].model_dump()) for name in sorted(entries)
    )
    contents = Contents(digest=blobs.digest(tiny_bytes), length=len(tiny_bytes), files=files)
    blob, frame = blobs.pack(write(contents))
    assert blobs.rebuild(blobs.read_contents(blob, frame), entries) == tiny_bytes
    name = next(one for one in entries if one.endswith(".onnx"))
    with pytest.raises(ReleaseRefused) as refused:
        blobs.rebuild(contents, {**entries, name: entries[name] + b"\0"})
    assert refused.value.code == "bundle_rebuilt"
