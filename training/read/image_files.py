"""MetaImage and NIfTI files -> Volume. See the rules of `training.read.datasets`.

MetaImage (as LUNA16 ships it): a text header, its numbers in LPS, row i of TransformMatrix the
direction of index i (x first); pixels beside it (.raw), deflated (.zraw), or behind the header
(.mha). NIfTI-1: sform before qform, both in RAS+ millimetres. Both in either order of bytes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import DataError
from training.read.volume import AIR_HU, F64, Volume

META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
NIFTI_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
}  # fmt: skip
PARALLEL = 1e-3
"""Largest deviation of a direction cosine from an axis of the patient."""
MAX_VOXELS = 1 << 31
LEAST_HU = -1024.0
_MAX_HEADER = 1 << 16
_MILLIMETRES = (0, 2)  # xyzt_units & 7: unknown is taken as mm, metres and micrometres are refused


def bytes_of(path: Path) -> bytes:
    """The whole file; DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from e


def canonical(
    path: Path,
    values: npt.NDArray[Any],
    axes: F64,
    spacing: Sequence[float],
    origin: Sequence[float],
) -> Volume:
    """Values on a grid in any order of axes -> Volume.

    `axes` [3, 3]: row i is the unit direction in LPS of growing index i of `values`; `spacing` in
    mm for each index; `origin` in LPS mm is the centre of voxel [0, 0, 0].
    """
    numbers = [*np.ravel(axes), *spacing, *origin]
    if not all(math.isfinite(v) for v in numbers) or min(spacing) <= 0:
        raise DataError(f"{path}: spacing, origin or direction is no possible number")
    nearest = np.abs(axes).argmax(1)
    exact = np.zeros((3, 3))
    exact[np.arange(3), nearest] = np.sign(axes[np.arange(3), nearest])
    worst = float(np.abs(axes - exact).max())
    if worst > PARALLEL or len(set(nearest)) != 3:
        raise DataError(f"{path}: its axes are not parallel to the patient's (off by {worst:.3f})")
    order = [int(np.flatnonzero(nearest == lps)[0]) for lps in (2, 1, 0)]  # z, y, x
    out = np.transpose(values, order)
    at = np.array(origin, np.float64)
    for axis, source in enumerate(order):
        if exact[source].sum() < 0:
            out = np.flip(out, axis)
            at += exact[source] * spacing[source] * (values.shape[source] - 1)
    hu = np.array(out, np.float32, order="C")
    if not np.isfinite(hu).all():
        raise DataError(f"{path}: it holds values that are not finite")
    hu[hu < LEAST_HU] = AIR_HU
    z, y, x = (float(spacing[source]) for source in order)
    name = path.name.removesuffix(".gz")
    name = name if path.is_dir() else name.rsplit(".", 1)[0]
    return Volume(name, hu, (z, y, x), (float(at[0]), float(at[1]), float(at[2])))


def read_metaimage(path: Path) -> Volume:
    """A MetaImage of three axes and one number a voxel: .mhd with .raw or .zraw, or .mha."""
    whole = bytes_of(path)
    fields, rest = _meta_header(path, whole)
    if fields.get("NDims") != "3" or fields.get("ElementNumberOfChannels", "1") != "1":
        raise DataError(f"{path}: not three axes with one number a voxel")
    kind = META_TYPES.get(fields.get("ElementType", ""))
    if kind is None:
        raise DataError(f"{path}: ElementType is {fields.get('ElementType', 'missing')}")
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    if fields.get("BinaryData", "True").lower() != "true" or fields.get("HeaderSize", "0") != "0":
        raise DataError(f"{path}: pixels as text or behind another header are not read")
    size = [int(v) for v in _numbers(path, fields, ("DimSize",), 3)]
    name = fields["ElementDataFile"]
    beside = path if name == "LOCAL" else path.parent / name
    if name != "LOCAL" and name != Path(name).name:
        raise DataError(f"{path}: ElementDataFile {name} is no file beside it")
    data = rest if name == "LOCAL" else bytes_of(beside)
    if fields.get("CompressedData", "False").lower() == "true":
        data = _inflated(beside, data, _bytes(path, size, kind))
    values = _grid(beside, data, size, f"{'>' if big.lower() == 'true' else '<'}{kind}")
    matrix = ("TransformMatrix", "Rotation", "Orientation")
    if not any(key in fields for key in matrix):
        fields["TransformMatrix"] = "1 0 0 0 1 0 0 0 1"
    return canonical(
        path,
        values,
        np.array(_numbers(path, fields, matrix, 9)).reshape(3, 3),
        _numbers(path, fields, ("ElementSpacing",), 3),
        _numbers(path, fields, ("Offset", "Position", "Origin"), 3),
    )


def _meta_header(path: Path, whole: bytes) -> tuple[dict[str, str], bytes]:
    """Keys and values down to ElementDataFile, which is the last, and the bytes behind it."""
    fields: dict[str, str] = {}
    at = 0
    while at < min(len(whole), _MAX_HEADER):
        end = whole.find(b"\n", at)
        end = len(whole) if end < 0 else end
        key, equals, value = whole[at:end].decode("ascii", "replace").partition("=")
        if not equals:
            break
        fields[key.strip()] = value.strip()
        at = end + 1
        if key.strip() == "ElementDataFile" and value.strip():
            return fields, whole[at:]
    raise DataError(f"{path}: no MetaImage header down to ElementDataFile: half-written?")


