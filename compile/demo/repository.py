"""The people of a repository of releases, their keys, and what they type (docs/keys.md).

All keys lie in one folder under one passphrase here. Nobody does that who means it.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from appliance.errors import ReleaseRefused
from compile.release import command
from compile.release.folder import PUBLIC
from compile.sign import keygen

OWNERS = {
    "root": ("anna", "bert", "carl"),
    "targets": ("dora", "emil", "fritz"),
    "stable": ("gina", "hans", "ines"),
    "canary": ("jan",),
    "rollout": ("first",),
    "snapshot": ("which",),
    "timestamp": ("when",),
}
ONLINE = ("first", "which", "when")
_PASSPHRASE = b"four words nobody guesses"


@dataclass(frozen=True, slots=True)
class Repository:
    """In `folder`: keys/, repo/, and what releases are made of."""

    folder: Path
    requirements: Path
    wheels: Path
    python: tuple[str, str]
    """The first Python that is meant, and the first that is not any more."""

    @property
    def repo(self) -> Path:
        """Where it is made."""
        return self.folder / "repo"

    @property
    def served(self) -> Path:
        """What a web server shows."""
        return self.repo / PUBLIC

    @property
    def first_root(self) -> Path:
        """What an installer carries."""
        return self.served / "metadata" / "1.root.json"

    def begin(self) -> None:
        """Keys for everybody, a repository, all signed and published."""
        keys = self.folder / "keys"
        keys.mkdir(parents=True)
        (keys / "passphrase").write_bytes(_PASSPHRASE + b"\n")
        words: list[str] = []
        for role, names in OWNERS.items():
            words += [
                f"--{role}",
                *(str(keygen(keys / f"{n}.key", "repository", _PASSPHRASE)) for n in names),
            ]
        self._type("init", *words)
        for name in ("anna", "bert", "dora", "emil", "gina", "hans", "jan"):
            self._sign(name)
        self.publish()
        (self.folder / "vex.json").write_text(
            json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "vulnerabilities": []})
        )

    def release(
        self,
        wheel: Path,
        notes: str,
        *,
        sbom: Path,
        bundles: Sequence[Path] = (),
        kind: str = "feature",
        intended_use_changes: bool = False,
    ) -> None:
        """One more in stable, signed by two of three and published."""
        at_least, below = self.python
        text = f"""kind = "{kind}"
notes = "{notes}"
intended_use_changes = {str(intended_use_changes).lower()}
appliance = "{wheel}"
bundles = {json.dumps([str(one) for one in bundles])}
sbom = "{sbom}"
vex = "{self.folder / "vex.json"}"

[[devices]]
kind = "x86-64"
python = {{ at_least = "{at_least}", below = "{below}" }}
requirements = "{self.requirements}"
wheels = "{self.wheels}"
"""
        (self.folder / "release.toml").write_text(text)
        self._type("add", "stable", "--from", str(self.folder / "release.toml"))
        for name in ("gina", "hans"):
            self._sign(name)
        self.publish()

    def recall(self, version: str, reason: str) -> None:
        """This version of the appliance must not run any more; signed by two of targets."""
        self._type("recall", "--appliance", version, "--reason", reason)
        for name in ("dora", "fritz"):
            self._sign(name)
        self.publish()

    def stick(self, out: Path) -> None:
        """A copy for boxes without a network, for 30 days; then publish above it."""
        shutil.rmtree(out, ignore_errors=True)
        self._type("stick", str(out), "--days", "30", *self._keys("which", "when"))
        self.publish()

    def publish(self) -> None:
        """What the server does once a day."""
        self._type("publish", *self._keys(*ONLINE))

    def _sign(self, name: str) -> None:
        self._type("sign", *self._keys(name), "--yes")

    def _keys(self, *names: str) -> list[str]:
        folder = self.folder / "keys"
        words = [word for name in names for word in ("--key", str(folder / f"{name}.key"))]
        return [*words, "--passphrase-file", str(folder / "passphrase")]

    def _type(self, verb: str, *words: str) -> None:
        said, wrong = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            code = command.main([verb, str(self.repo), *words], datetime.now(timezone.utc))
        if code:
            raise ReleaseRefused(f"release {verb}: {wrong.getvalue().strip()}")
