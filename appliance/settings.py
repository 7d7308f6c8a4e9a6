"""Site settings: one TOML file, every key known, every figure with its unit.

An unknown key is an error, because a misspelt limit must not be silently ignored. Found in this
order: --config, $SCANSIDE_CONFIG, ./scanside.toml, /etc/scanside/scanside.toml, else defaults.
Defaults deny: no AE title may send until `[[dicom.allow]]` names it.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from appliance.errors import SettingsInvalid
from appliance.report import Priority, Product, Record, Verb

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
    certificate: Certificate | None = None
    """Under [dicom.tls]: the one certificate that it may show, also where it takes the answer to a
    storage commitment request. Else any that `ca` has signed."""
    commitment: Address | None = None
    """Where it takes the answer to a storage commitment request: AE@HOST:PORT. Without it such
    requests are refused."""

    @field_validator("commitment")
    @classmethod
    def _has_a_port(cls, value: str | None) -> str | None:
        if value is not None and not 0 < int(value.rpartition(":")[2]) < 65536:
            raise ValueError("a port is 1 to 65535")
        return value

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


class Archive(Record):
    """One archive that gets results as DICOM objects, however it is spoken to."""

    name: TopicPart
    """Ours for it: it stands in the journal, so another name is another archive."""
    profile: tuple[Product, ...] = Field(default=("sr",), min_length=1)
    """Which objects it gets: structured reports, segmentations of findings, of lungs, captures."""
    when: Literal["final", "preliminary"] = "final"
    """`preliminary`: it gets preliminary reports too."""
    rejection_note: bool = False
    """Whether a report that is withdrawn is rejected too, as archives with IHE's Imaging Object
    Change Management understand it: they hide it."""
    tls: TLS | None = None
    """Its authority, and our certificate where it asks for one; without this no TLS is spoken."""
    certificate: Certificate | None = None
    """Under TLS: the one certificate that it may show, whoever opens the connection. Else, where we
    open it, one that names its host."""

    @field_validator("name")
    @classmethod
    def _not_the_broker(cls, value: str) -> str:
        if value == "mqtt":
            raise ValueError("'mqtt' is the broker; give the archive another name")
        return value

    @field_validator("profile")
    @classmethod
    def _once_each(cls, value: tuple[Product, ...]) -> tuple[Product, ...]:
        if len(set(value)) != len(value):
            raise ValueError("an object is named twice; name each once")
        return value

    @model_validator(mode="after")
    def _rejects_what_it_gets(self) -> Archive:
        if self.rejection_note and "sr" not in self.profile:
            raise ValueError(
                'rejection_note rejects reports: put "sr" into profile, or take it out'
            )
        return self


class Deliver(Archive):
    """An archive that gets them by C-STORE (PS3.4 B)."""

    kind: Literal["dicom"] = "dicom"
    host: str = Field(min_length=1)
    port: int = Field(default=104, ge=1, le=65535)
    ae_title: AETitle = "SCANSIDE"
    """How we call ourselves there."""
    called_ae: AETitle
    """How it is called."""
    commitment: bool = False
    """Whether it is asked to promise that it keeps what it took (storage commitment, PS3.4 J). Its
    answer is heard from `host` alone."""


class Stow(Archive):
    """An archive that gets them by STOW-RS (DICOMweb, PS3.18 10.5)."""

    kind: Literal["stow"] = "stow"
    url: str
    """Where its service begins, without /studies: https://pacs.example/dicom-web. http on the
    loopback of this machine alone."""
    token_file: Path | None = None
    """Its first line is the token that we show (Bearer, RFC 6750). Only its owner may read it."""
    username: Annotated[str, Field(pattern=r"^[^:\x00-\x1f\x7f]{1,256}$")] | None = None
    """RFC 7617."""
    password_file: Path | None = None
    """Its first line is the password. Only its owner may read it."""
    proxy: str | None = None
    """http://HOST:PORT of a proxy through which https goes. That of the environment is not used."""

    @field_validator("url")
    @classmethod
    def _of_a_service(cls, value: str) -> str:
        parts = _split(value, "https", "http")
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            raise ValueError("http is for 127.0.0.1 alone: what is sent are names. Write https")
        if parts.path.rstrip("/").endswith("/studies"):
            raise ValueError("/studies is put behind it by us; leave that out")
        return value.rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _of_a_proxy(cls, value: str | None) -> str | None:
        if value is not None and _split(value, "http").path.strip("/"):
            raise ValueError("a proxy is http://HOST:PORT and nothing behind it")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Stow:
        secure = self.url.startswith("https:")
        if secure and self.tls is None:
            raise ValueError(
                "https needs [deliver.tls] with ca = the file of the authority of the archive; "
                'for a public one ca = "/etc/ssl/certs/ca-certificates.crt"'
            )
        if not secure and (self.tls is not None or self.proxy is not None):
            raise ValueError("tls and proxy are for a url with https alone; take them out")
        if (self.username is None) is not (self.password_file is None):
            raise ValueError("username and password_file go together; name both")
        if self.token_file is not None and self.username is not None:
            raise ValueError("token_file, or username with password_file; not both")
        return self


