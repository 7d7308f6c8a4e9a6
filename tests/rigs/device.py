"""A device of one process: its settings, its shelf, and the fold over a series."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from appliance.bundle import archive
from appliance.bundle.shelf import Entry
from appliance.records import Result
from appliance.report import Report
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings
from rigs.bundles import signed, trust_tests
from rigs.shelves import audited


class Process(Protocol):
    """Instances of one series -> the Result of the tiny bundle."""

    def __call__(self, instances: Sequence[bytes], /) -> Result: ...


class Seal(Protocol):
    """A Result -> the Report of a first, final revision."""

    def __call__(
        self, result: Result, *, publish_uids: bool = False, key: bytes = b"k" * 32
    ) -> Report: ...


def renamed(bundle: bytes, **changes: object) -> bytes:
    """The same bundle with other words in its manifest; unsigned."""
    entries = archive.read(bundle)
    manifest = json.loads(entries["manifest.json"]) | changes
    return archive.write(entries | {"manifest.json": json.dumps(manifest).encode()})


class Device:
    """Settings, and bundles that become active with them."""

    def __init__(self, folder: Path, bundle: bytes) -> None:
        self.folder, self.bundle = folder, bundle
        self.settings = Settings.model_validate(
            {
                "state": folder / "state",
                "work": {"backend": "onnxruntime", "threads": 2, "quiet_s": 0.2},
            }
        )

    def activate(self, **changes: object) -> Entry:
        """The tiny bundle, under another name or with other wishes, is active from now on."""
        path = self.folder / "added.scanside"
        path.write_bytes(signed(renamed(self.bundle, **changes)))
        trust_tests(self.settings.state)
        shelf = OpenBundles(self.settings, audited(self.settings.state)).shelf
        entry = shelf.add(path, allow_development=True)
        return shelf.activate(entry.name, entry.digest)

    def toml(self) -> Path:
        path = self.folder / "scanside.toml"
        path.write_text(
            f'state = "{self.settings.state}"\n[work]\nbackend = "onnxruntime"\nthreads = 2\n'
        )
        return path
