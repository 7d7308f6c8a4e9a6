"""The model card of a bundle, in Markdown, from its manifest alone (arXiv:1810.03993).

Rules. The notice stands first. What the manifest does not say is written as not stated, never left
out. Text from the manifest cannot make Markdown or HTML: it is escaped and kept on one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from appliance.bundle.accepts import Accepts, Limits
from appliance.bundle.manifest import Figure, Manifest

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
        ("## Never tested on", _bullets((*UNTESTED, *made.never_tested))),
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
        *(_slices(wants) if manifest.line.sees_slices else ()),
        ("age in years", age),
        ("must be said", ", ".join(wants.required).replace("_", " ") or "nothing"),
    ]


def _slices(wants: Accepts) -> list[tuple[str, str]]:
    return [
        ("spacing and thickness", f"up to {wants.spacing_mm.full:g} mm in full"),
        ("limited", f"up to {wants.spacing_mm.limited:g} mm"),
        *_masses_only(wants.spacing_mm),
        ("least cover", f"{wants.cover_mm:g} mm, {wants.min_slices} slices"),
        ("largest gap", f"{wants.max_gap_mm:g} mm"),
        ("preferred kernels", ", ".join(wants.kernels_preferred) or "none"),
    ]


def _masses_only(limits: Limits) -> list[tuple[str, str]]:
    return [] if limits.masses is None else [("masses alone", f"up to {limits.masses:g} mm")]


def _limits(manifest: Manifest) -> tuple[str, ...]:
    limits = manifest.line.limits(manifest.accepts)
    if not manifest.line.finds:
        return limits
    return (
        *limits,
        f"Only findings with a score of at least {manifest.line.least_score:g}.",
        "A score is detection confidence, not a probability of malignancy.",
    )


def _networks(manifest: Manifest) -> str:
    rows = ["| role | file | precision | digest |", "|---|---|---|---|"]
    rows += [
        f"| {role} | {_plain(n.file)} | {n.precision} | {n.digest[:12]} |"
        for role, n in sorted(manifest.networks.items())
    ]
    ways = [
        f"{role}: int8 by {q.method} on {q.images} images ({q.images_digest[:12]}), "
        f"scales {q.scales_digest[:12]}."
        for role, n in sorted(manifest.networks.items())
        if (q := n.quantized) is not None
    ]
    return "\n".join(rows) + (f"\n\n{_bullets(ways)}" if ways else "")


def _data(manifest: Manifest) -> str:
    data = [(s.name, s.licence, s.digest) for s in manifest.provenance.sources]
    if (given := manifest.shapes) is not None:
        name = f"{given.count} shapes of nodules for the probe, carried: {given.source}"
        data.append((name, given.licence, given.digest))
    if not data:
        return NOT_STATED
    rows = ["| data | licence | digest |", "|---|---|---|"]
    rows += [f"| {' | '.join(map(_plain, one))} |" for one in data]
    return "\n".join(rows)


def _figures(manifest: Manifest) -> str:
    figures = manifest.provenance.figures
    if not figures:
        return NOT_STATED
    rows = ["| figure | value | 95 % interval | cases |", "|---|---|---|---|"]
    for name in sorted(figures, key=_by_number):
        found = figures[name]
        one = found if isinstance(found, Figure) else Figure(value=found)
        between = "" if one.low is None or one.high is None else f"{one.low:.3g} to {one.high:.3g}"
        rows.append(f"| {_plain(name)} | {one.value:.4g} | {between} | {one.n or ''} |")
    return "\n".join(rows)


def _by_number(name: str) -> list[tuple[int, float, str]]:
    """A key that puts 2 before 10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(1, float(p), "") if i % 2 else (0, 0.0, p) for i, p in enumerate(parts)]


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
