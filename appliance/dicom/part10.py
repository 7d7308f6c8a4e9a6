"""An object in a file (PS3.10 7.1), as it is sent: what its file meta says, and its data set.

Rules
- What lies in the file is sent as it is. Only explicit VR little endian is written anew as implicit
  VR little endian, the default of DICOM (PS3.5 10.1), for a peer that takes nothing else.
- A file that is missing, or broken, is Unreadable: to send it again would not help.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from appliance.errors import ScansideError

EXPLICIT: Final = "1.2.840.10008.1.2.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
_BEFORE: Final = 128 + 4 + 12
"""Bytes before what the group length of the file meta counts: preamble, prefix and that element."""


class Unreadable(ScansideError):
    """The file is missing, or no object that can be sent."""

    code = "object_unreadable"
    remedy = "Look whether the disk of the state folder is broken, then `scanside outbox drop`."


@dataclass(frozen=True, slots=True)
class Object:
    """What an association must know of an object."""

    path: Path
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    begins: int
    """Where in the file the data set begins, in bytes."""

    def data(self, transfer_syntax: str) -> tuple[BinaryIO, int]:
        """The data set in this transfer syntax, open, and its length in bytes. Unreadable."""
        if transfer_syntax != self.transfer_syntax:
            anew = self._implicit()
            return io.BytesIO(anew), len(anew)
        try:
            file = self.path.open("rb")
            file.seek(self.begins)
            return file, self.path.stat().st_size - self.begins
        except OSError as e:
            raise Unreadable(f"{self.path.name}: {e.strerror}") from e

    def whole(self) -> bytes:
        """The file as it is: preamble, file meta and data set. Unreadable."""
        try:
            return self.path.read_bytes()
        except OSError as e:
            raise Unreadable(f"{self.path.name}: {e.strerror}") from e

    def _implicit(self) -> bytes:
        from pydicom import dcmread  # noqa: PLC0415 - hardly any peer needs it
        from pydicom.filebase import DicomBytesIO  # noqa: PLC0415
        from pydicom.filewriter import write_dataset  # noqa: PLC0415

        written = DicomBytesIO()
        written.is_little_endian = written.is_implicit_VR = True
        try:
            write_dataset(written, dcmread(self.path))
        except Exception as e:
            raise Unreadable(f"{self.path.name}: {type(e).__name__}: {e}"[:200]) from e
        return bytes(written.getvalue())


def read(path: Path) -> Object:
    """The object in this file. Unreadable."""
    from pydicom.filereader import read_file_meta_info  # noqa: PLC0415 - costs half a second

    try:
        meta = read_file_meta_info(path)
        return Object(
            path=path,
            sop_class=str(meta.MediaStorageSOPClassUID),
            sop_instance=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax=str(meta.TransferSyntaxUID),
            begins=_BEFORE + int(meta.FileMetaInformationGroupLength),
        )
    except OSError as e:
        raise Unreadable(f"{path.name}: {e.strerror or e}") from e
    except Exception as e:  # pydicom raises many types on broken headers
        raise Unreadable(f"{path.name}: its file meta cannot be read ({e})"[:200]) from e
