"""What a certificate is called in the settings (`settings.Certificate`), and when it ends. Pure.

Rules
- By its key: the SHA-256 of its SubjectPublicKeyInfo (RFC 5280 4.1.2.7), so that a renewed
  certificate of the same key stays the same.
- By each of its subject alternative names (RFC 5280 4.2.1.6) that is a DNS name, an address or a
  URI, as it stands there: a wildcard stands for itself alone. The common name counts for nothing
  (RFC 9525 2).
- All in lower case: the settings are compared so.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def names(der: bytes) -> frozenset[str]:
    """Every name of a certificate in DER; of one that cannot be read there are none."""
    try:
        read = x509.load_der_x509_certificate(der)
        key = read.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        found = {hashlib.sha256(key).hexdigest()}
        for extension in read.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                for kind in (x509.DNSName, x509.UniformResourceIdentifier):
                    found |= {name.lower() for name in extension.value.get_values_for_type(kind)}
                addresses = extension.value.get_values_for_type(x509.IPAddress)
                found |= {str(address) for address in addresses}
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return frozenset()
    return frozenset(found)


def ends(pem: bytes) -> datetime | None:
    """When the first certificate of a PEM file ends (RFC 5280 4.1.2.5), UTC; None where there is
    none that can be read."""
    try:
        found = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except (ValueError, UnsupportedAlgorithm):
        return None
    return found.astimezone(timezone.utc)
