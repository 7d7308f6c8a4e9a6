"""Where a bundle comes from: data with their licences, training code, seed, figures.

Rules.
1. A task says its data, notes and figures; what a provenance holds besides is the same for all.
2. The digest of the code is over all of training/: what a task shares is part of how it was made.
3. A figure carries its 95 % interval and the number of cases where the judge gave them.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.bundle.manifest import Figure
from training.read.files import file_digest

Source = dict[str, str]
"""A data set: name, licence, digest."""


def code_digest() -> str:
    """SHA-256 over the training package's source files, by name."""
    root = Path(__file__).resolve().parents[1]
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def file_source(name: str, licence: str, path: Path) -> Source:
    """A data set that is one file."""
    return {"name": name, "licence": licence, "digest": file_digest(path)}


def folder_source(name: str, licence: str, folder: Path) -> Source:
    """A data set that is the files of one folder; the digest is over theirs, by file name."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(bytes.fromhex(file_digest(path)))
    return {"name": name, "licence": licence, "digest": total.hexdigest()}


def figure(value: float, ends: Sequence[float | None] | None, n: int | None) -> Figure:
    """A figure with the ends of its interval and the number of cases, where they are known."""
    low, high = ends or (None, None)
    return Figure(value=value, low=low, high=high, n=n)


def provenance(
    sources: Sequence[Source],
    seed: int,
    figures: Mapping[str, Figure | float],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The provenance of a bundle that is made now by this code, but for what was never tested:
    that is of the bundle itself (`source_folder.About`)."""
    return {
        "sources": list(sources),
        "seed": seed,
        "code_digest": code_digest(),
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "figures": {
            name: one.model_dump(mode="json") if isinstance(one, Figure) else one
            for name, one in figures.items()
        },
        "notes": list(notes),
    }
