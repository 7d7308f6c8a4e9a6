"""Bundles and wheels as blobs: nothing is left out, and nothing else comes in."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from appliance.bundle.manifest import MANIFEST, SIGNATURE
from appliance.bundle.shelf import FACTORY
from appliance.errors import BundleRefused, ReleaseRefused
from appliance.release import blobs
from appliance.release.record import Blob, DeviceKind, Range
from compile.release import contents
from compile.release.contents import Store
from rigs.bundles import called, signed
from rigs.wheels import requirements, wheel

PYTHON = Range(at_least="3.10", below="3.13")
PURE = dict([wheel("liba"), wheel("libb", "2.1")])


def locked(
    wheels: Mapping[str, bytes],
    asked: bytes | None = None,
    sources: Mapping[str, bytes] | None = None,
    kind: DeviceKind = "x86-64",
) -> tuple[Store, Blob]:
    store = Store({}.get)
    text = requirements(wheels) if asked is None else asked
    return store, contents.lock(store, kind, PYTHON, text, wheels, sources or {})


def test_a_lock_names_every_wheel_and_its_requirements() -> None:
    store, blob = locked(PURE)
    found = blobs.read_lock(blob, store.new[blob.path])
    assert [one.name for one in found.wheels] == sorted(PURE)
    for one in found.wheels:
        assert blobs.unpack(one, store.new[one.path]) == PURE[one.name]
    text = blobs.unpack(found.requirements, store.new[found.requirements.path])
    assert text == requirements(PURE)


def test_a_lock_that_did_not_change_is_the_same_blob() -> None:
    first, blob = locked(PURE)
    again = Store(first.new.get)
    assert contents.lock(again, "x86-64", PYTHON, requirements(PURE), PURE, {}) == blob
    assert again.new == {}


def test_a_blob_keeps_the_frame_that_another_zstd_made() -> None:
    data = b"".join(b"%d, " % (n * n) for n in range(5000))
    fast, frame = blobs.pack(data, dense=False)
    store = Store({fast.path: frame}.get)
    assert store.add(data) == fast
    assert blobs.pack(data)[0].packed != fast.packed


def test_a_frame_that_is_there_and_broken_is_not_signed() -> None:
    blob, frame = blobs.pack(b"some bytes" * 1000)
    with pytest.raises(ReleaseRefused):
        Store({blob.path: frame[:-1]}.get).add(b"some bytes" * 1000)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        (["cp310-cp310-manylinux_2_28_x86_64"], "for Python 3.11"),
        (["cp310-abi3-manylinux_2_28_x86_64"], ""),
        (["cp312-abi3-manylinux_2_28_x86_64"], "for Python 3.10"),
        (["cp310-abi3-manylinux_2_28_aarch64"], "for Python 3.10"),
        (["cp310-abi3-manylinux_2_39_x86_64"], "for Python 3.10"),
        (["cp310-abi3-win_amd64"], "for Python 3.10"),
        ([f"cp3{n}-cp3{n}-manylinux_2_28_x86_64" for n in (10, 11, 12)], ""),
        ([f"cp3{n}-cp3{n}-manylinux_2_28_x86_64" for n in (10, 11, 12, 13)], "is in no line"),
        (["py2.py3-none-any"], ""),
    ],
)
def test_a_lock_needs_a_wheel_for_every_python_of_its_kind(tags: list[str], why: str) -> None:
    wheels = dict(wheel("liba", tag=tag, text=tag) for tag in tags)
    if not why:
        locked(wheels)
        return
    with pytest.raises(ReleaseRefused, match=why) as refused:
        locked(wheels)
    assert refused.value.code == "lock_incomplete"


def test_a_wheel_that_is_not_the_one_of_its_line_is_refused() -> None:
    other = dict([wheel("liba", text="other bytes"), wheel("libb", "2.1")])
    with pytest.raises(ReleaseRefused, match="no wheel of liba"):
        locked(other, requirements(PURE))
    with pytest.raises(ReleaseRefused, match="is in no line"):
        locked({**PURE, **dict([wheel("libc")])}, requirements(PURE))


def test_a_source_is_no_wheel_and_stands_for_a_line_by_its_name() -> None:
    asked = requirements({**PURE, "pycuda-2025.1.2-x": b"source"})
    with pytest.raises(ReleaseRefused, match="no wheel of pycuda"):
        locked(PURE, asked, kind="orin")
    locked(PURE, asked, {"pycuda-2025.1.2.tar.gz": b"source"}, kind="orin")
    with pytest.raises(ReleaseRefused, match="is no wheel"):
        locked({**PURE, "pycuda-2025.1.2.tar.gz": b"source"}, asked)


def test_a_bundle_must_be_signed_and_whole(tiny_bytes: bytes) -> None:
    store = Store({}.get)
    with pytest.raises(BundleRefused) as refused:
        contents.bundle(store, tiny_bytes)
    assert refused.value.code == "bundle_unsigned"
    with pytest.raises(BundleRefused):
        contents.bundle(store, signed(tiny_bytes)[:-600])
    one = contents.bundle(store, signed(tiny_bytes))
    found = blobs.read_contents(one.contents, store.new[one.contents.path])
    files = {e.name: blobs.unpack(e, store.new[e.path]) for e in found.files}
    assert blobs.rebuild(found, files) == signed(tiny_bytes)


def test_a_list_that_is_no_cyclonedx_is_refused() -> None:
    for data in (b"", b"[]", b"{}", b'{"bomFormat": "SPDX"}', b"\xff"):
        with pytest.raises(ReleaseRefused, match="CycloneDX"):
            contents.cyclonedx(Store({}.get), data, "parts list")


@pytest.mark.long
def test_what_did_not_change_in_a_bundle_is_not_fetched_again() -> None:
    """Of a factory bundle whose manifest alone changes: manifest, signature, list of the files."""
    data = (FACTORY / "bundles" / "lung-nodule.scanside").read_bytes()
    store = Store({}.get)
    contents.bundle(store, called("lung-nodule", data))
    assert sum(map(len, store.new.values())) < len(data)
    newer = Store(store.new.get)
    one = contents.bundle(newer, called("lung-nodule", data, title="!"))
    found = blobs.read_contents(one.contents, newer.new[one.contents.path])
    changed = {e.path for e in found.files if e.name in (MANIFEST, SIGNATURE)}
    assert newer.new.keys() == changed | {one.contents.path}
    assert sum(map(len, newer.new.values())) < 6_000
