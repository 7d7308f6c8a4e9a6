"""Gives a bundle of radiographs the network that tells frontal views, and keeps all else of it.

    python -m training.recipes.chest_pneumonia.renew --version 0.1.5 \\
        [--bundle appliance/factory/bundles/chest-pneumonia.scanside] [--frontal pneumonia-frontal]

Writes the source folder of the bundle's next version.

Rules. The network `classify`, its golden case, its heads, bounds and figures stay as they are, byte
for byte (kept.py). What is new comes from a finished run of `frontal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.bundle.lines import ClassifyImage
from appliance.bundle.manifest import Figure, Manifest
from training.errors import RunError, command
from training.learn.knobs import knobs_from_command_line
from training.read.files import file_digest
from training.read.folders import work_folder
from training.recipes.chest_pneumonia import bundle, frontal_figures
from training.recipes.chest_pneumonia.golden_inputs import record_frontal
from training.recipes.chest_pneumonia.kept import heads_of, kept, kept_from, renewed_provenance
from training.ship import learned
from training.ship.source_folder import write

KEPT = "Network of pneumonia, its heads, bounds and figures"


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    version: str = ""  # of the new bundle
    bundle: str = "appliance/factory/bundles/chest-pneumonia.scanside"  # what is kept
    frontal: str = "pneumonia-frontal"  # the run that tells frontal views
    out: str = "build/chest-pneumonia"  # source folder, relative to the working folder


def others(manifest: Manifest) -> dict[str, Figure | float]:
    """The figures that are not of what tells frontal views."""
    found = manifest.provenance.figures
    return {n: one for n, one in found.items() if not n.startswith(frontal_figures.PREFIX)}


def main() -> None:
    """What is kept, what is new, the source folder."""
    k = knobs_from_command_line(Knobs())
    if not k.version:
        raise RunError("--version is wanted: that of the new bundle")
    told, out = frontal_figures.read(work_folder(k.frontal)), Path(k.out)
    manifest, source = kept(Path(k.bundle).read_bytes(), out)
    if manifest.networks["classify"].preprocess != bundle.network("0" * 64).preprocess:
        raise RunError(f"{manifest.name} {manifest.version} has other ops: it cannot be kept")
    first = out / bundle.FRONTAL_FILE
    first.write_bytes(told.network)
    line = manifest.line_of(ClassifyImage).model_copy(update={"version": 3, "frontal": told.head})
    entry = bundle.frontal_network("0" * 64).model_dump(mode="json", exclude={"digest"})
    goldens = [one for one in source["goldens"] if one["network"] != "frontal"]
    unseen = {bundle.NEVER_SEEN} - {*manifest.provenance.never_tested}
    source |= {
        "version": k.version,
        "requires_appliance": line.needs_appliance,
        "line": line.model_dump(mode="json"),
        "networks": {**source["networks"], "frontal": entry},
        "goldens": [*goldens, record_frontal(told.network, out)],
        "provenance": renewed_provenance(
            manifest,
            {**others(manifest), **told.card},
            told.note,
            KEPT,
            learned.of_runs([k.frontal]),
            [*unseen],
        ),
    }
    networks = {**kept_from(manifest), "frontal": {"sha256": file_digest(first)}}
    write(out, source, heads_of(line), {}, networks)


if __name__ == "__main__":
    command(main)
