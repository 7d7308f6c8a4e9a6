"""`scanside enroll FILE`: a box becomes the one that the fleet team calls so, with its own key.

    schema = "scanside.enroll/1"
    site = "radiology"                    # with the device: the box's branch at the broker
    device = "ct-1"
    channel = "stable"                    # whose releases it takes: stable, canary or site-NAME

    [broker]
    host = "192.0.2.2"
    port = 8883
    ca = '''-----BEGIN CERTIFICATE----- ...'''      # who vouches for the broker; left out: no TLS

    [update]                              # may be left out: releases then come on a stick
    url = "https://releases.example/scanside"
    ca = '''...'''                        # left out: the authorities of the system
    proxy = "http://192.0.2.3:3128"
    window = "22:00-05:00"
    auto = ["security", "feature"]

Rules.
1. Root alone. What is not named above is refused: the file changes neither whose releases are
   believed (1.root.json) nor whose bundles (state/trust). Both came with the installer.
2. The private key is made here and never leaves the box; what goes out is a request for a
   certificate (PKCS #10, RFC 2986) beside FILE. Its name is SITE/DEVICE, which is what a broker
   such as mosquitto (`use_identity_as_username`) then calls the box.
3. `enroll --cert` takes the answer if it is for that key and valid now.
4. Of the settings only [site], [mqtt], [mqtt.tls] and [update] are written anew, with all keys that
   FILE cannot name; every other line stays as it is, letter by letter. The file before is kept as
   scanside.toml.before. What the settings would refuse is not written.
5. Repeatable: the same file again changes nothing, and the key stays.
"""

from __future__ import annotations

import grp
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from appliance import settings as site
from appliance.errors import SettingsInvalid, StateUnusable
from appliance.release.record import Channel
from appliance.report import Record
from appliance.settings import sections
from appliance.store.files import DISK

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

FOLDER = Path("/etc/scanside")
KEY, CERTIFICATE, BROKER_CA, UPDATE_CA = "mqtt.key", "mqtt.crt", "broker-ca.pem", "update-ca.pem"
GROUP = "scanside"
"""Of the stages: `publish` reads the key."""
_HEAD = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_OURS: Mapping[str, tuple[str, ...]] = {
    "site": ("name", "device"),
    "mqtt": ("host", "port"),
    "mqtt.tls": ("ca", "cert", "key"),
    "update": ("channel", "url", "ca", "proxy", "window", "auto"),
}
"""Table -> what of it FILE says, or leaves out on purpose."""


class Broker(Record):
    """Where findings go."""

    host: str = Field(min_length=1, max_length=253)
    port: int = Field(default=8883, ge=1, le=65535)
    ca: str | None = Field(default=None, description="PEM; without it nothing is encrypted")


class Releases(Record):
    """As [update] of the settings, with `ca` as PEM."""

    url: str
    ca: str | None = None
    proxy: str | None = None
    window: str | None = None
    auto: tuple[Literal["security", "feature", "model"], ...] | None = None


