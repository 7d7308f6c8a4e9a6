"""The model card of a bundle, in Markdown, from its manifest alone (arXiv:1810.03993).

Rules. The notice stands first. What the manifest does not say is written as not stated, never left
out. Text from the manifest cannot make Markdown or HTML: it is escaped and kept on one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from appliance.bundle.manifest import ClassifyImage, Manifest, SegmentProposeClassify

NOT_STATED = "not stated"
UNTESTED = (
    "Patients, scanners and protocols other than those of the data above.",
    "Lungs changed by emphysema, fibrosis, atelectasis or surgery, unless the data above say so.",
    "Any use in which nobody looks at the images.",
)
"""What holds of every bundle until its provenance says otherwise."""


def card(manifest: Manifest, digest: str) -> str:
    """The card; `digest` is the bundle's."""
    made = manifest.provenance
    sections = (
        (f"# {_plain(manifest.title)}", _bold(manifest.notice)),
        ("## Identity", _rows(_identity(manifest, digest))),
        ("## Intended use", _plain(manifest.intended_use)),
        ("## Accepted series", _rows(_accepted(manifest))),
        ("## Networks", _networks(manifest)),
        ("## Data", _data(manifest)),
        ("## Figures", _figures(manifest)),
        ("## Never tested on", _bullets(UNTESTED)),
        ("## Limits and notes", _bullets((*_limits(manifest), *made.notes))),
    )
    return "\n\n".join(f"{title}\n\n{text}" for title, text in sections) + "\n"


def _identity(manifest: Manifest, digest: str) -> list[tuple[str, str]]:
    made = manifest.provenance
    return [
        ("name", manifest.name),
        ("version", manifest.version),
        ("digest", digest),
        ("needs appliance", f"{manifest.requires_appliance} or later"),
        ("licence", manifest.licence),
        ("made", made.made),
        ("seed", str(made.seed)),
        ("training code", made.code_digest),
    ]


def _accepted(manifest: Manifest) -> list[tuple[str, str]]:
    wants = manifest.accepts
    age = "any" if wants.age_years is None else f"{wants.age_years[0]:g} to {wants.age_years[1]:g}"
    return [
        ("modality", ", ".join(wants.modality)),
        ("body part", ", ".join(wants.body_part)),
        ("spacing and thickness", f"up to {wants.spacing_mm.full:g} mm in full"),
        ("limited", f"up to {wants.spacing_mm.limited:g} mm"),
        ("least cover", f"{wants.cover_mm:g} mm, {wants.min_slices} slices"),
        ("largest gap", f"{wants.max_gap_mm:g} mm"),
        ("preferred kernels", ", ".join(wants.kernels_preferred) or "none"),
        ("age in years", age),
    ]


def _limits(manifest: Manifest) -> tuple[str, ...]:
    wants, line = manifest.accepts, manifest.line
    return (
        f"Spacing from {wants.spacing_mm.full:g} to {wants.spacing_mm.limited:g} mm: limited.",
        f"Then nothing under {wants.spacing_mm.limited_min_diameter_mm:g} mm is reported.",
        *(
            (f"At most {line.max_findings} findings a series.",)
            if isinstance(line, SegmentProposeClassify)
            else ()
        ),
        f"Only findings with a score of at least {_threshold(line):g}.",
        "A score is detection confidence, not a probability of malignancy.",
    )


def _threshold(line: SegmentProposeClassify | ClassifyImage) -> float:
    """The least score of a finding."""
    return line.threshold if isinstance(line, ClassifyImage) else line.calibration.threshold


def _networks(manifest: Manifest) -> str:
    rows = ["| role | file | precision | digest |", "|---|---|---|---|"]
    rows += [
        f"| {role} | {_plain(n.file)} | {n.precision} | {n.digest[:12]} |"
        for role, n in sorted(manifest.networks.items())
    ]
    return "\n".join(rows)


def _data(manifest: Manifest) -> str:
    if not manifest.provenance.sources:
        return NOT_STATED
    rows = ["| data | licence | digest |", "|---|---|---|"]
    rows += [
        f"| {_plain(s.name)} | {_plain(s.licence)} | {_plain(s.digest)} |"
        for s in manifest.provenance.sources
    ]
    return "\n".join(rows)


def _figures(manifest: Manifest) -> str:
    figures = manifest.provenance.figures
    return _rows([(name, f"{figures[name]:.4g}") for name in sorted(figures)])


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {_plain(name)} | {_plain(value)} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else NOT_STATED


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_plain(text)}" for text in texts)


def _bold(text: str) -> str:
    return f"**{_plain(text)}**"


def _plain(text: str) -> str:
    """One line in which no character means anything to Markdown or HTML."""
    line = " ".join(text.split()) or NOT_STATED
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", line)
