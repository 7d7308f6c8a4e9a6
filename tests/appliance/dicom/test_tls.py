"""TLS towards an archive: real handshakes with pynetdicom, and each failure with its reason."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.dicom import certificate as certificates
from appliance.dicom import tls
from appliance.dicom.requestor import Limits, Peer, Requestor
from appliance.errors import PeerAway
from appliance.settings import TLS
from rigs.archive import ALL, TITLE, serving
from rigs.authority import DAY, Authority
from rigs.peers import HANG_S

PATIENT = Limits(connect_s=HANG_S, answer_s=HANG_S, send_s=HANG_S)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "hospital")


def archive_with(pair: tuple[Path, Path], asks: Authority | None = None) -> ssl.SSLContext:
    """What the archive speaks: its certificate; asks: whose certificates its callers must have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if asks is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(asks.ca)
    return context


def opened(port: int, settings: TLS, certificate: str | None = None) -> Requestor:
    peer = Peer("127.0.0.1", port, TITLE, "SCANSIDE", settings, certificate)
    return Requestor.open(peer, ALL, PATIENT)


def digest(pair: tuple[Path, Path]) -> str:
    """The SHA-256 of the key of a certificate."""
    read = x509.load_pem_x509_certificate(pair[0].read_bytes())
    return certificates.key_digest(read.public_bytes(Encoding.DER))


def test_an_association_over_tls_is_like_any_other_and_the_days_are_known(
    authority: Authority,
) -> None:
    pair = authority.issue("pacs", "127.0.0.1", ends=10 * DAY + timedelta(hours=1))
    with serving(tls=archive_with(pair)) as archive:
        link = opened(archive.port, TLS(ca=authority.ca))
        assert link.echo() == 0
        assert not link.is_over(), "a session ticket of TLS 1.3 is no end"
        assert round(link.certificate_days() or 0.0) == 10
        link.release()


def test_an_archive_that_asks_who_we_are_gets_our_certificate(authority: Authority) -> None:
    pair, (cert, key) = authority.issue("pacs", "127.0.0.1"), authority.issue("box")
    with serving(tls=archive_with(pair, authority)) as archive:
        link = opened(archive.port, TLS(ca=authority.ca, cert=cert, key=key))
        assert link.echo() == 0
        link.release()
        with pytest.raises(PeerAway):
            opened(archive.port, TLS(ca=authority.ca))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("another authority", "not accepted"),
        ("another host", "not accepted: IP address mismatch"),
        ("expired", "the clock of this machine says"),
    ],
)
def test_a_certificate_that_is_not_right_is_named_and_nothing_is_sent(
    authority: Authority, tmp_path: Path, what: str, said: str
) -> None:
    ends = -timedelta(hours=1) if what == "expired" else DAY
    address = "127.0.0.2" if what == "another host" else "127.0.0.1"
    ca = Authority(tmp_path, "stranger").ca if what == "another authority" else authority.ca
    pair = authority.issue("pacs", address, ends=ends)
    with serving(tls=archive_with(pair)) as archive:
        with pytest.raises(PeerAway, match=said) as refused:
            opened(archive.port, TLS(ca=ca))
        assert refused.value.code == tls.FAILED
        assert archive.associations == 0


@pytest.mark.parametrize("by", ["key", "name", "address"])
def test_where_a_certificate_is_named_that_one_counts_whatever_host_it_names(
    authority: Authority, by: str
) -> None:
    pair = authority.issue("PACS.ward", "10.0.0.7")
    named = {"key": digest(pair).upper(), "name": "pacs.WARD", "address": "10.0.0.7"}[by]
    with serving(tls=archive_with(pair)) as archive:
        link = opened(archive.port, TLS(ca=authority.ca), named)
        assert link.echo() == 0
        link.release()


def test_where_a_certificate_is_named_neither_chain_nor_host_name_is_enough(
    authority: Authority,
) -> None:
    pair = authority.issue("pacs", "127.0.0.1")
    with serving(tls=archive_with(pair)) as archive:
        with pytest.raises(PeerAway, match="another certificate") as refused:
            opened(archive.port, TLS(ca=authority.ca), "pacs.ward")
        assert refused.value.code == tls.FAILED
        assert digest(pair) in refused.value.remedy
        assert archive.associations == 0


@pytest.mark.parametrize("what", ["another authority", "expired"])
def test_the_right_key_is_not_enough_without_a_chain_that_is_valid_now(
    authority: Authority, tmp_path: Path, what: str
) -> None:
    ends = -timedelta(hours=1) if what == "expired" else DAY
    ca = Authority(tmp_path, "stranger").ca if what == "another authority" else authority.ca
    pair = authority.issue("pacs", "127.0.0.1", ends=ends)
    with serving(tls=archive_with(pair)) as archive:
        with pytest.raises(PeerAway, match="not accepted") as refused:
            opened(archive.port, TLS(ca=ca), digest(pair))
        assert refused.value.code == tls.FAILED
        assert archive.associations == 0


def test_an_archive_without_tls_gets_no_association_without_it(authority: Authority) -> None:
    with serving() as archive:
        with pytest.raises(PeerAway) as refused:
            opened(archive.port, TLS(ca=authority.ca))
        assert refused.value.code == tls.FAILED
        assert archive.associations == 0


def test_files_that_cannot_be_read_are_named(authority: Authority, tmp_path: Path) -> None:
    with serving() as archive:
        for wrong in (
            TLS(ca=tmp_path / "gone.pem"),
            TLS(ca=authority.ca, cert=tmp_path / "gone.crt", key=tmp_path / "gone.key"),
        ):
            with pytest.raises(PeerAway, match="ca, cert or key") as refused:
                opened(archive.port, wrong)
            assert refused.value.code == tls.FAILED
