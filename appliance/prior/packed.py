"""An entry as bytes, and back. Pure.

    magic 8 | version 2 | SHA-256 of all behind it 32 | sections, each: length 4, zlib stream
    sections: head (JSON) | image | lungs | covered | of each cube: HU, then its body if it has one

Rules
1. The same entry gives the same bytes, and the name of an entry is the SHA-256 of these.
2. Integers are little endian. Masks are packed bits. Of the HU of a cube all low bytes stand before
   all high bytes: noise packs better so (measured: 112 instead of 133 kB; differences along x give
   122).
3. Bytes are believed nothing: each section may become no larger than the head says, and the head no
   larger than its bound; no more memory is taken before. What is cut, changed, of another version
   or impossible is a ValueError, and nothing else is raised.
4. A version that is not known is no entry: a later release writes the version that it means.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from appliance.prior.entry import CUBE, MOST_CUBES, VERSION, Cube, Entry, Facts, Image
from appliance.records import Grid
from appliance.report import Millimetres3, Record, Report

MOST_BYTES: Final = 5_000_000
"""Of a packed entry."""
MAGIC: Final = b"SCANPRIO"
_FIXED: Final = struct.Struct("<8sH32s")
_LENGTH: Final = struct.Struct("<I")
_MOST_HEAD: Final = 2 << 20
_MOST_SIDE: Final = 1024
_MOST_VOXELS: Final = 24_000_000
"""Of the image: 57 cm cubed at 2 mm, which no chest has."""
_LEVEL: Final = 4
"""Of zlib: 6 takes almost twice as long and saves 1 %."""

Side = Annotated[int, Field(ge=1, le=_MOST_SIDE)]
Row = tuple[float, float, float, float]


class _Lattice(Record):
    """A grid, as JSON says it."""

    shape: tuple[Side, Side, Side]
    spacing_mm: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ]
    to_lps: tuple[Row, Row, Row, Row]


class _Cube(Record):
    center_lps_mm: Millimetres3
    score: float
    finding: int | None
    diameter_mm: float | None
    grid: _Lattice
    body: bool


class _Head(Record):
    facts: Facts
    report: Report
    image: _Lattice
    cubes: Annotated[tuple[_Cube, ...], Field(max_length=MOST_CUBES)]


def pack(entry: Entry) -> bytes:
    """An entry as bytes; its `digest` is not looked at, it follows from these."""
    image = entry.image
    head = _Head(
        facts=entry.facts,
        report=entry.report,
        image=_lattice(image.grid),
        cubes=tuple(
            _Cube(
                center_lps_mm=one.center_lps_mm,
                score=one.score,
                finding=one.finding,
                diameter_mm=one.diameter_mm,
                grid=_lattice(one.grid),
                body=one.body is not None,
            )
            for one in entry.cubes
        ),
    )
    sections = [head.model_dump_json(by_alias=True).encode(), image.values.tobytes()]
    sections += [np.packbits(mask).tobytes() for mask in (image.lungs, image.covered)]
    for cube in entry.cubes:
        sections.append(_apart(cube.hu))
        if cube.body is not None:
            sections.append(np.packbits(cube.body).tobytes())
    return _sealed(b"".join(_streams(sections)))


def unpacked(data: bytes) -> Entry:
    """The entry again, with its digest. ValueError for anything that `pack` did not write."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"an entry has at most {MOST_BYTES} bytes, this has {len(data)}")
    if len(data) < _FIXED.size:
        raise ValueError("it is too short for an entry")
    magic, version, digest = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("it is no entry")
    if version != VERSION:
        raise ValueError(f"it is of version {version}; version {VERSION} is known here")
    if hashlib.sha256(memoryview(data)[_FIXED.size :]).digest() != digest:
        raise ValueError("it is damaged")
    reader = _Reader(data, _FIXED.size)
    try:
        head = _Head.stored(reader.section(_MOST_HEAD, exact=False))
    except ValidationError as e:  # whose text repeats what stands there: dates, UIDs
        raise ValueError(f"its head says {e.error_count()} things that cannot be") from e
    shape = head.image.shape
    if (voxels := shape[0] * shape[1] * shape[2]) > _MOST_VOXELS:
        raise ValueError(f"its image has {voxels} voxels")
    grid = _grid(head.image)
    values = np.frombuffer(reader.section(voxels), np.uint8).reshape(shape)
    image = Image(values, reader.mask(shape), reader.mask(shape), grid)
    cubes = tuple(_cube(one, reader) for one in head.cubes)
    reader.end()
    if head.facts.version != VERSION:
        raise ValueError("its facts are of another version than it is")
    return Entry(head.facts, head.report, image, cubes, hashlib.sha256(data).hexdigest())


