"""A bundle as bytes: an uncompressed POSIX ustar (IEEE Std 1003.1, pax: ustar interchange format).

Rules of writing. Names sorted, mode 0644, owner 0, mtime 0, no padding but the two end blocks: the
same entries always give the same bytes.

Rules of reading; what breaks one is refused with code `bundle_archive`.
1. Nothing is ever unpacked to disk: entries are bytes in memory, under names that match FileName,
   so there is no absolute path, no `..` and no backslash, and no name comes twice.
2. Only regular files. A link, device, folder or extension header (pax, GNU long name) is refused.
3. At most 256 entries and 256 MB; a size is compared with what is there before it is used.
4. Both end blocks must be there, and after them only zeros: what was cut off is not half accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import BinaryIO

from appliance.bundle.manifest import FILE_NAME
from appliance.errors import BundleRefused

MAX_BYTES = 256_000_000
"""Of the whole archive, headers included."""
MAX_ENTRIES = 256
SUFFIX = ".scanside"

_BLOCK = 512
_END = b"\0" * (2 * _BLOCK)
_NAME = re.compile(FILE_NAME)
_MAX_NAME = 100
_OCTAL = re.compile(rb" *([0-7]{1,12})[ \0]*")
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a pipe",
    b"7": "a contiguous file",
    b"x": "an extension header (pax)",
    b"g": "an extension header (pax)",
    b"L": "an extension header (GNU long name)",
    b"K": "an extension header (GNU long name)",
    b"S": "a sparse file",
}


def write(entries: Mapping[str, bytes]) -> bytes:
    """Entries by name -> archive: the same entries, the same bytes. BundleRefused as in `read`."""
    if len(entries) > MAX_ENTRIES:
        raise _refused(f"{len(entries)} entries; at most {MAX_ENTRIES} are allowed")
    parts: list[bytes] = []
    total = len(_END)
    for name in sorted(entries):
        data = entries[name]
        _check_name(name)
        padding = -len(data) % _BLOCK
        total += _BLOCK + len(data) + padding
        if total > MAX_BYTES:
            raise _refused(f"larger than {MAX_BYTES} bytes with {name}")
        parts += [_header(name, len(data)), data, b"\0" * padding]
    return b"".join([*parts, _END])


def read(source: bytes | BinaryIO) -> dict[str, bytes]:
    """Archive -> entries by name, in the order they stand. BundleRefused says what is wrong."""
    data = source if isinstance(source, bytes) else source.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _refused(f"larger than {MAX_BYTES} bytes")
    entries: dict[str, bytes] = {}
    at = 0
    while True:
        header = data[at : at + _BLOCK]
        if len(header) < _BLOCK:
            raise _refused(f"cut off after {len(data)} bytes: the end of the archive is missing")
        if not any(header):
            break
        name, size = _entry(header, at)
        at += _BLOCK
        if size > len(data) - at:
            raise _refused(f"cut off: {name} should have {size} bytes, {len(data) - at} are there")
        if name in entries:
            raise _refused(f"{name} comes twice")
        if len(entries) == MAX_ENTRIES:
            raise _refused(f"more than {MAX_ENTRIES} entries")
        entries[name] = data[at : at + size]
        at += size + -size % _BLOCK
    if len(data) - at < len(_END):
        raise _refused(f"cut off after {len(data)} bytes: the end of the archive is missing")
    if data.count(0, at) != len(data) - at:
        raise _refused("there are bytes after the end of the archive")
    return entries


def _header(name: str, size: int) -> bytes:
    """One ustar header block; the checksum counts its own field as spaces."""
    head = name.encode("ascii").ljust(100, b"\0")
    head += b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    tail = b"0".ljust(101, b"\0") + b"ustar\x0000"
    block = (head + b" " * 8 + tail).ljust(_BLOCK, b"\0")
    return head + b"%06o\0 " % sum(block) + block[156:]


def _entry(header: bytes, at: int) -> tuple[str, int]:
    """Header block -> name and size of a regular file."""
    if sum(header) - sum(header[148:156]) + 8 * 0x20 != _number(header[148:156], at):
        raise _refused(f"the header at byte {at} is damaged, or this is no bundle")
    if header[257:262] != b"ustar":
        raise _refused(f"the header at byte {at} is not ustar")
    raw = header[:100].split(b"\0", 1)[0]
    if header[257:265] == b"ustar\x0000" and (prefix := header[345:500].split(b"\0", 1)[0]):
        raw = prefix + b"/" + raw
    name = raw.decode("latin-1")
    kind = header[156:157]
    if kind not in (b"0", b"\0"):
        what = _KINDS.get(kind, f"an entry of type {kind!r}")
        raise _refused(f"{_shown(name)} is {what}; only regular files are allowed")
    _check_name(name)
    return name, _number(header[124:136], at)


def _number(field: bytes, at: int) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise _refused(f"the header at byte {at} is damaged, or this is no bundle")
    return int(match.group(1), 8)


def _check_name(name: str) -> None:
    if len(name) > _MAX_NAME or _NAME.fullmatch(name) is None:
        raise _refused(f"the name {_shown(name)} is not allowed")


def _shown(name: str) -> str:
    """A hostile name as one short ASCII literal."""
    return ascii(name[:60])


def _refused(text: str) -> BundleRefused:
    return BundleRefused(
        f"bundle archive: {text}",
        remedy="Fetch the bundle again; `python -m compile pack` writes what is accepted.",
        code="bundle_archive",
    )
