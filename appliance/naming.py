"""How the device names what it publishes: by the site key, so that nobody else can compute a name.

Rules
- Every name that leaves the device is an HMAC-SHA-256 of the site key (RFC 2104). From DICOM UIDs
  alone, as a scanner or an archive has them, none can be computed, and none can be undone with a
  list of UIDs.
- Each kind of name has a label of its own in what is hashed, so no name of one kind tells anything
  of another. The pseudonym of a study is the one without a label: it is older than the others.
- The same thing has the same name for as long as the site key lasts: a replay is harmless, and a
  consumer can drop doubles.
- A series is (study, series): one Series Instance UID under two studies has two names.
- UUIDs are of version 8 (RFC 9562 5.8). A report of before release 0.2.0 has one of version 5, made
  of UIDs alone. It keeps it for ever: what stands in the journal is not named anew.
- What the device says of itself (status, info, health, replies) is no affair of a patient. It is
  named without the key (`results.message`), which the stage `publish` does not have.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass, field
from typing import Final

from appliance.report import SeriesKey

_KEYED = 8
_DIGITS = 39
"""Of the largest UUID."""
MAKER: Final = "Scanside"
"""Manufacturer (0008,0070) of every object that is composed here, and of the phantoms."""


@dataclass(frozen=True, slots=True)
class Naming:
    """The names of one site. Pure."""

    site_key: bytes = field(repr=False)

    def study(self, study_uid: str) -> str:
        """The pseudonym: the first 16 bytes, hex, of HMAC-SHA-256(site key, StudyInstanceUID)."""
        return self._hmac(study_uid)[:16].hex()

    def series(self, key: SeriesKey) -> uuid.UUID:
        """What stands for a series outside the device."""
        return self._uuid("series", key.study, key.series)

    def report(self, key: SeriesKey, bundle_digest: str | None, input_digest: str) -> uuid.UUID:
        """A report of a series; bundle_digest: None where no bundle accepts."""
        return self._uuid("report", key.study, key.series, bundle_digest or "-", input_digest)

    def event(self, of: uuid.UUID, event: str, finding: int | None = None) -> uuid.UUID:
        """A message about `of`, which is a report or the name of a series."""
        return self._uuid("event", str(of), event, "-" if finding is None else str(finding))

    def tracking(self, report: uuid.UUID, finding: int) -> str:
        """2.25 UID (PS3.5 B.2) of one finding of one report."""
        return f"2.25.{self._uuid('tracking', str(report), str(finding)).int}"

    def patient(self, issuer: str, patient_id: str) -> str:
        """What the exams of one patient are kept under: it is of no use without the key, and with
        it an id can be tested, so it is a pseudonym and not anonymous."""
        return self._hmac("\0".join(("scanside patient", issuer, patient_id))).hex()

    def of_patient(self, what: str, value: str) -> str:
        """A check on a patient, such as a birth date, hashed apart from the id."""
        return self._hmac("\0".join(("scanside patient check", what, value))).hex()

    def scanner(self, serial: str) -> str:
        """What stands for the serial number of a scanner: 16 hex digits."""
        return self._hmac("\0".join(("scanside scanner", serial)))[:8].hex()

    def comparison(
        self,
        current: uuid.UUID,
        prior: uuid.UUID | None,
        entries: tuple[str, ...],
        bundles: tuple[str, ...],
    ) -> uuid.UUID:
        """A comparison of two reports; prior: None where there is none. entries, bundles: digests
        of what it was made of."""
        return self._uuid("comparison", str(current), str(prior or "-"), *entries, "-", *bundles)

    def document(self, of: uuid.UUID, *parts: str) -> str:
        """2.25 UID of an object composed of a report; `parts` say which (results.identity)."""
        return f"2.25.{self._uuid('document', str(of), *parts).int}"

    def documents(self, key: SeriesKey, bundle: str, kind: str) -> str:
        """2.25 UID of the series that holds the objects of one kind about a series and bundle."""
        return f"2.25.{self._uuid('documents', key.study, key.series, bundle, kind).int}"

    def device(self, device: str) -> str:
        """2.25 UID of the device as an observer."""
        return f"2.25.{self._uuid('device', device).int}"

    def composed(self, of: uuid.UUID, *parts: str) -> str:
        """File under outgoing/ of an object composed of a report; `parts` say which of its own."""
        return f"{self._uuid('composed', str(of), *parts)}.dcm"

    def _uuid(self, label: str, *parts: str) -> uuid.UUID:
        """UUID version 8, RFC variant, of the first 16 bytes. No part holds a NUL (PS3.5 6.1.3)."""
        value = int.from_bytes(self._hmac("\0".join((f"scanside {label}", *parts)))[:16], "big")
        value = value & ~(0xF << 76) | _KEYED << 76
        return uuid.UUID(int=value & ~(0b11 << 62) | 0b10 << 62)

    def _hmac(self, text: str) -> bytes:
        return hmac.new(self.site_key, text.encode(), hashlib.sha256).digest()


def is_keyed(report_id: uuid.UUID) -> bool:
    """Whether a report was named with the site key; else it is of before release 0.2.0."""
    return report_id.version == _KEYED


def is_own(uid: str) -> bool:
    """Whether a UID is one that a site of this product gives what it composes."""
    digits = uid.removeprefix("2.25.")
    if digits == uid or not digits.isdecimal() or len(digits) > _DIGITS:
        return False
    value = int(digits)
    return value < 1 << 128 and uuid.UUID(int=value).version == _KEYED  # None for other variants
