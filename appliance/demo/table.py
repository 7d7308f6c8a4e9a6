"""What the demo's terminal shows of a report: its findings, beside the truth where it is known."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from appliance.phantom import chest as phantoms
from appliance.report import Finding, Report, Status

HIT_MM = 5.0
"""A finding hits a nodule within its radius, at least this (DESIGN: evaluate)."""


def hits(finding: Finding, nodule: phantoms.Nodule) -> bool:
    """Whether a finding lies on a nodule."""
    return math.dist(finding.place_lps_mm, nodule.center_lps_mm) <= max(
        HIT_MM, nodule.diameter_mm / 2
    )


def missed(report: Report, truth: phantoms.Phantom | None) -> list[phantoms.Nodule]:
    """Known nodules of 6-20 mm that no finding hits."""
    if truth is None:
        return []
    asked = [n for n in truth.nodules if 6 <= n.diameter_mm <= 20]
    return [n for n in asked if not any(hits(f, n) for f in report.findings)]


def show(report: Report, truth: phantoms.Phantom | None, console: Console) -> None:
    """The report in a terminal; with the truth, what was found and missed of it."""
    console.print(f"\nreport {report.report_id} · {report.status.value} ({report.stage.value})")
    for reason in (*report.reasons, *report.limitations):
        console.print(f"  [yellow]{reason.code.value}[/yellow] {reason.sentence()}")
    table = Table("", "kind", "score", "x, y, z (LPS mm)", "⌀ mm", "side", title="Findings")
    if truth is not None:
        table.add_column("truth (phantom)")
    for finding in report.findings:
        row = [
            str(finding.id),
            f"{finding.kind}, unsure" if finding.unsure_why else finding.kind,
            f"{finding.score:.2f}",
            ", ".join(f"{v:.0f}" for v in finding.center_lps_mm or ()) or "-",
            f"{finding.diameter_mm:.0f}" if finding.diameter_mm is not None else "-",
            finding.side or "-",
        ]
        if truth is not None:
            hit = next((n for n in truth.nodules if hits(finding, n)), None)
            row.append(f"{hit.diameter_mm:.0f} mm {hit.density}" if hit else "[red]none here[/red]")
        table.add_row(*row)
    if report.findings or truth is not None:
        console.print(table)
    elif report.status is Status.ANALYSED:
        console.print("no finding reached its threshold; that is not a negative")
    if truth is None:
        return
    asked = [n for n in truth.nodules if 6 <= n.diameter_mm <= 20]
    unseen = missed(report, truth)
    console.print(f"{len(asked) - len(unseen)} of {len(asked)} nodules of 6-20 mm were found")
    for nodule in unseen:
        place = ", ".join(f"{v:.0f}" for v in nodule.center_lps_mm)
        console.print(
            f"  [red]missed[/red] {nodule.diameter_mm:.1f} mm {nodule.density} at {place}"
        )
