"""TLS towards the broker (BCP 195): TLS 1.2 or later, its certificate checked against ours.

Rules
- A failure says whose fault it is: the broker's certificate, the clock of this machine, the files
  that the settings name, or that there is no TLS at all.
- The clock is named before the certificate: a device without a battery starts in the past.
"""

from __future__ import annotations

import socket
import ssl
from datetime import datetime, timezone

from appliance.errors import SettingsInvalid
from appliance.settings import Mqtt


def holds_more(sock: socket.socket) -> bool:
    """Whether TLS has decrypted something that nobody has read: select(2) does not know of it."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


class NotAtThisTime(ConnectionError):
    """The broker's certificate is not valid yet, or not any more, by the clock of this machine."""


NOT_AT_THIS_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class _Tls(ssl.SSLSocket):
    """Closed where its handshake fails, which the library forgets, and says whose fault it is."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError as e:
            self.close()
            if e.verify_code in NOT_AT_THIS_TIME:
                now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
                raise NotAtThisTime(
                    f"the clock of this machine says {now}, and by it the broker's "
                    f"{e.verify_message}"
                ) from e
            raise ConnectionError(
                f"its certificate is not accepted ([mqtt.tls] ca): {e.verify_message}"
            ) from e
        except OSError as e:
            self.close()
            raise ConnectionError(f"no TLS with it: {e.strerror or e}") from e


def tls_context(mqtt: Mqtt) -> ssl.SSLContext:
    """TLS 1.2 or later, the broker's certificate checked against [mqtt.tls] ca (BCP 195)."""
    if mqtt.tls is None:
        raise SettingsInvalid("[mqtt.tls] is missing")
    try:
        context = ssl.create_default_context(cafile=str(mqtt.tls.ca))
        context.sslsocket_class = _Tls
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if mqtt.tls.cert is not None:
            context.load_cert_chain(mqtt.tls.cert, mqtt.tls.key)
    except OSError as e:
        raise SettingsInvalid(f"[mqtt.tls] ca, cert or key: {e}") from e
    return context
