"""Keys and signatures."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.bundle import trust
from appliance.bundle.shelf import Shelf
from appliance.errors import BundleRefused
from appliance.store.journal import Journal
from compile.__main__ import main
from compile.sign import keygen, private_key, sign
from rigs.shelves import audited


def test_what_is_signed_is_trusted_by_the_public_key(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    assert main(["keygen", str(path), "--kind", "release"]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert main(["sign", str(tiny_bundle), "--key", str(path)]) == 0
    once = tiny_bundle.read_bytes()
    assert trust.signer(trust.check(once), trust.keys(tmp_path)).name == "key.release.pub"
    assert sign(once, private_key(path)) == once


def test_out_leaves_the_bundle_as_it_was(tiny_bundle: Path, tmp_path: Path) -> None:
    key, out, before = tmp_path / "key.pem", tmp_path / "signed.scanside", tiny_bundle.read_bytes()
    keygen(key, "release")
    assert main(["sign", str(tiny_bundle), "--key", str(key), "-o", str(out)]) == 0
    assert tiny_bundle.read_bytes() == before
    assert trust.check(out.read_bytes()).signature is not None


def test_a_key_is_never_overwritten_nor_put_into_a_checkout(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    keygen(path, "release")
    before = path.read_bytes()
    with pytest.raises(BundleRefused):
        keygen(path, "release")
    assert path.read_bytes() == before
    (tmp_path / "checkout" / ".git").mkdir(parents=True)
    (tmp_path / "checkout" / "deep").mkdir()
    with pytest.raises(BundleRefused, match="git working tree"):
        keygen(tmp_path / "checkout" / "deep" / "key.pem", "release")


def test_a_broken_bundle_gets_no_signature(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keygen(tmp_path / "key.pem", "release")
    broken = tiny_bundle.read_bytes()[:-700]
    tiny_bundle.write_bytes(broken)
    assert main(["sign", str(tiny_bundle), "--key", str(tmp_path / "key.pem")]) == 1
    assert "cut off" in capsys.readouterr().err
    assert tiny_bundle.read_bytes() == broken


def test_only_an_ed25519_key_signs(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    for data in (b"", b"junk"):
        path.write_bytes(data)
        with pytest.raises(BundleRefused, match="no private key"):
            private_key(path)
    elliptic = generate_private_key(SECP256R1())
    path.write_bytes(elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(BundleRefused, match="another kind"):
        private_key(path)
    with pytest.raises(BundleRefused):
        private_key(tmp_path / "nowhere.pem")


def test_a_development_key_signs_nothing_that_a_device_takes_unasked(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (state / "trust").mkdir(parents=True)
    public = keygen(tmp_path / "mine.pem", "development")
    assert public.name == "mine.development.pub"
    (state / "trust" / public.name).write_bytes(public.read_bytes())
    tiny_bundle.write_bytes(sign(tiny_bundle.read_bytes(), private_key(tmp_path / "mine.pem")))
    empty = tmp_path / "factory"
    empty.mkdir()
    (empty / "digests.json").write_text("{}")
    shelf = Shelf(
        state,
        factory=empty,
        audit=audited(state),
        appliance_version="0.1.0",
    )
    with pytest.raises(BundleRefused, match=r"mine\.development\.pub") as refused:
        shelf.add(tiny_bundle)
    assert refused.value.code == "bundle_development"
    entry = shelf.add(tiny_bundle, allow_development=True)
    with Journal.open(state) as journal:
        assert [row.action for row in journal.audit.rows()] == ["bundle add"]
    assert shelf.load(entry).digest == entry.digest  # as long as the key lies there
    (state / "trust" / public.name).unlink()
    with pytest.raises(BundleRefused):
        shelf.load(entry)


def test_a_key_of_a_repository_has_a_passphrase_and_signs_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "anna.key"
    with pytest.raises(BundleRefused, match="has a passphrase"):
        keygen(path, "repository")
    with pytest.raises(BundleRefused, match="has no passphrase"):
        keygen(path, "release", b"four words nobody guesses")
    assert keygen(path, "repository", b"four words nobody guesses").name == "anna.repository.pub"
    assert b"ENCRYPTED" in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(BundleRefused, match="without a password"):
        private_key(path)


def test_the_same_key_under_a_release_name_is_a_release_key(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    keygen(tmp_path / "key.pem", "release")
    signed = sign(tiny_bundle.read_bytes(), private_key(tmp_path / "key.pem"))
    (key,) = trust.keys(tmp_path)
    assert not key.development
    assert trust.signer(trust.check(signed), [key]) == key
