"""Images, and numbers of findings, that are unlike all that a bundle was judged on. Pure.

    figures of the images, limits of the bundle    -> `unusual_input`, or nothing
    findings, what was scored, limits              -> `unusual_output`, or nothing

Rules.
1. Both are limitations: no finding is dropped, and each keeps score and place. They say that nobody
   knows what the findings are worth here, not that they are wrong.
2. A figure that was not measured, and one without a limit, say nothing. A limit's ends are usual.
3. The limits are of the bundle, fitted on the series that it was judged on
   (training/recipes/lung_nodule/usual.py). What the device saw before changes nothing.
4. More findings, or a larger share of the candidates above the threshold, than the limit says is no
   news where `diffuse_disease` stands: it explains them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.bundle.heads import Limit, UsualOutput, VolumeFigure
from appliance.reasons import Code
from appliance.report import Finding, Reason, Scores
from appliance.watching.quality import RadiographQuality, VolumeQuality

WORDS: dict[VolumeFigure, tuple[str, str]] = {
    "noise_hu": ("noise", " HU"),
    "texture_per_mm": ("frequency of the noise", "/mm"),
    "skin_hu_per_mm": ("gradient at the skin", " HU/mm"),
    "lung_edge_hu_per_mm": ("gradient at edges in the lungs", " HU/mm"),
    "tissue_hu": ("soft tissue", " HU"),
    "air_hu": ("air", " HU"),
    "lung_share": ("share of the body that is lung", ""),
    "diameter_mm": ("water-equivalent diameter", " mm"),
    "step_hu": ("difference of neighbouring slices", " HU"),
    "metal_share": ("share of the body that is metal", ""),
}
"""Each figure in words, and its unit."""


def of_input(
    measured: Iterable[VolumeQuality | RadiographQuality], limits: Sequence[Limit]
) -> tuple[Reason, ...]:
    """UNUSUAL_INPUT with each figure of a volume that lies beyond its limit."""
    said = []
    for volume in measured:
        if isinstance(volume, VolumeQuality):
            said += [text for limit in limits if (text := _beyond(volume, limit)) is not None]
    if not said:
        return ()
    text = f"The images are unlike those that the findings were judged on: {'; '.join(said)}."
    return (Reason(code=Code.UNUSUAL_INPUT, text=text, where="series"),)


def _beyond(volume: VolumeQuality, limit: Limit) -> str | None:
    value: float | None = getattr(volume, limit.figure)
    if value is None:
        return None
    words, unit = WORDS[limit.figure]
    if limit.low is not None and value < limit.low:
        return f"{words} {value:g}{unit}, usual is {limit.low:g} or more"
    if limit.high is not None and value > limit.high:
        return f"{words} {value:g}{unit}, usual is {limit.high:g} or less"
    return None


def of_output(
    findings: Sequence[Finding],
    scores: Scores | None,
    limits: UsualOutput | None,
    *,
    diffuse: bool,
) -> tuple[Reason, ...]:
    """UNUSUAL_OUTPUT where more is found than is usual; diffuse: whether DIFFUSE_DISEASE stands."""
    if limits is None or diffuse:
        return ()
    said = []
    if limits.most_findings is not None and len(findings) > limits.most_findings:
        said.append(f"{len(findings)} findings, usual are {limits.most_findings} or fewer")
    scored = () if scores is None else scores.candidates
    if scores is not None and limits.most_share is not None and len(scored) >= limits.share_of:
        above = sum(one.score >= scores.threshold for one in scored)
        if above > limits.most_share * len(scored):
            said.append(
                f"{above} of {len(scored)} candidates reach the threshold, usual are "
                f"{100 * limits.most_share:g} % or fewer"
            )
    if not said:
        return ()
    text = f"{'; '.join(said)}."
    return (Reason(code=Code.UNUSUAL_OUTPUT, text=text[0].upper() + text[1:], where="series"),)
