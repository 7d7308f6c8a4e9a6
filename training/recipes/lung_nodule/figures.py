"""The figures of the lung-nodule bundle's card, out of what the judging commands wrote.

Rules. Nothing is measured here. A figure is named by how it was made, carries its 95 % interval and
the number of cases where the judge gave them, and a figure that was not made is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from appliance.bundle.manifest import Figure
from training.ship.provenance import figure

OUT = "implants, scan left out"
WILSON = re.compile(r"(\d+)/(\d+) \(([\d.]+)-([\d.]+)\)")
"""As calibrate_masses writes a share with its interval."""


def of_patches(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """Patch networks by name -> their AUC on the val split, where their metrics.json has it, and
    that of the mean of those that taught one, with what it is above the one trained alone."""
    found = {}
    for name, metrics in runs.items():
        n = metrics.get("val_n")
        if "val_auc" in metrics:
            ends = metrics.get("val_auc_interval") or [None, None]
            found[f"patches, val split: AUC of {name}"] = figure(metrics["val_auc"], ends, n)
        compared = metrics.get("compared", {})
        for row, what in (
            ("teacher", f"patches, val split: AUC of what taught {name}"),
            ("teacher minus alone", f"patches, val split: what taught {name}, above it alone"),
            ("student minus alone", f"patches, val split: {name}, above it alone"),
        ):
            if row in compared:
                value, low, high, *_ = compared[row]
                found[what] = figure(value, [low, high], n)
    return found


def of_implants(figures: Mapping[str, Any]) -> dict[str, Figure]:
    """figures.json of `calibrate`: the curve, classes at the operating point, lesions."""
    found = {}
    implants = figures.get("implants")
    for row in figures.get("froc", []):
        name = f"{OUT}: sensitivity at {row['fp_per_scan']:g} false a scan"
        found[name] = figure(row["sensitivity"], row.get("interval"), implants)
    for row in figures.get("froc_without_spots", []):
        name = (
            f"{OUT}, unmarked spots set aside: sensitivity at {row['fp_per_scan']:g} false a scan"
        )
        found[name] = figure(row["sensitivity"], row.get("interval"), implants)
    if "cpm" in figures:
        found[f"{OUT}: mean of these (CPM)"] = figure(
            figures["cpm"], figures.get("cpm_interval"), implants
        )
    at = figures.get("at_threshold", {})
    if "sensitivity" in at:
        found[f"{OUT}, operating point: sensitivity"] = figure(at["sensitivity"], None, implants)
        found[f"{OUT}, operating point: false a scan"] = figure(at["fp_per_scan"], None, None)
    for kind in ("size", "kind", "place"):
        for name, row in at.get(f"by_{kind}", {}).items():
            found[f"{OUT}, operating point, {name}: sensitivity"] = figure(
                row["sensitivity"], row.get("interval"), row["of"]
            )
    for who, row in figures.get("real_lesions", {}).items():
        found[f"real lesions marked by {who}, scan left out, operating point: sensitivity"] = (
            figure(row["sensitivity"], row["interval"], row["of"])
        )
    for host, real in figures.get("real", {}).items():
        largest = max(real["lesions"], key=lambda row: row["diameter_mm"], default=None)
        if largest and largest["rank"] is not None:
            what = "cancer" if largest["marked_by"] == "engineers" else "largest nodule"
            found[f"{host} left out: rank of its {what}"] = Figure(value=largest["rank"])
        found[f"{host} left out: other findings at the operating point"] = Figure(
            value=real["others"]
        )
    return found


def of_scans(figures: Mapping[str, Any]) -> dict[str, Figure]:
    """figures.json of `calibrate_scans`: real nodules of scans that no network saw."""
    found: dict[str, Figure] = {}
    of = figures.get("of_scans")
    if not of:
        return found
    name, nodules, at = of["name"], of["nodules"], of["at_threshold"]
    for row in of["curve"]:
        said = f"{name}: sensitivity at {row['fp_per_scan']:g} false a scan"
        found[said] = figure(row["sensitivity"], row["interval"], nodules)
    found[f"{name}: mean of these (CPM)"] = figure(of["cpm"], of["cpm_interval"], nodules)
    found[f"{name}, operating point: sensitivity"] = figure(
        at["sensitivity"], at["interval"], nodules
    )
    found[f"{name}, operating point: false a scan"] = Figure(value=at["fp_per_scan"], n=of["scans"])
    for size, row in at["by_size"].items():
        found[f"{name}, operating point, {size}: sensitivity"] = figure(
            row["sensitivity"], row["interval"], row["of"]
        )
    return found


def of_certainty(figures: Mapping[str, Any]) -> dict[str, Figure]:
    """figures.json of `calibrate`: of each host what a fit on the others calls sure, and how much
    of it is right."""
    found = {}
    for host, row in figures.get("certainty", {}).get("left_out", {}).items():
        for name in ("sure", "unsure"):
            share = row[f"right_of_{name}"]
            count = row["sure"] if name == "sure" else row["reported"] - row["sure"]
            if share is not None:
                found[f"{host} left out: share right of findings that are {name}"] = Figure(
                    value=share, n=count
                )
    return found


def of_masses(figures: Mapping[str, Any]) -> dict[str, Figure]:
    """figures.json of `calibrate_masses`."""
    found = {}
    for name, text in figures.get("found", {}).items():
        share = WILSON.fullmatch(text)
        if share:
            hits, of = int(share[1]), int(share[2])
            found[f"implanted masses, scan left out, {name}: sensitivity"] = Figure(
                value=round(hits / of, 4), low=float(share[3]), high=float(share[4]), n=of
            )
    for name, row in figures.get("sizes", {}).get("mean_axis_off", {}).items():
        said = f"implanted masses, scan left out, {name}: median error of the mean axis, as a share"
        found[said] = Figure(value=row["median"], n=row["n"])
    for row in figures.get("real", []):
        if "off_mm" in row:
            found[f"{row['host']} left out: mm from its mass's centre"] = Figure(
                value=row["off_mm"]
            )
            found[f"{row['host']} left out: diameter of its mass, found over boxed"] = Figure(
                value=round(row["found_mm"] / row["diameter_mm"], 2)
            )
    return found


def of_measures(figures: Mapping[str, Any]) -> dict[str, Figure]:
    """figures.json of `judge_measure`."""
    found = {}
    for name, row in figures.get("groups", {}).items():
        if "mean_axis_error_mm" in row:
            found[f"measured, scan left out, {name}: median error of the mean axis, mm"] = figure(
                row["mean_axis_error_mm"],
                row.get("mean_axis_error_interval_mm"),
                row["measured"],
            )
            found[f"measured, scan left out, {name}: density named rightly"] = figure(
                row["density_right"], None, row["implants"]
            )
    return found


def of_disease(figures: Mapping[str, Any]) -> dict[str, Figure]:
    """disease.json of `judge_disease`: what holds of scans that were left out."""
    found = {}
    part = figures.get("left_out", {})
    names = {
        "as it is": "CTs as they are",
        "few": "painted with under 50 ml",
        "much": "painted with 150 ml and more",
    }
    for what, row in part.get("limited", {}).items():
        if row["of"]:
            share = round(row["limited"] / row["of"], 4)
            name = f"disease, scan left out, {names[what]}: share with the limitation"
            found[name] = figure(share, row["interval"], row["of"])
    for what, row in part.get("classes", {}).items():
        if "said_over_painted_10_50_90" in row:
            name = f"disease, scan left out, {what}: median of ml said over ml painted"
            found[name] = Figure(value=row["said_over_painted_10_50_90"][1], n=row["painted_scans"])
    return found
