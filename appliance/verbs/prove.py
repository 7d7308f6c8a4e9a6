"""`scanside prove`: whether bundles compute on this machine what they should (runtime/proof.py).

    scanside prove BUNDLE_OR_FOLDER... [--json]

With --json one record a bundle, a line each (scanside.proof/1); without, a sentence each. Exit 0:
nothing speaks against any of them; 1: at least one failed.

    scanside prove --source FILE.tar.gz --into FOLDER      for `apply`: builds a wheel there
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.bundle.archive import SUFFIX
from appliance.errors import BundleRefused
from appliance.runtime import proof, source_build
from appliance.settings import Settings


def main(paths: Sequence[Path], settings: Settings, *, as_json: bool) -> int:
    """Prints as it goes; the exit code."""
    failed = False
    for path in files(paths):

        def say(step: str, name: str = path.name) -> None:
            sys.stderr.write(f"{name}: {step}\n")

        found = proof.prove(path, settings, say)
        failed |= found.verdict == "failed"
        line = found.model_dump_json(by_alias=True) if as_json else found.one_line()
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 1 if failed else 0


def build(source: Path, into: Path) -> int:
    """The wheel of a library that has none (runtime/source_build.py). NotBuilt."""
    sys.stdout.write(f"{source_build.build(source, into)}\n")
    return 0


def files(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The bundles that these name; of a folder all in it. BundleRefused where one holds none."""
    found: list[Path] = []
    for path in paths:
        here = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not here:
            raise BundleRefused(
                f"{path} holds no bundle",
                remedy=f"Name a file, or a folder with files *{SUFFIX}.",
                code="bundle_not_found",
            )
        found += here
    return tuple(found)
