"""Which image of its series a finding is on, as the viewer counts. Pure.

Rules
- A report counts the images of a volume from 0 and from the feet (`Finding.key_image`); the viewer
  counts from 1 and from the head, as radiologists read. A page says what the viewer says, so that
  who types or reads "image 116 of 218" finds the same one.
- Radiographs have no head end: they stay in the order of the report.
"""

from __future__ import annotations

from appliance.report import Finding, Report


def image_of(report: Report, finding: Finding) -> int:
    """From 1, at most the images of the report."""
    if finding.center_lps_mm is None:
        return finding.key_image + 1
    return max(1, report.series.slices - finding.key_image)
