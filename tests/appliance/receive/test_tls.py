"""TLS of the listener: who is heard, and what is said of who is not. Real handshakes."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from appliance.dicom import certificate
from appliance.errors import SettingsInvalid
from appliance.receive import tls
from appliance.settings import TLS
from appliance.store.events import AssociationRefused, HandshakeRefused
from rigs.authority import DAY, Authority
from rigs.peers import until
from rigs.receiver import MakeImage, Receiver, StartReceiver

ALLOW = '[[dicom.allow]]\nae_title = "CT1"\nhost = "127.0.0.1"\n'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ward")


def lines(authority: Authority) -> str:
    """[dicom.tls] of a receiver."""
    crt, key = authority.issue("scanside.ward", address="127.0.0.1")
    return f'[dicom.tls]\nca = "{authority.ca}"\ncert = "{crt}"\nkey = "{key}"\n'


def get_in(one: Receiver, authority: Authority, shows: tuple[Path, Path] | None) -> AE | None:
    """An association of CT1 that shows this certificate; None where it is not let in."""
    ae = AE(ae_title="CT1")
    ae.acse_timeout = 60
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    context = ssl.create_default_context(cafile=str(authority.ca))
    if shows is not None:
        context.load_cert_chain(*shows)
    association = ae.associate(
        "127.0.0.1", one.port, ae_title="SCANSIDE", tls_args=(context, "127.0.0.1")
    )
    return association if association.is_established else None


def names(crt: Path) -> frozenset[str]:
    read = x509.load_pem_x509_certificate(crt.read_bytes())
    return certificate.names(read.public_bytes(Encoding.DER))


@pytest.mark.parametrize("by", ["key", "name", "address"])
def test_where_a_certificate_is_named_the_chain_alone_is_not_enough(
    by: str, receiver: StartReceiver, make_ct: MakeImage, authority: Authority
) -> None:
    scanner = authority.issue("ct1.ward", address="10.0.0.5")
    neighbour = authority.issue("ct2.ward", address="10.0.0.6")
    digest = next(name for name in names(scanner[0]) if len(name) == 64)
    named = {"key": digest.upper(), "name": "CT1.ward", "address": "10.0.0.5"}[by]
    one = receiver(more=lines(authority) + ALLOW + f'certificate = "{named}"\n')
    assert get_in(one, authority, neighbour) is None
    (refused,) = one.events(AssociationRefused)
    assert "has not shown its certificate" in refused.text
    association = get_in(one, authority, scanner)
    assert association is not None
    assert association.send_c_store(make_ct(0)).Status == 0
    association.release()
    assert len(one.stored()) == 1


def test_a_handshake_that_fails_is_an_event_with_its_reason(
    receiver: StartReceiver, authority: Authority, tmp_path: Path
) -> None:
    one = receiver(more=lines(authority) + ALLOW)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "other").issue("ct1.ward")
    expired = authority.issue("old.ward", begins=-9 * DAY, ends=-timedelta(days=8))
    for shows in (stranger, expired, None):
        assert get_in(one, authority, shows) is None
    with socket.create_connection(("127.0.0.1", one.port), timeout=60) as plain:
        plain.sendall(b"\1\0\0\0\0\4abcd")  # an A-ASSOCIATE-RQ without TLS
        with suppress(ConnectionResetError):
            assert plain.recv(100)[:1] != b"\2"
    with socket.create_connection(("127.0.0.1", one.port), timeout=60):
        pass
    until(lambda: len(one.events(HandshakeRefused)) == 4)
    until(lambda: "closed without a word" in one.log.read_text())
    assert len(one.events(HandshakeRefused)) == 4, "who only looks whether we listen is no event"
    said = "\n".join(event.text for event in one.events(HandshakeRefused))
    assert {event.subject for event in one.events(HandshakeRefused)} == {"127.0.0.1"}
    for reason in ("unable to get local issuer", "has expired", "peer did not return", "version"):
        assert reason in said, said


def test_a_peer_that_knows_none_of_the_suites_comes_to_no_handshake(
    receiver: StartReceiver, authority: Authority
) -> None:
    one = receiver(more=lines(authority) + ALLOW)
    old = ssl.create_default_context(cafile=str(authority.ca))
    old.load_cert_chain(*authority.issue("ct1.ward"))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-ECDSA-AES128-SHA256")  # of PS3.15 B.12 are those with GCM
    with (
        socket.create_connection(("127.0.0.1", one.port), timeout=60) as connection,
        pytest.raises(OSError, match="handshake failure"),
    ):
        old.wrap_socket(connection, server_hostname="127.0.0.1")
    (refused,) = until(lambda: one.events(HandshakeRefused))
    assert refused.text == "no shared cipher"


def test_a_receiver_without_a_certificate_of_its_own_does_not_start(authority: Authority) -> None:
    with pytest.raises(SettingsInvalid, match="needs cert and key"):
        tls.context(TLS(ca=authority.ca))
    crt, key = authority.issue("scanside.ward")
    with pytest.raises(SettingsInvalid, match="tls"):
        tls.context(TLS(ca=authority.ca, cert=key, key=crt))
