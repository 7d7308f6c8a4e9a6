"""Every decoder of a lossless syntax gives the words that were coded; real files' quirks decode."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from appliance.dicom import syntaxes
from appliance.reasons import Code
from appliance.series import codestream, decoders, pixels
from appliance.series.layout import Layout

DCMTK = {
    syntaxes.JPEG_BASELINE: ("dcmcjpeg", "+eb"),
    syntaxes.JPEG_EXTENDED: ("dcmcjpeg", "+ee"),
    syntaxes.JPEG_LOSSLESS_SV1: ("dcmcjpeg", "+e1"),
    syntaxes.JPEG_LS: ("dcmcjpls", "+el"),
    syntaxes.JPEG_LS_NEAR: ("dcmcjpls", "+en"),
}
PYDICOM = {
    syntaxes.RLE: "pylibjpeg",
    syntaxes.JPEG_LS: "pyjpegls",
    syntaxes.JPEG_2000_LOSSLESS: "pylibjpeg",
}
PADDINGS = (b"\xff", b"\x20", b"\xcc\xcc", b"\x33\x33\x33", b"\0" * 5, b"\xff" * 14)

Coded = Callable[[NDArray[Any], str], tuple[bytes, Layout]]


def chest(kind: type, bits: int) -> NDArray[Any]:
    """64 x 48 words over all `bits`, smooth enough to be an image."""
    y, x = np.mgrid[:48, :64]
    wave = (np.sin(x / 9) + np.cos(y / 7) + 2) / 4
    words = np.round(wave * ((1 << bits) - 1)).astype(np.int64)
    if kind is np.int16:
        words -= 1 << bits - 1
    return words.astype(kind)


WORDS = {
    "12 bits": (chest(np.uint16, 12), 12),
    "16 bits": (chest(np.uint16, 16), 16),
    "12 bits, signed": (chest(np.int16, 12), 12),
    "16 bits, signed": (chest(np.int16, 16), 16),
    "8 bits": (chest(np.uint8, 8), 8),
}


def image(make: Any, words: NDArray[Any], bits: int) -> Dataset:
    ds: Dataset = make.ct(stored=words, BitsStored=bits, RescaleIntercept="0")
    ds["PixelData"].VR = "OB" if words.dtype.itemsize == 1 else "OW"
    return ds


def by_dcmtk(make: Any, ds: Dataset, folder: Path, tool: str, *options: str) -> Dataset:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"no {tool} (apt install dcmtk)")
    raw, coded = folder / "raw.dcm", folder / "coded.dcm"
    raw.write_bytes(make.bytes(ds))
    subprocess.run([program, *options, "--uid-never", raw, coded], check=True, capture_output=True)
    return dcmread(coded)


def frame(ds: Dataset) -> bytes:
    return next(generate_frames(ds.PixelData, number_of_frames=1))


def form(ds: Dataset) -> Layout:
    signed = bool(ds.PixelRepresentation)
    return Layout(ds.Rows, ds.Columns, 1, ds.BitsAllocated, ds.BitsStored, signed, "MONOCHROME2")


def assert_each_decodes_to(ds: Dataset, words: NDArray[Any]) -> None:
    syntax, code = str(ds.file_meta.TransferSyntaxUID), frame(ds)
    if syntax != syntaxes.RLE:
        code = code[: codestream.end(code)]
    for decoder in decoders.TABLE[syntax]:
        found = decoder(code, form(ds), syntax)
        kept = (1 << ds.BitsStored) - 1
        np.testing.assert_array_equal(found.astype(np.int64) & kept, words.astype(np.int64) & kept)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("syntax", PYDICOM)
def test_every_decoder_gives_the_words_that_pydicom_coded(
    make: Any, syntax: str, name: str
) -> None:
    words, bits = WORDS[name]
    ds = image(make, words, bits)
    make.compressed(ds, syntax, encoding_plugin=PYDICOM[syntax])
    assert_each_decodes_to(ds, words)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize(
    ("tool", "options"),
    [
        ("dcmcjpeg", ("+e1",)),
        *(("dcmcjpeg", ("+el", "+sv", str(n))) for n in range(1, 8)),
        ("dcmcjpls", ("+el",)),
    ],
    ids=str,
)
def test_every_decoder_gives_the_words_that_dcmtk_coded(
    make: Any, tmp_path: Path, tool: str, options: tuple[str, ...], name: str
) -> None:
    words, bits = WORDS[name]
    ds = by_dcmtk(make, image(make, words, bits), tmp_path, tool, *options)
    assert_each_decodes_to(ds, words)


@pytest.mark.parametrize(("option", "name", "most"), [("+eb", "8 bits", 4), ("+ee", "12 bits", 64)])
def test_lossy_jpeg_is_near_what_was_coded(
    make: Any, tmp_path: Path, option: str, name: str, most: int
) -> None:
    words, bits = WORDS[name]
    ds = by_dcmtk(make, image(make, words, bits), tmp_path, "dcmcjpeg", option)
    (found,) = pixels.read(make._written(ds, ds.file_meta.TransferSyntaxUID))
    assert np.abs(found.hu.astype(int) - words).max() <= most


def test_each_accepted_compressed_syntax_has_a_decoder_and_nothing_else_has() -> None:
    assert set(decoders.TABLE) == {row.uid for row in syntaxes.TABLE if row.encapsulated}


def test_what_may_lose_has_one_decoder() -> None:
    assert all(len(decoders.TABLE[row.uid]) == 1 for row in syntaxes.TABLE if row.lossy)


@pytest.fixture
def coded(make: Any, tmp_path: Path) -> Callable[[str], Dataset]:
    """coded(syntax) -> an image of 12 bits (8 for Baseline) in it."""

    def of(syntax: str) -> Dataset:
        words, bits = WORDS["8 bits" if syntax == syntaxes.JPEG_BASELINE else "12 bits"]
        ds = image(make, words, bits)
        if syntax in DCMTK:
            return by_dcmtk(make, ds, tmp_path, *DCMTK[syntax])
        make.compressed(ds, syntax, encoding_plugin=PYDICOM[syntax])
        return ds

    return of


def read_with(make: Any, ds: Dataset, code: bytes) -> Any:
    """What `pixels.read` makes of the image with this code, and nothing behind it but a zero."""
    ds.PixelData = encapsulate([code + b"\0" * (len(code) % 2)], has_bot=False)
    ds["PixelData"].is_undefined_length = True
    (found,) = pixels.read(make._written(ds, UID(ds.file_meta.TransferSyntaxUID)))
    return found


@pytest.mark.parametrize("padding", PADDINGS, ids=bytes.hex)
@pytest.mark.parametrize("syntax", [*DCMTK, syntaxes.JPEG_2000_LOSSLESS])
def test_padding_behind_the_end_marker_changes_nothing(
    make: Any, coded: Callable[[str], Dataset], syntax: str, padding: bytes
) -> None:
    ds = coded(syntax)
    code = frame(ds)
    code = code[: codestream.end(code)]
    plain = read_with(make, ds, code)
    padded = read_with(make, ds, code + padding)
    assert padded.digest == plain.digest


@pytest.mark.parametrize("fill", [1, 2, 7])
@pytest.mark.parametrize("syntax", [syntaxes.JPEG_LS, syntaxes.JPEG_LS_NEAR])
def test_zeros_before_the_end_marker_of_jpeg_ls_change_nothing(
    make: Any, coded: Callable[[str], Dataset], syntax: str, fill: int
) -> None:
    ds = coded(syntax)
    code = frame(ds)
    code = code[: codestream.end(code)]
    plain = read_with(make, ds, code)
    assert read_with(make, ds, code[:-2] + bytes(fill) + codestream.END).digest == plain.digest


def test_a_jpeg_ls_code_that_lacks_data_is_not_mended(
    make: Any, coded: Callable[[str], Dataset]
) -> None:
    ds = coded(syntaxes.JPEG_LS)
    code = frame(ds)
    code = code[: codestream.end(code)]
    ds.PixelData = encapsulate([code[:-9] + b"\0\0" + codestream.END], has_bot=False)
    assert make.code(make._written(ds, UID(syntaxes.JPEG_LS))) is Code.UNDECODABLE_PIXELS


def test_the_second_decoder_reads_what_the_first_will_not(
    make: Any, coded: Callable[[str], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = coded(syntaxes.JPEG_2000_LOSSLESS)
    code = frame(ds)
    plain = read_with(make, ds, code)
    _, second = decoders.TABLE[syntaxes.JPEG_2000_LOSSLESS]

    def broken(code: bytes, form: Layout, syntax: str) -> Any:
        raise ValueError("this one fails")

    monkeypatch.setitem(decoders.TABLE, syntaxes.JPEG_2000_LOSSLESS, (broken, second))
    assert read_with(make, ds, code).digest == plain.digest
