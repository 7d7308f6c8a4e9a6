"""[[deliver]]: the archives that get results as DICOM objects, and how each is spoken to."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from appliance.report import Product, Record
from appliance.settings.addresses import is_loopback, parts_of_url
from appliance.settings.sections import TLS, AETitle, Certificate, TopicPart


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
        parts = parts_of_url(value, "https", "http")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("http is for 127.0.0.1 alone: what is sent are names. Write https")
        if parts.path.rstrip("/").endswith("/studies"):
            raise ValueError("/studies is put behind it by us; leave that out")
        return value.rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _of_a_proxy(cls, value: str | None) -> str | None:
        if value is not None and parts_of_url(value, "http").path.strip("/"):
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
