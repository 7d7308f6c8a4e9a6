"""The sections of the settings, but those of archives (archives.py). Every figure has its unit."""

from __future__ import annotations

import ipaddress
from datetime import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from appliance.report import Priority, Record, Verb
from appliance.settings.addresses import is_loopback, parts_of_url

AETitle = Annotated[str, Field(pattern=r"^[ -\[\]-~]{1,16}$")]  # PS3.5 6.2: no backslash
Address = Annotated[
    str, Field(pattern=r"^[ -?A-\[\]-~]{1,16}@(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")
]
"""AE@HOST:PORT; an IPv6 address in brackets."""
Certificate = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
"""Which certificate a peer shows under TLS: the SHA-256 of its public key (SubjectPublicKeyInfo),
64 hexadecimal digits; or one of its subject alternative names, a DNS name, an address or a URI."""
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
"""A name or an IPv4 address, without a port (RFC 1123 2.1)."""
TopicPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
CHANNEL = r"^(stable|canary|site-[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)$"
"""As a release says it (appliance.release.record)."""


def _with_port(address: str) -> str:
    if not 0 < int(address.rpartition(":")[2]) < 65536:
        raise ValueError("a port is 1 to 65535")
    return address


class Site(Record):
    name: TopicPart = "site"
    device: TopicPart = "scanside"
    publish_uids: bool = False
    """Whether DICOM UIDs may leave the device in reports and messages."""


class Allow(Record):
    """One peer that may open an association. `host` is an address or network; names are not."""

    ae_title: AETitle | Literal["*"]
    host: str
    quiet_s: float | None = Field(default=None, gt=0, le=600)
    """Quiet time after which a series without other evidence is taken as complete."""
    priority: Priority = "routine"
    """`stat`: the series of this sender are analysed before those of others that wait."""
    role: Literal["exam", "prior"] = "exam"
    """`prior`: what it pushes are earlier exams. A study that came from such senders alone is
    analysed last and kept for comparing; nothing is said of it. One image from another sender makes
    it an exam like any other."""
    certificate: Certificate | None = None
    """Under [dicom.tls]: the one certificate that it may show, also where it takes the answer to a
    storage commitment request. Else any that `ca` has signed."""
    commitment: Address | None = None
    """Where it takes the answer to a storage commitment request: AE@HOST:PORT. Without it such
    requests are refused."""

    @field_validator("commitment")
    @classmethod
    def _has_a_port(cls, value: str | None) -> str | None:
        return value if value is None else _with_port(value)

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        network = ipaddress.ip_network(value, strict=False)
        first = network.network_address
        if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped is not None:
            raise ValueError(f"write {first.ipv4_mapped}: an IPv4 address, not one mapped to IPv6")
        return value


