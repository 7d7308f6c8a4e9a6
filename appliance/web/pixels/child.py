"""The process that decodes what is shown. Images come from others, and decoders are written in C.

    python -m appliance.web.pixels.child   < questions   > answers   (asked.py)

Rules
- It is given bytes and gives pixels. It opens nothing: after its libraries are loaded it may open
  no further file or socket (RLIMIT_NOFILE), write no file (RLIMIT_FSIZE) and leave no core. Where
  the system lets it, it has a network of its own, with nothing in it (unshare(2)).
- Memory: what it has when it is ready and ROOM_BYTES (RLIMIT_AS). Where the machine runs out of
  memory it is the first to be ended. Time: LIMIT_S an answer, after which the system ends it;
  whoever asked does so before. Inference goes first (nice).
- HU are rounded to whole numbers and cut to 16 bits. Of an instance with several frames the frames
  are kept for the next question.
- It says by an empty answer that it is ready. It ends when nobody asks any more: at the end of its
  input, or after IDLE_S.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.pixels import get_decoder

from appliance.dicom.storage import RADIOGRAPHS
from appliance.errors import SeriesRefused
from appliance.preprocess import projection
from appliance.records import Vector
from appliance.series import decoders, elements, pixels, radiograph
from appliance.series.elements import Elements, failed
from appliance.series.header import MAX_HEADER_BYTES
from appliance.web.pixels import asked as pipe
from appliance.web.pixels import planes, scale
from appliance.web.pixels.asked import (
    MOST_BYTES,
    MOST_PIXELS,
    Answered,
    Asked,
    Described,
    Matrix,
    Place,
)

ROOM_BYTES = 1 << 30
LIMIT_S = 30
IDLE_S = 300.0
NICE = 10
MOST_FRAMES = 4096
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000  # sched.h
_NO_NEW_RIGHTS = 38  # prctl.h: PR_SET_NO_NEW_PRIVS
_ROWS, _COLUMNS = 0x00280010, 0x00280011


@dataclass
class _Held:
    """The frames of the last instance that had several."""

    images: tuple[NDArray[np.int16], ...] = ()


def answer(asked: Asked, data: bytes, held: _Held) -> tuple[Answered, memoryview]:
    """One question -> its answer. Nothing is raised: what goes wrong is said."""
    if asked.what == "describe":
        at = list(accumulate(asked.sizes, initial=0))
        parts = (data[low:high] for low, high in pairwise(at))
        return Answered(described=tuple(_described(part) for part in parts)), memoryview(b"")
    try:
        if asked.what == "planes":
            return _picture(planes.of_pair(data, asked.frame, asked.when), bits=8)
        return _image(asked, data, held)
    except BaseException as e:
        if not failed(e):
            raise
        held.images = ()
        return _wrong(_why(e))


def _described(data: bytes) -> Described:
    try:
        return Described(places=_places(data))
    except BaseException as e:
        if not failed(e):
            raise
        return Described(error=_why(e))


def _why(error: BaseException) -> str:
    """What went wrong, in words of ours."""
    if isinstance(error, SeriesRefused):
        return error.reason.text
    if isinstance(error, planes.NoCubes):
        return str(error)
    if isinstance(error, MemoryError):
        return "to show this image takes more memory than it may have"
    return f"the image cannot be read ({type(error).__name__})"


def _wrong(text: str) -> tuple[Answered, memoryview]:
    return Answered(error=text), memoryview(b"")


def _places(data: bytes) -> tuple[Place, ...]:
    parsed = pixels.parse(data)
    number = parsed.header.instance_number
    if parsed.header.sop_class_uid in RADIOGRAPHS:
        shown = radiograph.read(data, max_pixels=radiograph.MAX_PIXELS)
        rows, columns = shown.stored.shape
        said = elements.parse(data, scale.TAGS, pixels=False, max_bytes=MAX_HEADER_BYTES)
        size = scale.of(said.elements)
        return (
            Place(
                rows=rows,
                columns=columns,
                number=number,
                aspect=shown.aspect,
                scale_mm=None if size is None else size.width_mm(shown.to_stored),
                scale_at=None if size is None else size.at,
                to_stored=_matrix(shown.to_stored),
            ),
        )
    rows, columns = (_size(parsed.instance.elements, tag) for tag in (_ROWS, _COLUMNS))
    return tuple(
        Place(
            rows=rows,
            columns=columns,
            number=number,
            position=frame.geometry.position_lps_mm,
            row=frame.geometry.row_lps,
            column=frame.geometry.column_lps,
            spacing=frame.geometry.spacing_mm,
            aspect=frame.geometry.spacing_mm[0] / frame.geometry.spacing_mm[1],
        )
        for frame in pixels.frames(parsed)[:MOST_FRAMES]
    )


def _size(e: Elements, tag: int) -> int:
    return e.integer(tag, "Rows" if tag == _ROWS else "Columns") or 0


def _matrix(values: NDArray[np.float64]) -> Matrix:
    def line(n: int) -> Vector:
        a, b, c = values[n].tolist()
        return a, b, c

    return line(0), line(1), line(2)


def _image(asked: Asked, data: bytes, held: _Held) -> tuple[Answered, memoryview]:
    if not asked.held:
        held.images = ()
        parsed = pixels.parse(data)
        if parsed.header.sop_class_uid in RADIOGRAPHS:
            shown = radiograph.read(data)
            grey = np.rint(255 * projection.display(shown)).astype(np.uint8)
            return _picture(grey, bits=8)
        images = pixels.images(parsed, max_pixels=MOST_PIXELS)
        if len(images) == 1 and asked.frame == 0:
            return _picture(_whole(images[0].hu))
        held.images = tuple(_whole(image.hu) for image in images)
    if not 0 <= asked.frame < len(held.images):
        return _wrong(f"there is no frame {asked.frame + 1}")
    made, data_ = _picture(held.images[asked.frame])
    return made.model_copy(update={"held": True}), data_


def _picture(values: NDArray[Any], *, bits: int = 16) -> tuple[Answered, memoryview]:
    rows, columns = values.shape
    made = Answered(rows=rows, columns=columns, bits=8 if bits == 8 else 16)
    return made, np.ascontiguousarray(values).data.cast("B")


def _whole(hu: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.int16]:
    """HU in 16 bits, little-endian."""
    if hu.dtype != np.int16:
        hu = np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
    return np.asarray(hu, "<i2")


# What it may do.


def _load() -> None:
    """Everything that a decoder would load when it is first asked."""
    for syntax in decoders.TABLE:
        get_decoder(syntax)
    for name in ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode"):
        with suppress(Exception):  # of an empty code: what counts is that it is loaded
            getattr(imagecodecs, name)(b"")
    planes.of_pair(planes.like(), 0, "now")


def _confine() -> None:
    """After this nothing can be opened (see the rules)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.nice(NICE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        libc.unshare(_NEW_USER | _NEW_NETWORK)  # where that is not allowed it has no socket anyway
    libc.prctl(_NO_NEW_RIGHTS, 1, 0, 0, 0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    room = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _serve(questions: int, answers: int) -> None:
    held = _Held()
    pipe.send(answers, pipe.packed(Answered(), b""))  # it is ready

    def read(size: int) -> bytes:
        parts, left = [], size
        while left:
            part = os.read(questions, min(left, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    while select.select([questions], [], [], IDLE_S)[0]:
        try:
            text, data = pipe.unpacked(read, MOST_BYTES)
        except EOFError:
            return
        signal.alarm(LIMIT_S)
        made, image = answer(Asked.model_validate_json(text), data, held)
        del data
        pipe.send(answers, pipe.packed(made, image))
        pipe.send(answers, image)
        signal.alarm(0)


def main() -> int:
    """Answers until nobody asks any more."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    _load()
    _confine()
    with suppress(BrokenPipeError):
        _serve(0, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
