"""The settings file: where it is looked for, and what it says as a whole.

A key that this release does not know is refused, also after a rollback: nothing tells a key of a
later release from a misspelt one, and a limit that was misspelt must not silently be none. No
update writes this file, and a person gives it a new key only once the release that knows it is
confirmed.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from appliance.errors import SettingsInvalid
from appliance.report import Record
from appliance.settings import sections
from appliance.settings.archives import AnyArchive, Deliver

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
    site: sections.Site = sections.Site()
    dicom: sections.Dicom = sections.Dicom()
    mqtt: sections.Mqtt = sections.Mqtt()
    work: sections.Work = sections.Work()
    bundles: sections.Bundles = sections.Bundles()
    retain: sections.Retain = sections.Retain()
    priors: sections.Priors = sections.Priors()
    qa: sections.Qa = sections.Qa()
    watch: sections.Watch = sections.Watch()
    host: sections.Host = sections.Host()
    web: sections.Web = sections.Web()
    update: sections.Update = sections.Update()
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
