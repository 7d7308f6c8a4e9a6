"""A file of the repository and back: a zstd frame (RFC 8878) for each, known by its plain bytes.

Rules.
1. `unpack` gives the very bytes whose length and SHA-256 were signed, or nothing. It never makes
   more of a frame than that length: a frame that says another length, that unpacks to more than it
   says (a blob bomb), that is cut, or that has something behind its end is refused.
2. `rebuild` makes a bundle of its files, and compares the whole with what was signed; what a bundle
   says of itself is then checked as ever (appliance.bundle.trust).
3. There are no differences between versions of a file: whole files by digest cost as little
   (a network replaced: 441 KB, the best binary difference 368 KB) and need no version before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from appliance.bundle import archive
from appliance.errors import BundleRefused, ReleaseRefused
from appliance.release.record import MAX_LIST_BYTES, Blob, Contents, Lock, read


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def pack(data: bytes, *, dense: bool = True) -> tuple[Blob, bytes]:
    """Plain bytes -> what is signed of them, and the frame. `dense` False: fast, for what is packed
    already (a wheel is a zip file)."""
    import zstandard  # noqa: PLC0415 - only who packs or unpacks needs it

    frame = zstandard.ZstdCompressor(level=19 if dense else 3, write_content_size=True).compress(
        data
    )
    return Blob(digest=digest(data), length=len(data), packed=len(frame)), frame


def unpack(blob: Blob, frame: bytes) -> bytes:
    """The plain bytes (rule 1). ReleaseRefused (`blob_length`, `blob_frame`, `blob_digest`)."""
    import zstandard  # noqa: PLC0415

    if len(frame) != blob.packed:
        raise _refused(blob, f"has {len(frame)} bytes, {blob.packed} were signed", "blob_length")
    try:
        said = zstandard.frame_content_size(frame)
        if said != blob.length:
            raise _refused(
                blob, f"would unpack to {said} bytes, {blob.length} were signed", "blob_length"
            )
        # into one piece of memory of this length: what does not fit it is an error of the library
        data = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as e:
        raise _refused(blob, f"is damaged: {str(e)[:80]}", "blob_frame") from e
    if len(data) != blob.length or digest(data) != blob.digest:
        raise _refused(blob, "holds other bytes than were signed", "blob_digest")
    return data


def read_contents(blob: Blob, frame: bytes) -> Contents:
    """The list of a bundle's files. ReleaseRefused as `unpack`, or `release_record`."""
    return read(Contents, _short(blob, frame), "the list of a bundle's files")


def read_lock(blob: Blob, frame: bytes) -> Lock:
    """The list of wheels. ReleaseRefused as `unpack`, or `release_record`."""
    return read(Lock, _short(blob, frame), "the list of wheels")


def rebuild(contents: Contents, files: Mapping[str, bytes]) -> bytes:
    """The bytes of the .scanside file (rule 2); `files` are the plain bytes by name.
    ReleaseRefused (`bundle_rebuilt`)."""
    try:
        data = archive.write({one.name: files[one.name] for one in contents.files})
    except BundleRefused as e:
        raise ReleaseRefused(e.text, code="bundle_rebuilt") from e
    if len(data) != contents.length or digest(data) != contents.digest:
        raise ReleaseRefused(
            "the files of the bundle do not make the bundle that was signed", code="bundle_rebuilt"
        )
    return data


def _short(blob: Blob, frame: bytes) -> bytes:
    """A list is unpacked only where it is as short as a list may be."""
    if blob.length > MAX_LIST_BYTES:
        raise _refused(blob, f"is longer than {MAX_LIST_BYTES} bytes", "blob_length")
    return unpack(blob, frame)


def _refused(blob: Blob, text: str, code: str) -> ReleaseRefused:
    return ReleaseRefused(
        f"{blob.path} {text}",
        code=code,
        remedy="Copy this file again from the repository where the release was made.",
    )