class TLS(Record):
    """Paths of PEM files (BCP 195: TLS 1.2 or later)."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


class Dicom(Record):
    ae_title: AETitle = "SCANSIDE"
    bind: str = "0.0.0.0"  # noqa: S104 - the scanner is another host; `allow` denies by default
    port: int = Field(default=11112, ge=0, le=65535)
    allow: tuple[Allow, ...] = ()
    max_associations: int = Field(default=32, ge=1)
    share: float = Field(default=0.75, gt=0, le=1)
    """How much of max_associations one sender (AE title and host) may hold, at least one."""
    max_pdu_bytes: int = Field(default=131072, ge=4096)
    idle_s: float = Field(default=60.0, gt=0)
    tls: TLS | None = None
    commitment: Literal["off", "relay"] = "off"
    """Storage commitment that senders ask of us. `relay`: the first [[deliver]] with `commitment`
    is asked, and the sender gets its answer."""

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> Dicom:
        if self.tls is None and any(one.certificate is not None for one in self.allow):
            raise ValueError("[[dicom.allow]] certificate needs [dicom.tls], else none is shown")
        return self

    @property
    def most_of_one_sender(self) -> int:
        """Associations that one sender may hold at a time."""
        return max(1, int(self.max_associations * self.share + 1e-9))


class Mqtt(Record):
    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    username: str | None = None
    password_file: Path | None = None
    protocol: Literal["5", "3.1.1", "auto"] = "auto"
    keepalive_s: int = Field(default=30, ge=5)
    health_s: float = Field(default=30.0, gt=0)
    commands: tuple[Verb, ...] = ("ping", "resend", "stat", "resume")
    """What is obeyed of those that may ask over MQTT; all else is answered with a refusal."""
    pause_s: float = Field(default=3600.0, gt=0, le=604800)
    """A pause ends by itself after so long."""
    tls: TLS | None = None


class Work(Record):
    backend: Literal["auto", "gpu", "openvino", "onnxruntime"] = "auto"
    """`auto`: the GPU where its engine is ready, else a CPU library (appliance/runtime/gpu.py)."""
    threads: int = Field(default=0, ge=0, description="0: as many as there are cores")
    quiet_s: float = Field(default=5.0, gt=0)
    """Completeness without expectation: quiet for this long."""
    released_quiet_s: float = Field(default=2.0, gt=0)
    aborted_quiet_s: float = Field(default=30.0, gt=0)
    preliminary: bool = True


class Bundles(Record):
    by_hand: bool = True
    """Whether `scanside bundle add` may bring one; else releases alone do ([update])."""
    allow_unsigned: bool = False
    """Whether bundles without a signature may be added and count. For development: obeyed only in a
    file that belongs to root and that nobody else may write."""


class Retain(Record):
    days: float = Field(default=14.0, gt=0)
    """Published series, reports and masks older than this are deleted."""
    reserve_mb: int = Field(default=2048, ge=0)
    """C-STORE answers A700 when less than this is free."""
    target_free_mb: int = Field(default=8192, ge=0)
    """`retain` deletes published series, oldest first, until this much is free."""
    owed_days: float = Field(default=30.0, gt=0)
    """Composed objects that no archive took for so long are given up."""


class Query(Record):
    """One archive that is asked for earlier exams: C-FIND and C-MOVE, study root (PS3.4 C)."""

    name: TopicPart
    """Ours for it: what is said of it names it so."""
    address: Address
    """AE@HOST:PORT."""
    ae_title: AETitle | None = None
    """How we call ourselves there; None: as [dicom] does."""
    move_to: AETitle | None = None
    """The AE title under which the archive knows our listener; None: that of [dicom]."""
    tls: TLS | None = None
    """Its authority, and our certificate where it asks for one; without this no TLS is spoken."""
    certificate: Certificate | None = None
    """Under TLS: the one certificate that it may show. Else one that names its host."""
    timeout_s: float = Field(default=600.0, ge=1, le=3600)
    """So long it may take for one exam, all its questions and moves together."""

    @field_validator("address")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        return _with_port(value)

    @model_validator(mode="after")
    def _certificate_needs_tls(self) -> Query:
        if self.certificate is not None and self.tls is None:
            raise ValueError("certificate needs [priors.query.tls], else none is shown")
        return self

    @property
    def peer(self) -> tuple[str, str, int]:
        """How it is called, its host and its port."""
        called, _, place = self.address.partition("@")
        host, _, port = place.rpartition(":")
        return called, host.strip("[]"), int(port)


class Priors(Record):
    """What is kept of each chest CT, so that a later one can be compared with it."""

    keep: bool = True
    """Off: nothing more is kept; what lies there goes by `days`, or by `scanside priors forget`."""
    days: float = Field(default=1900.0, gt=0)
    """Entries older than this are deleted: sub-solid nodules are followed for five years."""
    max_mb: int = Field(default=20000, ge=0)
    """The longest stored are deleted where all together are larger."""
    issuer: Annotated[str, Field(max_length=64)] = ""
    """What counts as Issuer of Patient ID (0010,0021) where an image names none."""
    dummies: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Patient IDs of this site that stand for nobody, such as that of emergencies; a few that all
    sites have are known anyway (appliance/prior/patient.py)."""
    query: tuple[Query, ...] = ()
    """The archives that are asked for earlier exams; none: nobody is."""

    @model_validator(mode="after")
    def _fits(self) -> Priors:
        names = [one.name for one in self.query]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two [[priors.query]] have the name {double[0]!r}; each its own")
        if self.query and not self.keep:
            raise ValueError("[[priors.query]] asks for what keep = false does not keep")
        return self


class Watch(Record):
    """How the box watches its inputs and itself."""

    probe: bool = True
    """Whether implants show, while nothing else is to be done, how well is found on each scanner
    (appliance/probe). Nothing is done where no bundle has shapes."""


class PageTLS(Record):
    """Paths of PEM files (BCP 195: TLS 1.2 or later)."""

    certificate: Path
    """With the chain behind it."""
    key: Path


