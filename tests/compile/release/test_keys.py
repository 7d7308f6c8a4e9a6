"""Key files and what a person answers."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from appliance.errors import BundleRefused, ReleaseRefused
from compile.release import keys, roles
from compile.sign import keygen

WORDS = b"four words nobody guesses"


def said(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_a_key_signs_with_its_passphrase_and_not_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "anna.key"
    public = keys.public(keygen(path, "repository", WORDS))
    assert roles.called(public) == f"anna ({public.keyid[:8]})"
    said(monkeypatch, WORDS.decode())
    (signer,) = keys.signers([path], None)
    assert signer.public_key.keyid == public.keyid
    public.verify_signature(signer.sign(b"some bytes"), b"some bytes")
    (tmp_path / "words").write_bytes(WORDS + b"\n")
    assert keys.signers([path, path], tmp_path / "words")[1].public_key.keyid == public.keyid
    for wrong in ("", "another passphrase"):
        said(monkeypatch, wrong)
        with pytest.raises(ReleaseRefused) as refused:
            keys.signers([path], None)
        assert refused.value.code == "release_key"


def test_what_is_no_key_of_a_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(WORDS)
    keygen(tmp_path / "open.pem", "release")
    elliptic = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(WORDS)
    )
    (tmp_path / "elliptic.pem").write_bytes(elliptic)
    (tmp_path / "junk.pem").write_bytes(b"junk")
    for name, why in {
        "open.pem": "has no passphrase",
        "elliptic.pem": "no Ed25519",
        "junk.pem": "no private key",
        "nowhere.pem": "No such file",
    }.items():
        with pytest.raises(ReleaseRefused, match=why):
            keys.signers([tmp_path / name], tmp_path / "words")
    with pytest.raises(BundleRefused, match="no Ed25519 public key"):
        keys.public(tmp_path / "junk.pem")
    keygen(tmp_path / "anna+bert.key", "repository", WORDS)
    with pytest.raises(ReleaseRefused, match="no name of a key"):
        keys.public(tmp_path / "anna+bert.repository.pub")


def test_a_new_passphrase_is_long_and_typed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(monkeypatch, "short", "short")
    with pytest.raises(ReleaseRefused, match="fewer than 12"):
        keys.new_passphrase(tmp_path)
    said(monkeypatch, WORDS.decode(), WORDS.decode() + "!")
    with pytest.raises(ReleaseRefused, match="not the same"):
        keys.new_passphrase(tmp_path)
    said(monkeypatch, WORDS.decode(), WORDS.decode())
    assert keys.new_passphrase(tmp_path) == WORDS
    said(monkeypatch)
    with pytest.raises(ReleaseRefused) as refused:
        keys.new_passphrase(tmp_path)
    assert refused.value.code == "no_answer"
