"""An object in a file, as it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filereader import read_dataset

from appliance.dicom import part10
from appliance.dicom.part10 import EXPLICIT, IMPLICIT, Unreadable
from rigs.archive import SR_3D, written


def test_the_data_set_is_sent_as_it_lies_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3.4", filler=999)
    found = part10.read(path)
    assert (found.sop_class, found.sop_instance, found.transfer_syntax) == (
        SR_3D, "1.2.3.4", EXPLICIT,
    )  # fmt: skip
    data, length = found.data(EXPLICIT)
    with data:
        sent = data.read()
    assert len(sent) == length
    assert path.read_bytes().endswith(sent)
    assert sent[:4] == b"\x08\x00\x16\x00", "it begins with the SOP class"


def test_a_peer_that_takes_implicit_vr_alone_gets_the_same_elements(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3.4", filler=10)
    data, length = part10.read(path).data(IMPLICIT)
    with data:
        again = read_dataset(data, is_implicit_VR=True, is_little_endian=True)
        assert data.tell() == length
    assert again == dcmread(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM", b"no object at all" * 20])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=r"one\.dcm") as refused:
        part10.read(path)
    assert refused.value.code == "object_unreadable"
    assert "outbox drop" in refused.value.remedy


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3.4")
    found = part10.read(path)
    path.unlink()
    for reading in (lambda: part10.read(path), lambda: found.data(EXPLICIT)):
        with pytest.raises(Unreadable, match="No such file"):
            reading()
    with pytest.raises(Unreadable):
        found.data(IMPLICIT)