class Web(Record):
    """The page at the bedside."""

    enabled: bool = False
    host: str = "127.0.0.1"
    """The address that it listens at. Off the loopback of this machine it needs [web.tls]."""
    port: int = Field(default=8042, ge=1, le=65535)
    tls: PageTLS | None = None
    hosts: tuple[HostName, ...] = ()
    """Names, beside `host` and localhost, under which a browser may ask for it."""
    names: bool = False
    """Whether patients' names are kept with reports and shown to those who may see them."""
    session_hours: float = Field(default=12.0, gt=0, le=168)
    """A login ends after so long."""
    idle_minutes: float = Field(default=60.0, gt=0, le=1440)
    """And after so long without a page that was asked for."""
    languages: tuple[Literal["en", "zh"], ...] = Field(default=("en", "zh"), min_length=1)
    """Which are offered; the first where a browser asks for none of them."""
    metrics_token_file: Path | None = None
    """Its first line is what /metrics asks for (Bearer, RFC 6750); without it there is none."""

    @field_validator("host")
    @classmethod
    def _an_address(cls, value: str) -> str:
        return str(ipaddress.ip_address(value))

    @model_validator(mode="after")
    def _secured(self) -> Web:
        if self.tls is None and not is_loopback(self.host):
            raise ValueError(
                "the page leaves this machine with TLS alone: name certificate and key in "
                '[web.tls], or write host = "127.0.0.1"'
            )
        return self


class Update(Record):
    """Where new releases come from, and which of them come by themselves."""

    url: str | None = None
    """Where the repository of releases begins. Without it nothing is asked of anybody."""
    ca: Path | None = None
    """PEM file of the authority of an https server; the public ones of the system without it."""
    proxy: str | None = None
    """http://HOST:PORT of a proxy. That of the environment is not used."""
    window: Annotated[str, Field(pattern=r"^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$")] | None = None
    """When a version may change by itself, in local time: 22:00-05:00. Without it at any time."""
    auto: tuple[Literal["security", "feature", "model"], ...] = ("security",)
    """Which kinds of release come without being asked for; may be empty."""
    channel: Annotated[str, Field(pattern=CHANNEL)] = "stable"
    """The channel of the repository from which this box takes releases."""
    most_kb_s: float = Field(default=2000.0, gt=0)
    """What is fetched in a second at most, in 10^3 bytes: images of a scanner come first."""
    limit_mb: float = Field(default=4000.0, gt=0)
    """What `update` may keep of what it fetched, in 10^6 bytes; where more lies all of it goes."""
    root: Path | None = None
    """Where the slots lie: /opt/scanside. Without it this is no box that updates itself."""
    desired: bool = False
    """Whether `update/desired` over MQTT may let this box look for a release, or hold it."""
    trusted: Path = Path("/var/lib/scanside-update")
    """What the stage `apply` alone writes."""
    downloads: Path = Path("/var/lib/scanside-downloads")
    """What the stage `update` alone writes, and nobody believes."""

    @field_validator("url")
    @classmethod
    def _of_a_repository(cls, value: str | None) -> str | None:
        # http is enough: what is taken is decided by signatures, whoever carries it
        return None if value is None else parts_of_url(value, "https", "http").geturl().rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _of_a_proxy(cls, value: str | None) -> str | None:
        if value is not None and parts_of_url(value, "http").path.strip("/"):
            raise ValueError("a proxy is http://HOST:PORT and nothing behind it")
        return value

    @field_validator("window")
    @classmethod
    def _two_times(cls, value: str | None) -> str | None:
        if value is not None and len({time.fromisoformat(part) for part in value.split("-")}) < 2:
            raise ValueError("a window ends at another time than it begins: 22:00-05:00")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Update:
        if self.ca is not None and not (self.url or "").startswith("https:"):
            raise ValueError("ca is for a url with https; take it out")
        if self.proxy is not None and self.url is None:
            raise ValueError("proxy is for a url; name the url too, or take it out")
        return self

    def open_at(self, at: time) -> bool:
        """Whether a local time lies in the window: from its first minute on, before its last."""
        if self.window is None:
            return True
        first, last = (time.fromisoformat(part) for part in self.window.split("-"))
        now = at.replace(second=0, microsecond=0, tzinfo=None)
        return first <= now < last if first < last else now >= first or now < last


class Qa(Record):
    """Quality assurance by water phantoms (docs/qa.md)."""

    every_days: float | None = Field(default=None, gt=0)
    """`doctor` and the page remind of a phantom once the last one is older. Without it never."""
    diameter_mm: float | None = Field(default=None, gt=0)
    """Of the phantom. Without it the first phantoms of a protocol say how wide it is."""


class Host(Record):
    power_mode: str | None = None
    """A Jetson's power mode by name, such as MAXN_SUPER or 25W: `doctor` says when it is another.
    An engine is tuned for the mode that it was built in."""