def named(entry: Entry) -> tuple[Entry, bytes]:
    """An entry with its digest, and its bytes."""
    data = pack(entry)
    return replace(entry, digest=hashlib.sha256(data).hexdigest()), data


def _sealed(body: bytes) -> bytes:
    return _FIXED.pack(MAGIC, VERSION, hashlib.sha256(body).digest()) + body


def _streams(sections: list[bytes]) -> Iterator[bytes]:
    for section in sections:
        stream = zlib.compress(section, _LEVEL)
        yield _LENGTH.pack(len(stream))
        yield stream


class _Reader:
    """The sections, one after another (rule 3)."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = memoryview(data), at

    def section(self, size: int, *, exact: bool = True) -> bytes:
        """The next one, of `size` bytes, or of at most so many."""
        begin = self._at + _LENGTH.size
        if len(self._data) < begin:
            raise ValueError("it ends before a section")
        end = begin + _LENGTH.unpack_from(self._data, self._at)[0]
        if len(self._data) < end:
            raise ValueError("it ends inside a section")
        stream = zlib.decompressobj()
        try:
            found: bytes = stream.decompress(self._data[begin:end], size + 1)
        except zlib.error as e:
            raise ValueError(f"a section cannot be read: {e}") from e
        fits = len(found) == size if exact else len(found) <= size
        if not (fits and stream.eof) or stream.unused_data:
            raise ValueError("a section is not as large as it should be")
        self._at = end
        return found

    def mask(self, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        count = shape[0] * shape[1] * shape[2]
        bits = np.frombuffer(self.section(-(-count // 8)), np.uint8)
        return np.unpackbits(bits, count=count).reshape(shape).view(np.bool_)

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("there is more behind it")


def _cube(one: _Cube, reader: _Reader) -> Cube:
    if one.grid.shape != (CUBE, CUBE, CUBE):
        raise ValueError(f"a cube has the shape {one.grid.shape}")
    grid = _grid(one.grid)
    hu = _together(reader.section(2 * CUBE**3))
    body = reader.mask(grid.shape) if one.body else None
    return Cube(one.center_lps_mm, one.score, one.finding, one.diameter_mm, hu, grid, body)


def _apart(hu: NDArray[np.int16]) -> bytes:
    """Rule 2."""
    pairs: NDArray[np.uint8] = hu.astype("<i2").reshape(-1).view(np.uint8).reshape(-1, 2)
    return bytes(pairs.T.tobytes())


def _together(data: bytes) -> NDArray[np.int16]:
    halves = np.frombuffer(data, np.uint8).reshape(2, -1)
    whole = np.ascontiguousarray(halves.T).reshape(-1).view("<i2").astype(np.int16)
    return whole.reshape(CUBE, CUBE, CUBE)


def _lattice(grid: Grid) -> _Lattice:
    rows = tuple(tuple(float(v) for v in row) for row in grid.to_lps)
    return _Lattice.model_validate(
        {"shape": grid.shape, "spacing_mm": grid.spacing_mm, "to_lps": rows}
    )


def _grid(lattice: _Lattice) -> Grid:
    matrix = np.array(lattice.to_lps, np.float64)
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    turned = matrix[:3, :3] / np.where(lengths > 0, lengths, 1.0)
    straight = np.allclose(lengths, lattice.spacing_mm, rtol=1e-3) and np.allclose(
        turned.T @ turned, np.eye(3), atol=1e-3
    )
    if not straight or matrix[3].tolist() != [0.0, 0.0, 0.0, 1.0]:
        raise ValueError("a grid has axes that no volume has")
    return Grid(lattice.shape, lattice.spacing_mm, matrix)
