"""Renews the networks of lungs and masses of a bundle, and keeps all the others.

    python -m training.recipes.lung_nodule.renew [--bundle BUNDLE] [--version 1.3.0]
        --segment disease-fold-1 --disease disease.json
        --mass mass --mass_heads mass-heads.json --mass_figures mass-figures.json

Writes the source folder of the next version, as `export` does. BUNDLE is the one in the factory.

Rules.
1. What is kept is kept byte for byte: the networks of nodules, their heads, threshold and figures,
   and the shapes for the probe. The networks say in `notes` which version they are of and what was
   noted of them.
2. What is new comes from finished runs and their judges, as in `export`; a kept figure of what is
   renewed is left out. No network is judged on a CT that it learned from: `judge_disease` and
   `calibrate_masses` refuse that.
3. Golden cases are recorded anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.bundle import trust
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Figure, Manifest
from training.errors import RunError, command
from training.learn.knobs import knobs_from_command_line
from training.read.folders import work_folder
from training.recipes.lung_nodule import bundle, export, figures
from training.recipes.lung_nodule.golden_inputs import record
from training.ship import learned, shapes
from training.ship.provenance import Source, provenance
from training.ship.source_folder import copied, precision_named, write

RENEWED: tuple[bundle.Role, ...] = ("segment", "mass")
OF_RENEWED = ("implanted masses", "disease", " its mass")
"""What the name of a figure of a renewed network has in it (figures.py)."""


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    bundle: str = "appliance/factory/bundles/lung-nodule.scanside"  # whose networks are kept
    out: str = "build/lung-nodule"  # source folder, relative to the working folder
    segment: str = "disease-fold-1"  # run of the lung network, which draws disease
    mass: str = "mass"  # run of the network of masses, which draws them
    disease: str = ""  # json that `judge_disease` wrote
    mass_heads: str = ""  # json that `calibrate_masses` wrote
    mass_figures: str = ""  # the same, with its figures
    version: str = "1.3.0"  # of the new bundle
    precision: str = "int8"  # or fp32: the float networks of the same runs


def kept_figures(manifest: Manifest) -> dict[str, Figure | float]:
    """The figures of what is kept (rule 2)."""
    return {
        name: one
        for name, one in manifest.provenance.figures.items()
        if not any(part in name for part in OF_RENEWED)
    }


def notes(manifest: Manifest, runs: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What a card says of where the networks come from; `runs`: role -> quantize.json."""
    kept = ", ".join(_kept(manifest))
    before = manifest.provenance
    return (
        (
            f"{kept}: those of {manifest.version}, made {before.made[:10]}. They learned before a "
            "patient was left out of patches and shapes for tests elsewhere. Noted of them:"
        ),
        *before.notes,
        *(f"{role}: {export.learned_by(of['run'])}" for role, of in runs.items()),
        "The mask of the lungs was renewed and the threshold of nodules was not fitted again.",
    )


def described(
    manifest: Manifest, k: Knobs, made: Mapping[str, Any], goldens: list[dict[str, Any]]
) -> dict[str, Any]:
    """source.json of the new version."""
    line = manifest.line_of(SegmentProposeClassify)
    disease = export.read(k.disease)
    return bundle.described(
        line.calibration,
        made,
        goldens,
        k.version,
        line.propose.top_k,
        precision_named(k.precision),
        cube=line.cube,
        mass=export.mass_head(k.mass_heads),
        measure=line.measure,
        body=bundle.BODY_HEAD,
        disease=bundle.disease_head(disease["diffuse_share"]),
        masses_mm=export.MASSES_MM,
    )


def refuse_others(manifest: Manifest, networks: Mapping[bundle.Role, bytes]) -> None:
    """RunError where a renewed network does not draw, or a kept one would be read otherwise."""
    for role in RENEWED:
        if not bundle.draws(role, networks[role]):
            raise RunError(f"the run of {role} draws nothing: give one that does, or use `export`")
    for role in _kept(manifest):
        if manifest.networks[role].preprocess != bundle.OPS[role]:
            raise RunError(f"{role} of {manifest.version} has other ops: it cannot be kept")


def _kept(manifest: Manifest) -> Iterable[bundle.Role]:
    return [role for role in bundle.OPS if role in manifest.networks and role not in RENEWED]


def renewed(loaded: trust.Loaded, k: Knobs, sources: Sequence[Source], out: Path) -> None:
    """Writes the source folder `out` of the new version."""
    manifest, precision = loaded.manifest, precision_named(k.precision)
    out.mkdir(parents=True, exist_ok=True)
    files = {**bundle.FILES, **bundle.ADDED}
    networks: dict[bundle.Role, bytes] = {}
    about: dict[str, Any] = {}
    for role in _kept(manifest):
        networks[role] = loaded.networks[role]
        (out / files[role]).write_bytes(networks[role])
        before = manifest.networks[role]
        about[role] = {"kept_from": manifest.version, "sha256": before.digest}
        if before.quantized is not None:
            about[role]["quantized"] = before.quantized.model_dump(mode="json")
    runs: dict[bundle.Role, str] = {"segment": k.segment, "mass": k.mass}
    for role, run in runs.items():
        networks[role], about[role] = copied(work_folder(run), precision, out / files[role])
    refuse_others(manifest, networks)
    found: dict[str, Figure | float] = {
        **kept_figures(manifest),
        **figures.of_masses(export.read(k.mass_figures)),
        **figures.of_disease(export.read(k.disease)),
    }
    said = notes(manifest, {role: about[role] for role in RENEWED})
    made = provenance(sources, manifest.provenance.seed, found, said)
    ordered = {role: networks[role] for role in bundle.OPS if role in networks}
    source = described(manifest, k, made, record(ordered, out))
    if loaded.shapes is not None:
        source |= shapes.beside(out, loaded.shapes, source)
    write(out, source, source["line"]["calibration"], {}, about)


def main() -> None:
    """The bundle whose networks are kept, the data of the new ones, the source folder."""
    k = knobs_from_command_line(Knobs())
    if not (k.disease and k.mass_heads):
        raise RunError("--disease and --mass_heads are wanted: their judges write them")
    loaded = trust.check(Path(k.bundle).read_bytes())
    kept = [one.model_dump(mode="json") for one in loaded.manifest.provenance.sources]
    sources = learned.union([*kept, *learned.of_runs([k.segment, k.mass])])
    renewed(loaded, k, sources, Path(k.out))


if __name__ == "__main__":
    command(main)
