"""What a certificate is called in the settings."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from appliance.dicom import certificate
from rigs.authority import Authority


def test_a_certificate_is_known_by_its_key_and_by_each_of_its_names(tmp_path: Path) -> None:
    crt, key = Authority(tmp_path, "ca").issue("CT1.ward", address="10.0.0.5")
    read = x509.load_pem_x509_certificate(crt.read_bytes())
    public = load_pem_private_key(key.read_bytes(), None).public_key()
    digest = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    found = certificate.names(read.public_bytes(Encoding.DER))
    assert found == {digest.hexdigest(), "ct1.ward", "10.0.0.5"}


def test_what_is_no_certificate_has_no_name(tmp_path: Path) -> None:
    crt, _ = Authority(tmp_path, "ca").issue("CT1")
    der = x509.load_pem_x509_certificate(crt.read_bytes()).public_bytes(Encoding.DER)
    assert certificate.names(b"") == certificate.names(der[:-9]) == frozenset()


def test_without_subject_alternative_names_there_is_only_the_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ward")
    der = x509.load_pem_x509_certificate(authority.ca.read_bytes()).public_bytes(Encoding.DER)
    (only,) = certificate.names(der)
    assert len(only) == 64
