"""TLS of the listener: BCP 195 (PS3.15 B.12), and why a peer came to none.

Rules
- TLS 1.2 or later with the suites of PS3.15 B.12, and the peer shows a certificate that `ca` has
  signed; there is no fallback.
- Which certificate it was is asked for only where a line of the settings names one (`policy`).
- A handshake that failed is said in one line without anything that the peer sent. Who only looks
  whether somebody listens, as our doctor does, has begun none.
"""

from __future__ import annotations

import socket
import ssl

from appliance.dicom.tls import SUITES
from appliance.errors import SettingsInvalid
from appliance.settings import TLS, Settings


def context(settings: TLS) -> ssl.SSLContext:
    """What `[dicom.tls]` asks for. SettingsInvalid."""
    if settings.cert is None or settings.key is None:
        raise SettingsInvalid("[dicom.tls] needs cert and key: a receiver shows its certificate")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(SUITES)
    made.verify_mode = ssl.CERT_REQUIRED
    try:
        made.load_cert_chain(settings.cert, settings.key)
        made.load_verify_locations(settings.ca)
    except (OSError, ssl.SSLError) as e:
        raise SettingsInvalid(f"[dicom.tls] {e}") from e
    return made


def is_mute(connection: socket.socket) -> bool:
    """Whether the peer closes the connection before it has sent anything. Waits for that."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    except OSError:
        return True


def shown(settings: Settings, connection: socket.socket) -> frozenset[str]:
    """The names of the peer's certificate, where the settings ask for one."""
    named = [one.certificate for one in settings.dicom.allow]
    named += [one.certificate for one in settings.promising]
    if not isinstance(connection, ssl.SSLSocket) or not any(named):
        return frozenset()
    from appliance.dicom import certificate  # noqa: PLC0415 - few sites need it

    return certificate.names(connection.getpeercert(binary_form=True) or b"")


def why(error: OSError) -> str:
    """Why there was no handshake, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "it did not finish in time"
    return str(error.strerror or "the connection was closed").lower()
