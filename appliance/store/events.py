"""Every kind of fact that the journal's event log holds, each a record with its fields.

Events are what a person may ask for later: refusals, outages, what was loaded. They decide nothing;
the oldest are deleted. No patient data: UIDs, AE titles, addresses and texts of our own only.

To add one: a class here. Its `kind` stands in the journal and is never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from appliance.report import BundleRef, Record, Sentence

E = TypeVar("E", bound="Event")


class Event(Record):
    """A fact. `subject`: whom or what it is about."""

    kind: ClassVar[str]
    subject: str


@dataclass(frozen=True, slots=True)
class Happened(Generic[E]):
    """An event as the journal has it."""

    at: float
    """Seconds since 1970, UTC."""
    event: E


class AssociationRefused(Event):
    """`receive` let somebody not in. subject: the calling AE title."""

    kind: ClassVar[str] = "association_refused"
    text: str
    remedy: str
    """With the setting to change."""
    host: str
    called_ae: str


class HandshakeRefused(Event):
    """A peer came to no TLS with `receive`; subject: its address. Or an archive to none with
    `deliver`, which was to ask it for a promise; subject: its name in the settings."""

    kind: ClassVar[str] = "handshake_refused"
    text: str


class CommitmentRefused(Event):
    """`receive` or `deliver` believed an answer of storage commitment not, or `receive` did not
    take a request of it. subject: the AE title of the peer."""

    kind: ClassVar[str] = "commitment_refused"
    code: str
    text: str
    host: str
    """Its address."""


class InstanceRefused(Event):
    """`receive` did not take an image. subject: its SOP Instance UID, as far as it is one."""

    kind: ClassVar[str] = "instance_refused"
    status: str
    """DIMSE status of the answer, four hexadecimal digits."""
    code: str
    text: str
    association: str
    quarantine: str | None = None
    """Name of the file in the quarantine, where its bytes were kept."""
    sha256: str | None = None
    """Digests of the new and of the stored data set, where one UID came with two contents."""
    sha256_stored: str | None = None


class ImagesSetAside(Event):
    """Images came after the final report of their series that do not belong to it: the report
    stays. subject: the SeriesInstanceUID."""

    kind: ClassVar[str] = "images_set_aside"
    text: str


class HeaderChanged(Event):
    """`receive` got an image that it has, with another header; the first one stays. Once an
    association, series and kind of change. subject: the Series Instance UID."""

    kind: ClassVar[str] = "header_changed"
    study: str
    instance: str
    """SOP Instance UID of the first such image."""
    changed: tuple[str, ...]
    """Names of what differs (series/changed.py), never the values."""
    refused: bool
    """Whether it was answered 0111: it is a correction that waits."""
    association: str


class DiskReserve(Event):
    """`receive` refuses images because the disk is nearly full; once an association.

    subject: the calling AE title.
    """

    kind: ClassVar[str] = "disk_reserve"
    reserve_mb: int
    host: str


class Loaded(Event):
    """`work` has other bundles open than before."""

    kind: ClassVar[str] = "loaded"
    subject: str = "work"
    bundles: tuple[BundleRef, ...]
    backend: str | None = None
    """Names and precisions of the backends in use."""


class BundlesRefused(Event):
    """What is wrong with the bundles that `work` has been told to use; empty: nothing any more."""

    kind: ClassVar[str] = "bundle_refused"
    subject: str = "work"
    text: Sentence


class Engine(Event):
    """Whether the GPU serves a bundle, and why not; or how far its engine is built."""

    kind: ClassVar[str] = "engine"
    subject: str = "work"
    bundle: str
    version: str
    state: Literal["ready", "building", "fallback"]
    code: str = ""
    text: str
    remedy: str = ""


class DeliveriesDropped(Event):
    """`retain` has given up objects that an archive did not take in time. subject: its name."""

    kind: ClassVar[str] = "deliveries_dropped"
    count: int


class NewProtocol(Event):
    """`work` has counted a series of a known scanner under a key that it had not seen. subject: the
    row (store/library.py)."""

    kind: ClassVar[str] = "new_protocol"
    scanner: str
    """Its keyed hash."""


class BrokerAway(Event):
    """`publish` has lost the broker, or does not reach it; once for each reason."""

    kind: ClassVar[str] = "broker_away"
    subject: str = "mqtt"
    text: str
    code: str = ""
    """`client_id_taken`: another client has our id; empty for all else."""


class BrokerConnected(Event):
    """`publish` has reached the broker."""

    kind: ClassVar[str] = "broker_connected"
    subject: str = "mqtt"
    protocol: Literal["5", "3.1.1"]
    retain: bool = True
    """Whether it keeps retained messages."""
    qos: int = 1
    """0: it acknowledges nothing, so what is delivered is `unconfirmed`."""


class ArchiveAway(Event):
    """`deliver` does not reach an archive, or it takes nothing; once for each reason.

    subject: its name in the settings.
    """

    kind: ClassVar[str] = "archive_away"
    text: str
    code: str
    """As `dicom.requestor`, `dicom.tls` and `deliver.web` have them; or `archive_full`."""


class ArchiveReached(Event):
    """An archive that was away has taken something. subject: its name in the settings."""

    kind: ClassVar[str] = "archive_reached"


class PriorsAsked(Event):
    """`fetch` has asked an archive for the earlier exams of a patient. subject: its name in the
    settings. Nothing here says whose they are."""

    kind: ClassVar[str] = "priors_asked"
    code: Literal["moved", "none", "failed"]
    found: int
    """Series that were wanted, one an exam."""
    moved: int
    """Of these, how many the archive has stored, or had before."""
    text: str = ""
    """Why it failed."""


class CommandRefused(Event):
    """A command over MQTT was not obeyed. `verb` is one of ours, or `unknown`."""

    kind: ClassVar[str] = "command_refused"
    subject: str = "mqtt"
    verb: str
    id: str
    """As the sender gave it, if it is printable ASCII; else empty."""
    text: str


class LoginFailed(Event):
    """Somebody did not get into the page of `web`. subject: the address that they came from.

    What they typed stands nowhere: at times a password is typed where the name belongs.
    """

    kind: ClassVar[str] = "login_failed"
    known: bool
    """Whether there is an account of the name that was typed."""
