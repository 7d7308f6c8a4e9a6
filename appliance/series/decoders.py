"""One compressed frame -> its words: a table of which library decodes what. Pure.

Rules.
1. The fastest decoder of a syntax comes first (docs/decisions/0005-decoders.md has the figures).
2. Of a lossless syntax every decoder gives the same words, so where the first fails a second one
   may read what the first will not. Of a lossy one there is no second: two decoders differ by a
   grey level, and the same image must always be the same image. Its report
   names the one.
3. A second one must be as strict as the first, and must never end the process: that leaves JPEG
   and RLE with one.
4. Zeros that CharLS will not have between data and end marker are taken away
   (`codestream.unfilled`).

None of them is given a code whose header names another size than the instance (`decode`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import imagecodecs
import jpeg_ls
import openjpeg
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from appliance.dicom import syntaxes
from appliance.series import codestream
from appliance.series.elements import failed
from appliance.series.layout import Layout

Stored = NDArray[Any]
Decode = Callable[[bytes, Layout, str], Stored]
"""(code, form, transfer syntax) -> [rows, columns] of words; raises what it likes."""


def named(uids: Iterable[str | None]) -> str:
    """The libraries, with their versions, that decode what may lose of these transfer syntaxes."""
    rows = (syntaxes.BY_UID.get(uid or "") for uid in uids)
    found = {_NAMES[TABLE[row.uid][0]] for row in rows if row is not None and row.lossy}
    return ", ".join(sorted(found))


def decode(code: bytes, form: Layout, syntax: str) -> Stored:
    """[rows, columns] of words of one frame; raises what its first decoder raised."""
    return _first_of([(decoder, code) for decoder in TABLE[syntax]], form, syntax)


def _first_of(ways: Iterable[tuple[Decode, bytes]], form: Layout, syntax: str) -> Stored:
    """What the first way that does not fail says; raises what the very first one raised."""
    errors: list[BaseException] = []
    for decoder, code in ways:
        try:
            return decoder(code, form, syntax)
        except BaseException as e:
            if not failed(e):
                raise
            errors.append(e)
    raise errors[0]


def _by_pydicom(plugin: str) -> Decode:
    def decoded(code: bytes, form: Layout, syntax: str) -> Stored:
        values, _ = get_decoder(syntax).as_array(
            encapsulate([code], has_bot=False),
            raw=True,
            decoding_plugin=plugin,
            rows=form.rows,
            columns=form.columns,
            samples_per_pixel=1,
            photometric_interpretation=form.photometric,
            number_of_frames=1,
            bits_allocated=form.allocated,
            bits_stored=form.stored,
            pixel_representation=int(form.signed),
            pixel_keyword="PixelData",
        )
        words: Stored = values
        return words

    return decoded


def _unfilled(decoder: Decode) -> Decode:
    """The same decoder, with the zeros taken away that stand before the end marker (rule 4)."""

    def decoded(code: bytes, form: Layout, syntax: str) -> Stored:
        ways = ((decoder, one) for one in (code, *codestream.unfilled(code)))
        return _first_of(ways, form, syntax)

    return decoded


def _jpeg(code: bytes, _form: Layout, _syntax: str) -> Stored:
    words: Stored = imagecodecs.jpeg8_decode(code)
    return words


def _jpeg_ls(code: bytes, _form: Layout, _syntax: str) -> Stored:
    words: Stored = imagecodecs.jpegls_decode(code)
    return words


def _jpeg_2000(code: bytes, _form: Layout, _syntax: str) -> Stored:
    words: Stored = imagecodecs.jpeg2k_decode(code)
    return words


_JPEG_LS = _unfilled(_by_pydicom("pyjpegls"))
_OPENJPEG = _by_pydicom("pylibjpeg")
TABLE: dict[str, tuple[Decode, ...]] = {
    syntaxes.RLE: (_by_pydicom("pylibjpeg"),),
    syntaxes.JPEG_BASELINE: (_jpeg,),
    syntaxes.JPEG_EXTENDED: (_jpeg,),
    syntaxes.JPEG_LOSSLESS: (_jpeg,),
    syntaxes.JPEG_LOSSLESS_SV1: (_jpeg,),
    syntaxes.JPEG_LS: (_JPEG_LS, _unfilled(_jpeg_ls)),
    syntaxes.JPEG_LS_NEAR: (_JPEG_LS,),
    syntaxes.JPEG_2000_LOSSLESS: (_OPENJPEG, _jpeg_2000),
    syntaxes.JPEG_2000: (_OPENJPEG,),
    syntaxes.HTJ2K_LOSSLESS: (_OPENJPEG, _jpeg_2000),
    syntaxes.HTJ2K_LOSSLESS_RPCL: (_OPENJPEG, _jpeg_2000),
    syntaxes.HTJ2K: (_OPENJPEG,),
}
"""Transfer syntax -> its decoders, the first one first."""
_NAMES = {
    _jpeg: f"imagecodecs {imagecodecs.__version__}",
    _JPEG_LS: f"pyjpegls {jpeg_ls.__version__}",
    _OPENJPEG: f"pylibjpeg-openjpeg {openjpeg.__version__}",
}
"""The decoders of what may lose, as a report names them."""
