"""TLS towards an archive (PS3.15 B.12, BCP 195): TLS 1.2 or later, and its certificate checked.

Rules
- The certificate must come from `ca` and name the host that the settings name; or, where they name
  a `certificate`, be that one (`certificate.names`), whatever host it names. There is no way around
  that, and no fallback to an association without TLS.
- `cert` and `key` are ours, for an archive that asks who we are.
- The files are read for each connection, so that a renewed certificate needs no restart.
- A failure says whose fault it is, the clock of this machine before the certificate: a device
  without a battery starts in the past. It says the day and no more: what is said is an event once
  for each text.
"""

from __future__ import annotations

import socket
import ssl
from datetime import datetime, timezone
from typing import Final

from appliance.errors import PeerAway
from appliance.settings import TLS

FAILED: Final = "peer_tls"
"""Code of PeerAway."""
SUITES: Final = "ECDHE+AESGCM:DHE+AESGCM"
"""Of TLS 1.2 (PS3.15 B.12); those of TLS 1.3 are all good."""
_NOT_AT_THIS_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def secured(
    connection: socket.socket, host: str, tls: TLS, certificate: str | None = None
) -> ssl.SSLSocket:
    """TLS over an open connection to `host`. PeerAway; the connection stays the caller's then.

    certificate: the one that it must show, as the settings name it (`settings.Certificate`).
    """
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
        context.check_hostname = certificate is None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(SUITES)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as e:
        raise PeerAway(
            f"ca, cert or key of `tls` cannot be used: {e.strerror or e}",
            code=FAILED,
            remedy="Name PEM files that the stage can read.",
        ) from e
    try:
        made = context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as e:
        text = f"the certificate of {host} is not accepted: {e.verify_message}"
        remedy = "Name the authority of the archive in `ca`, and the host as its certificate does."
        if e.verify_code in _NOT_AT_THIS_TIME:
            text += f"; the clock of this machine says {datetime.now(timezone.utc):%Y-%m-%d}"
            remedy = "Set the clock of this machine; only if it is right, renew the certificate."
        raise PeerAway(text, code=FAILED, remedy=remedy) from e
    except OSError as e:
        raise PeerAway(
            f"no TLS with {host}: {e.strerror or e}",
            code=FAILED,
            remedy="Look whether the archive speaks TLS on that port.",
        ) from e
    if certificate is not None:
        _require(made, host, certificate)
    return made


def _require(made: ssl.SSLSocket, host: str, certificate: str) -> None:
    """PeerAway where the peer has shown another certificate than this one."""
    from appliance.dicom.certificate import key_digest, names  # noqa: PLC0415 - few sites need it

    shown = made.getpeercert(binary_form=True) or b""
    if certificate.lower() in names(shown):
        return
    made.close()
    raise PeerAway(
        f"{host} shows another certificate than `certificate` names",
        code=FAILED,
        remedy="Find out who answers there. Only if it is the archive, with a new key: "
        f'certificate = "{key_digest(shown)}".',
    )


def days_left(connection: socket.socket, now: float) -> float | None:
    """Days until the certificate of the peer ends, at `now` (seconds since 1970); None: no TLS."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    found = connection.getpeercert() or {}
    ends = found.get("notAfter")
    return (ssl.cert_time_to_seconds(ends) - now) / 86400.0 if isinstance(ends, str) else None
