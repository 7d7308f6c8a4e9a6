"""Good archives come back; every trick is refused by name."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import archive
from appliance.errors import BundleRefused

WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}"
NAMES = st.from_regex(rf"{WORD}(/{WORD})?", fullmatch=True)


def tar(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as file:
        for member, data in members:
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


def refused(data: bytes) -> str:
    with pytest.raises(BundleRefused) as caught:
        archive.read(data)
    assert caught.value.code == "bundle_archive"
    assert caught.value.remedy
    return caught.value.text


@given(st.dictionaries(NAMES, st.binary(max_size=1500), max_size=8))
def test_what_was_written_is_read(entries: dict[str, bytes]) -> None:
    data = archive.write(entries)
    assert archive.read(data) == entries
    assert archive.write(dict(reversed(entries.items()))) == data
    assert archive.read(io.BytesIO(data)) == entries


def test_tarfile_reads_what_was_written() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive.write({"b/c": b"22", "a": b"1"}))) as file:
        members = file.getmembers()
        assert [m.name for m in members] == ["a", "b/c"]
        assert {(m.mode, m.uid, m.gid, m.mtime, m.type) for m in members} == {
            (0o644, 0, 0, 0, tarfile.REGTYPE)
        }
        read = file.extractfile("b/c")
        assert read is not None
        assert read.read() == b"22"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_archives_of_other_tools_are_read(kind: int) -> None:
    assert archive.read(tar((member("a"), b"1"), (member("b/c"), b"22"), kind=kind)) == {
        "a": b"1",
        "b/c": b"22",
    }


@pytest.mark.parametrize(
    "name",
    ["../a", "/a", "a/../b", "a/b/c", "./a", "a\\b", "C:a", ".hidden", "a b", "a\n", "ü", "a/", ""],
)
def test_names_that_could_leave_a_folder_are_refused(name: str) -> None:
    assert "not allowed" in refused(tar((member(name), b"x")))
    with pytest.raises(BundleRefused):
        archive.write({name: b"x"})


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"Z", "an entry of type"),
    ],
)
def test_only_regular_files_are_allowed(kind: bytes, said: str) -> None:
    assert said in refused(tar((member("a", kind, "/etc/passwd"), b"")))


def test_extension_headers_are_refused() -> None:
    long = "a" * 150
    assert "pax" in refused(tar((member(long), b"x"), kind=tarfile.PAX_FORMAT))
    assert "GNU" in refused(tar((member(long), b"x"), kind=tarfile.GNU_FORMAT))


def test_a_prefix_cannot_hide_a_path() -> None:
    long = "/".join(["a" * 60] * 3)
    assert "not allowed" in refused(tar((member(long), b"x")))


def test_a_duplicate_is_refused() -> None:
    assert "twice" in refused(tar((member("a"), b"1"), (member("a"), b"2")))


def test_every_cut_is_refused() -> None:
    data = archive.write({"a": b"1" * 700, "b": b"2"})
    for cut in range(0, len(data), 7):
        assert "cut off" in refused(data[:cut]) or cut == 0


def test_bytes_after_the_end_are_refused() -> None:
    data = archive.write({"a": b"1"})
    assert archive.read(data + b"\0" * 512) == {"a": b"1"}
    assert "after the end" in refused(data + b"\0" * 512 + b"x")
    assert "after the end" in refused(data[:-512] + data)


def test_a_compressed_archive_is_refused() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        file.addfile(member("a"), io.BytesIO(b""))
    refused(out.getvalue().ljust(1024, b"\0"))


def test_too_many_or_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"f{i}": b"" for i in range(archive.MAX_ENTRIES + 1)}
    with pytest.raises(BundleRefused, match="at most 256"):
        archive.write(many)
    assert "more than 256" in refused(tar(*((member(name), b"") for name in many)))
    data = archive.write({"a": b"1" * 2000})
    monkeypatch.setattr(archive, "MAX_BYTES", len(data) - 1)
    assert "larger than" in refused(data)
    with pytest.raises(BundleRefused, match="larger than"):
        archive.read(io.BytesIO(data))
    with pytest.raises(BundleRefused, match="larger than"):
        archive.write({"a": b"1" * 2000})


def test_a_lying_size_is_refused() -> None:
    info = member("a")
    info.size = 0o7777777777
    assert "cut off" in refused(info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024)
    info.size = 2**40
    refused(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)  # base-256, not octal


@given(st.data())
def test_only_a_refusal_escapes_whatever_is_read(data: st.DataObject) -> None:
    bad = bytearray(archive.write({"a": b"1" * 700, "b/c": b"2"}))
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(bad)))
    for hostile in (bytes(bad), bytes(bad[:cut]), bytes(bad[cut:])):
        with contextlib.suppress(BundleRefused):
            archive.read(hostile)