class Enrolment(Record):
    """FILE."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.enroll/1"] = Field(alias="schema")
    site: sections.TopicPart
    device: sections.TopicPart
    channel: Channel
    broker: Broker
    update: Releases | None = None


def enroll(file: Path, folder: Path = FOLDER) -> list[str]:
    """Lines for a person. SettingsInvalid, StateUnusable."""
    _require_root()
    asked = read(file)
    settings = folder / "scanside.toml"
    before = settings.read_text(encoding="utf-8") if settings.exists() else ""
    after = merged(before, sections_of(asked, folder))
    authorities = {BROKER_CA: asked.broker.ca, UPDATE_CA: asked.update and asked.update.ca}
    for name, pem in authorities.items():
        if pem:
            _require_certificate(pem, name)
    _require_loads(after, settings)
    DISK.make_folder(folder)
    for name, pem in authorities.items():
        if pem:
            _write(folder / name, pem)
    lines = []
    if asked.broker.ca is not None:
        request = file.with_name(f"{asked.site}-{asked.device}.csr.pem")
        DISK.write(request, _request(_key(folder / KEY), f"{asked.site}/{asked.device}"))
        lines = [
            f"{request}: send it to whoever signs for the broker",
            "next: scanside enroll --cert ANSWER",
        ]
    if after == before:
        return [f"{settings}: as it was; next: scanside doctor", *lines]
    if before:
        _write(settings.with_name(f"{settings.name}.before"), before)
    _write(settings, after)
    return [f"{settings}: written; next: scanside doctor", *lines]


def take(certificate: Path, folder: Path = FOLDER, now: datetime | None = None) -> list[str]:
    """Rule 3: lines for a person. SettingsInvalid."""
    from cryptography import x509  # noqa: PLC0415 - this verb alone

    _require_root()
    data = _bytes(certificate)
    try:
        answer = x509.load_pem_x509_certificate(data)
        mine = _load(folder / KEY).public_key()
    except (ValueError, FileNotFoundError) as e:
        raise SettingsInvalid(
            f"{certificate} is no certificate in PEM, or this box was not enrolled: {e}",
            remedy="Type `scanside enroll FILE` first, then name the answer to its request.",
            code="enroll_certificate",
        ) from e
    if answer.public_key() != mine:
        raise SettingsInvalid(
            f"{certificate} is for another key than this box has",
            remedy="Send the newest request of this box to be signed, and name the answer to it.",
            code="enroll_certificate",
        )
    at = now or datetime.now(timezone.utc)
    begins, ends = answer.not_valid_before_utc, answer.not_valid_after_utc
    if not begins <= at < ends:
        raise SettingsInvalid(
            f"{certificate} holds from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, and it is "
            f"{at:%Y-%m-%d} here",
            remedy="Ask for another one, or set the clock of this box.",
            code="enroll_certificate",
        )
    _write(folder / CERTIFICATE, data.decode("ascii"))
    return [f"{folder / CERTIFICATE}: holds until {ends:%Y-%m-%d}; next: scanside doctor"]


def read(file: Path) -> Enrolment:
    """FILE. SettingsInvalid (`enroll_file`) names what is wrong there."""
    try:
        data = tomllib.loads(_bytes(file).decode())
        return Enrolment.model_validate(data)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        why = f"{key}: {first['msg']}"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        why = f"not TOML: {e}"
    raise SettingsInvalid(
        f"{file}: {why}",
        remedy="Ask the fleet team for a file that holds only what `scanside enroll --help` lists.",
        code="enroll_file",
    )


def sections_of(asked: Enrolment, folder: Path) -> dict[str, dict[str, Any]]:
    """What of the settings is written anew; pure."""
    broker, update = asked.broker, asked.update
    tables: dict[str, dict[str, Any]] = {
        "site": {"name": asked.site, "device": asked.device},
        "mqtt": {"host": broker.host, "port": broker.port},
    }
    if broker.ca is not None:
        tables["mqtt.tls"] = {
            "ca": str(folder / BROKER_CA),
            "cert": str(folder / CERTIFICATE),
            "key": str(folder / KEY),
        }
    tables["update"] = {"channel": asked.channel}
    if update is not None:
        said = update.model_dump(exclude_none=True)
        if update.ca is not None:
            said["ca"] = str(folder / UPDATE_CA)
        tables["update"] |= said
    return tables


def merged(text: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Rule 4: the settings `text` with these tables in the place of its own; pure."""
    kept = "".join(_without(text, tuple(_OURS))).rstrip("\n")
    parts = [kept] if kept else []
    for name, said in _OURS.items():
        table: Any = tomllib.loads(text)
        for part in name.split("."):
            table = table.get(part, {})
        stay = {k: v for k, v in table.items() if k not in said and not isinstance(v, dict)}
        keys = {**tables.get(name, {}), **stay}
        if keys:
            lines = [f"{key} = {_value(value)}" for key, value in keys.items()]
            parts.append("\n".join([f"[{name}]  # by scanside enroll", *lines]))
    return "\n\n".join(parts) + "\n"


def _without(text: str, names: Sequence[str]) -> Iterator[str]:
    """The lines of a TOML file but for these tables."""
    leave = False
    for line in text.splitlines(keepends=True):
        if head := _HEAD.match(line):
            leave = head[1].strip() in names
        if not leave:
            yield line


def _value(value: Any) -> str:
    """A string, number or list as TOML: a JSON string is a basic string of TOML 1.0."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _require_loads(text: str, path: Path) -> None:
    """SettingsInvalid where the settings would refuse it (rule 4)."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        trial.write_text(text, encoding="utf-8")
        try:
            site.load(trial)
        except SettingsInvalid as e:
            raise SettingsInvalid(
                e.text.replace(str(trial), f"{path}, with what is enrolled"), remedy=e.remedy
            ) from e


def _write(path: Path, text: str) -> None:
    """For everybody on the box to read."""
    DISK.write(path, text.encode())
    path.chmod(0o644)


def _key(path: Path) -> PrivateKeyTypes:
    """The key of this box, made at the first call: P-256, readable by root and the stages."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    with suppress(FileNotFoundError):
        return _load(path)
    made = ec.generate_private_key(ec.SECP256R1())
    temp = path.with_name(f".{path.name}.new")
    temp.unlink(missing_ok=True)
    handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(handle, "wb") as file:
        file.write(
            made.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    with suppress(KeyError):  # a box without the stages' group: root alone reads it
        os.chown(temp, 0, grp.getgrnam(GROUP).gr_gid)
        temp.chmod(0o640)
    DISK.adopt(temp, path)
    return made


def _load(path: Path) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    return serialization.load_pem_private_key(path.read_bytes(), password=None)


def _request(key: PrivateKeyTypes, name: str) -> bytes:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - `_key` made it
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def _require_certificate(pem: str, name: str) -> None:
    from cryptography import x509  # noqa: PLC0415

    try:
        x509.load_pem_x509_certificates(pem.encode())
    except ValueError as e:
        raise SettingsInvalid(
            f"the certificate for {name} cannot be read: {e}",
            remedy="Ask the fleet team for a whole file: the certificate stands there as PEM.",
            code="enroll_file",
        ) from e


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise SettingsInvalid(
            f"{path}: {e.strerror}", remedy="Name a file that is there.", code="enroll_file"
        ) from e


def _require_root() -> None:
    if os.geteuid() != 0:
        raise StateUnusable(
            "only root may enroll a box",
            remedy="Type: sudo scanside enroll FILE",
            code="not_root",
        )
