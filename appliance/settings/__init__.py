"""Site settings: one TOML file, every key known, every figure with its unit.

An unknown key is an error, because a misspelt limit must not be silently ignored. Found in this
order: --config, $SCANSIDE_CONFIG, ./scanside.toml, /etc/scanside/scanside.toml, else defaults.
Defaults deny: no AE title may send until `[[dicom.allow]]` names it.

    file        where it is looked for, and what it says as a whole
    sections    a model a section; a new one goes here
    archives    [[deliver]]
    addresses   what is refused in an address
"""

from __future__ import annotations

from appliance.settings.archives import Deliver, Stow
from appliance.settings.file import Settings, default_state, find, load
from appliance.settings.sections import (
    TLS,
    Allow,
    Dicom,
    Host,
    Mqtt,
    PageTLS,
    Priors,
    Query,
    Retain,
    Site,
    Update,
    Watch,
    Web,
    Work,
)

__all__ = [
    "TLS",
    "Allow",
    "Deliver",
    "Dicom",
    "Host",
    "Mqtt",
    "PageTLS",
    "Priors",
    "Query",
    "Retain",
    "Settings",
    "Site",
    "Stow",
    "Update",
    "Watch",
    "Web",
    "Work",
    "default_state",
    "find",
    "load",
]
