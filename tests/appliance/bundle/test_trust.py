"""A bundle is whole and signed, or it is refused with the reason."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.bundle import archive, trust
from appliance.errors import BundleRefused

Forge = Callable[..., bytes]


def code(call: Callable[[], object]) -> str:
    with pytest.raises(BundleRefused) as caught:
        call()
    assert caught.value.remedy
    return caught.value.code


def trusted(key: Ed25519PrivateKey) -> trust.Key:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return trust.public_key("k.pub", raw)


def test_a_good_bundle_is_loaded(tiny_bytes: bytes) -> None:
    loaded = trust.check(tiny_bytes, "0.1.0")
    assert (loaded.ref.name, loaded.ref.version) == ("tiny-nodule", "1.0.0")
    assert set(loaded.networks) == {"segment", "propose", "classify"}
    assert loaded.networks["segment"] == archive.read(tiny_bytes)["segment.onnx"]
    assert [g.network for g, _ in loaded.goldens] == ["segment", "propose", "classify"]
    assert loaded.signature is None


def test_a_changed_file_is_refused(forge: Forge) -> None:
    for name in ("segment.onnx", "golden/segment.npz"):
        bad = forge(put={name: b"other"}, refit=False)
        assert code(lambda bad=bad: trust.check(bad)) == "bundle_digest"


def test_a_missing_or_strange_file_is_refused(forge: Forge, tiny_bytes: bytes) -> None:
    entries = archive.read(tiny_bytes)
    for name in ("manifest.json", "segment.onnx", "golden/propose.npz"):
        left = archive.write({n: d for n, d in entries.items() if n != name})
        assert code(lambda left=left: trust.check(left)) == "bundle_file"
    assert code(lambda: trust.check(forge(put={"engines/x.plan": b""}))) == "bundle_file"
    assert code(lambda: trust.check(forge(put={"run.py": b""}))) == "bundle_file"


def test_a_newer_bundle_is_refused(forge: Forge) -> None:
    bad = forge(lambda m: m.update(requires_appliance="9.0.0"))
    assert code(lambda: trust.check(bad, "0.1.0")) == "bundle_requires"


def test_a_signature_is_by_a_trusted_key_over_this_manifest(
    forge: Forge, key: Ed25519PrivateKey
) -> None:
    other = Ed25519PrivateKey.generate()
    good = trust.check(forge(key=key))
    assert (
        trust.signer(good, [trusted(other), trusted(key)]).fingerprint == trusted(key).fingerprint
    )
    assert code(lambda: trust.signer(good, [trusted(other)])) == "bundle_signature"
    assert code(lambda: trust.signer(good, [])) == "bundle_signature"
    unsigned = trust.check(forge())
    assert code(lambda: trust.signer(unsigned, [trusted(key)])) == "bundle_unsigned"
    assert good.signature is not None
    moved = trust.check(forge(lambda m: m.update(title="x"), put={"manifest.sig": good.signature}))
    assert code(lambda: trust.signer(moved, [trusted(key)])) == "bundle_signature"
    for cut in (b"", good.signature[:63], good.signature + b"\0"):
        bad = trust.check(forge(put={"manifest.sig": cut}))
        assert code(lambda bad=bad: trust.signer(bad, [trusted(key)])) == "bundle_signature"


def test_keys_are_pem_or_raw_ed25519(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    public = key.public_key()
    (tmp_path / "a.pub").write_bytes(public.public_bytes(Encoding.Raw, PublicFormat.Raw))
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "b.pub").write_bytes(pem)
    (tmp_path / "notes.txt").write_bytes(b"not a key")
    found = trust.keys(tmp_path)
    assert [k.name for k in found] == ["a.pub", "b.pub"]
    assert found[0].fingerprint == found[1].fingerprint
    assert trust.keys(tmp_path / "nowhere") == ()
    elliptic = generate_private_key(SECP256R1()).public_key()
    bad = elliptic.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for data in (bad, b"", b"x", pem[:40]):
        (tmp_path / "c.pub").write_bytes(data)
        with pytest.raises(BundleRefused, match=r"c\.pub") as caught:
            trust.keys(tmp_path)
        assert caught.value.code == "trust_key"


@pytest.mark.parametrize("data", [b"", b"[]", b'{"x": 1}', b'{"../x": {}}', b"\xff"])
def test_damaged_factory_digests_are_refused(data: bytes) -> None:
    assert code(lambda: trust.factory_digests(data)) == "factory_digests"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_only_a_refusal_escapes_a_mutated_bundle(tiny_bytes: bytes, data: st.DataObject) -> None:
    bad = bytearray(tiny_bytes)
    header_or_manifest = st.integers(0, len(bad) - 1) | st.integers(0, 2000)
    manifest = tiny_bytes.index(b'"accepts"')
    places = header_or_manifest | st.integers(manifest, manifest + 6000)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(places)] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BundleRefused):
        loaded = trust.check(bytes(bad), "0.1.0")
        assert loaded.networks == trust.check(tiny_bytes).networks
