"""An analysis of a volume, with what is unlike all that its bundle was judged on. Pure."""

from __future__ import annotations

from dataclasses import replace

from appliance.bundle.lines import SegmentProposeClassify
from appliance.interpret import unusual
from appliance.lines.kind import Analysis
from appliance.reasons import Code


def judged(found: Analysis, line: SegmentProposeClassify) -> Analysis:
    """The same analysis; where they stand, `unusual_input` and `unusual_output` are the last of its
    limitations. One that analysed nothing stays as it is."""
    if found.reasons or found.too_wide:
        return found
    diffuse = any(reason.code is Code.DIFFUSE_DISEASE for reason in found.limitations)
    more = (
        *unusual.of_input(found.quality, line.usual_input or ()),
        *unusual.of_output(found.findings, found.scores, line.usual_output, diffuse=diffuse),
    )
    return replace(found, limitations=(*found.limitations, *more)) if more else found