def _numbers(path: Path, fields: dict[str, str], keys: tuple[str, ...], count: int) -> list[float]:
    text = next((fields[key] for key in keys if key in fields), None)
    if text is None:
        raise DataError(f"{path}: {keys[0]} is missing")
    try:
        found = [float(v) for v in text.split()]
    except ValueError:
        found = []
    if len(found) != count:
        raise DataError(f"{path}: {keys[0]} is not {count} numbers")
    return found


def _bytes(path: Path, size: list[int], kind: str) -> int:
    """Bytes that a grid of `size` needs; DataError where it is no possible size."""
    if min(size) < 1 or size[0] * size[1] * size[2] > MAX_VOXELS:
        raise DataError(f"{path}: a size of {' x '.join(map(str, size))} voxels")
    return size[0] * size[1] * size[2] * np.dtype(kind).itemsize


def _inflated(path: Path, data: bytes, needed: int) -> bytes:
    """A zlib stream, inflated to at most one byte more than `needed`."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, needed + 1)
    except zlib.error as e:
        raise DataError(f"{path}: its compressed pixels are broken: half-written?") from e
    if not stream.eof and len(found) <= needed:
        raise DataError(f"{path}: its compressed pixels are cut: half-written?")
    return found


def _grid(path: Path, data: bytes, size: list[int], kind: str) -> npt.NDArray[Any]:
    """Values [x, y, z] of a file whose first axis varies fastest."""
    needed = _bytes(path, size, kind)
    if len(data) != needed:
        wrong = "half-written?" if len(data) < needed else "a wrong header?"
        raise DataError(f"{path}: {len(data)} bytes of pixels where {needed} belong: {wrong}")
    return np.frombuffer(data, kind).reshape(size, order="F")


def read_nifti(path: Path) -> Volume:
    """A NIfTI-1 file (.nii, .nii.gz) of three axes."""
    whole = bytes_of(path)
    if path.suffix == ".gz":
        try:
            whole = gzip.decompress(whole)
        except (OSError, EOFError, zlib.error) as e:
            raise DataError(f"{path}: no whole gzip file: half-written?") from e
    if len(whole) < 352:
        raise DataError(f"{path}: {len(whole)} bytes are no NIfTI-1 header: half-written?")
    order = next((o for o in "<>" if struct.unpack_from(f"{o}i", whole)[0] == 348), "")
    if not order or whole[344:348] != b"n+1\0":
        raise DataError(f"{path}: no NIfTI-1 header of a single file")
    dim = struct.unpack_from(f"{order}8h", whole, 40)
    if not 3 <= dim[0] <= 7 or any(n != 1 for n in dim[4 : dim[0] + 1]):
        raise DataError(f"{path}: not three axes")
    code = struct.unpack_from(f"{order}h", whole, 70)[0]
    if code not in NIFTI_TYPES:
        raise DataError(f"{path}: data type {code} is not read")
    if whole[123] & 7 not in _MILLIMETRES:
        raise DataError(f"{path}: its lengths are not in millimetres")
    offset, slope, intercept = struct.unpack_from(f"{order}3f", whole, 108)
    if not 352 <= offset <= len(whole):
        raise DataError(f"{path}: its pixels begin at byte {offset:g}: a wrong header?")
    size, kind = [int(n) for n in dim[1:4]], order + NIFTI_TYPES[code]
    values = _grid(path, whole[int(offset) :], size, kind)
    if slope and np.isfinite(slope) and (slope, intercept) != (1.0, 0.0):
        values = values.astype(np.float32) * slope + intercept
    to_ras = _affine(path, whole, order)
    to_lps = np.diag([-1.0, -1.0, 1.0]) @ to_ras[:, :3]
    spacing = np.linalg.norm(to_lps, axis=0)
    if not (spacing > 0).all():
        raise DataError(f"{path}: its spacing is zero or no number")
    origin = to_ras[:, 3] * [-1.0, -1.0, 1.0]
    return canonical(path, values, (to_lps / spacing).T, list(spacing), list(origin))


def _affine(path: Path, whole: bytes, order: str) -> F64:
    """[3, 4]: voxel index (x, y, z, 1) -> RAS millimetres; the sform, else the qform."""
    qform, sform = struct.unpack_from(f"{order}2h", whole, 252)
    if sform > 0:
        return np.array(struct.unpack_from(f"{order}12f", whole, 280), np.float64).reshape(3, 4)
    if qform <= 0:
        raise DataError(f"{path}: neither sform nor qform says where it lies")
    handed, *pixdim = struct.unpack_from(f"{order}4f", whole, 76)
    b, c, d, *shift = struct.unpack_from(f"{order}6f", whole, 256)
    a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    scale = np.array(pixdim) * [1.0, 1.0, -1.0 if handed < 0 else 1.0]
    return np.column_stack([turn * scale, shift])