def _split(value: str, *schemes: str) -> SplitResult:
    """The parts of a URL with a host, and without a name, query or fragment in it."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a URL has no blanks and only the signs of ASCII")
    parts = urlsplit(value)  # ValueError where the host is none
    if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
        raise ValueError(f"a URL that begins with {' or '.join(schemes)}, and a host: {value!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no name and no password stand in a URL; they stand in a file")
    if parts.query or parts.fragment:
        raise ValueError("nothing may stand in a URL from ? or # on")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_KINDS: Final = MappingProxyType[str, type[Archive]]({"dicom": Deliver, "stow": Stow})


def _of_its_kind(value: object) -> object:
    """Say it where a line of the file belongs to the other kind of archive."""
    if not isinstance(value, dict):
        return value
    kind = value.get("kind", "dicom")
    if kind not in _KINDS:
        raise ValueError(f"kind is {' or '.join(_KINDS)}, and not {kind!r}")
    for key in value:
        if key not in _KINDS[kind].model_fields:
            for other, one in _KINDS.items():
                if key in one.model_fields:
                    raise ValueError(
                        f'{key} is for kind = "{other}" alone, and this is "{kind}"; '
                        "take the line out"
                    )
    return {**value, "kind": kind}


AnyArchive = Annotated[Deliver | Stow, Field(discriminator="kind"), BeforeValidator(_of_its_kind)]


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
        if self.tls is None and not _is_loopback(self.host):
            raise ValueError(
                "the page leaves this machine with TLS alone: name certificate and key in "
                '[web.tls], or write host = "127.0.0.1"'
            )
        return self


class Host(Record):
    power_mode: str | None = None
    """A Jetson's power mode by name, such as MAXN_SUPER or 25W: `doctor` says when it is another.
    An engine is tuned for the mode that it was built in."""


def default_state() -> Path:
    """/var/lib/scanside for root or systemd (STATE_DIRECTORY), else the XDG state folder."""
    if folders := os.environ.get("STATE_DIRECTORY"):  # systemd.exec(5): the first, then those in it
        return Path(folders.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/scanside")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "scanside"


class Settings(Record):
    state: Path = Field(default_factory=default_state)
    site: Site = Site()
    dicom: Dicom = Dicom()
    mqtt: Mqtt = Mqtt()
    work: Work = Work()
    bundles: Bundles = Bundles()
    retain: Retain = Retain()
    host: Host = Host()
    web: Web = Web()
    deliver: tuple[AnyArchive, ...] = ()

    @property
    def promising(self) -> tuple[Deliver, ...]:
        """The archives that are asked to promise that they keep what they took."""
        return tuple(one for one in self.deliver if isinstance(one, Deliver) and one.commitment)

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        names = [one.name for one in self.deliver]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two [[deliver]] have the name {double[0]!r}; each needs its own")
        return self

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> Settings:
        for one in self.deliver:
            if one.certificate is None:
                continue
            named = f"certificate of [[deliver]] {one.name!r}"
            if one in self.promising and self.dicom.tls is None:
                raise ValueError(
                    f"{named}: with commitment it needs [dicom.tls] too, else the archive shows "
                    "none when it answers"
                )
            if one.tls is None and one not in self.promising:
                raise ValueError(f"{named} needs [deliver.tls], else none is shown")
        return self

    @model_validator(mode="after")
    def _somebody_promises(self) -> Settings:
        if self.dicom.commitment == "relay" and not self.promising:
            raise ValueError(
                '[dicom] commitment = "relay" needs a [[deliver]] with commitment = true, '
                "which is asked"
            )
        return self


def find(explicit: Path | None) -> Path | None:
    """The settings file to use, or None for the defaults."""
    if explicit is not None:
        return explicit
    if named := os.environ.get("SCANSIDE_CONFIG"):
        return Path(named)
    for path in (Path("scanside.toml"), Path("/etc/scanside/scanside.toml")):
        if path.is_file():
            return path
    return None


def load(path: Path | None) -> Settings:
    """Read settings. SettingsInvalid names file, key and what is allowed there."""
    if path is None:
        return Settings()
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise SettingsInvalid(
            f"{path}: {e.strerror}",
            remedy="Name a file that can be read, with --config or in SCANSIDE_CONFIG.",
        ) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SettingsInvalid(f"{path}: not TOML: {e}") from e
    try:
        settings = Settings.model_validate(data)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        at = first["loc"]
        if at[:1] == ("deliver",):
            at = (*at[:2], *at[3:])  # the kind of the archive is no key of the file
        key = ".".join(str(p) for p in at)
        raise SettingsInvalid(f"{path}: {key}: {first['msg']}") from e
    if settings.bundles.allow_unsigned:
        _require_of_root(path)
    return settings


def _require_of_root(path: Path) -> None:
    """SettingsInvalid unless root alone can change the file: a stage that was broken into must not
    be able to allow itself anything."""
    for one in (path, path.absolute().parent):
        facts = one.stat()
        if facts.st_uid != 0 or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SettingsInvalid(
                f"{path}: bundles.allow_unsigned: others than root may write {one}",
                remedy="Put it into /etc/scanside/scanside.toml and type: sudo chown root "
                f"{one} && sudo chmod go-w {one}; or remove the line.",
            )
