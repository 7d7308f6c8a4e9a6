"""Exams of made-up people, sent to a running site one after another, and what is said of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from appliance import factory
from appliance.bundle import archive
from appliance.bundle.manifest import MANIFEST
from appliance.comparison import Comparison
from appliance.demo import scanner
from appliance.phantom.chest import Nodule, Phantom, plan
from appliance.phantom.instances import Patient, series
from appliance.phantom.vessels import maybe_lung, spread
from appliance.report import Report
from rigs.bundles import BUNDLE, signed
from rigs.scans import Scan
from rigs.site import Site

ARCHIVE = """
[[dicom.allow]]
ae_title = "PACS"
host = "127.0.0.0/8"
role = "prior"
"""
"""Of a site to which an archive pushes earlier exams."""
FIRST, SECOND = datetime(2024, 3, 1, 10, 0), datetime(2025, 3, 3, 9, 0)
APART_DAYS = 366
"""Whole days from FIRST to SECOND."""
Change = Callable[[Dataset], None]


@dataclass(frozen=True)
class Exams:
    """Sends exams to a site; each of `new` has a patient id that nobody has had."""

    site: Site

    def send(
        self,
        phantom: Phantom,
        patient: Patient,
        when: datetime = SECOND,
        *,
        change: Change | None = None,
        calling: str = "SCANNER",
        again: Scan | None = None,
    ) -> Scan:
        """One exam over one association. `again`: the very instances that were sent before."""
        uids = (again.study, again.series) if again is not None else (_uid(), _uid())
        images = series(phantom, study_uid=uids[0], series_uid=uids[1], when=when, patient=patient)
        to = scanner.Address("SCANSIDE", "127.0.0.1", self.site.settings.dicom.port)
        done = scanner.send(_changed(images, change), to, calling=calling, total=len(phantom.hu))
        assert not done.failed
        return Scan(Path(), *uids, ())

    def report(self, exam: Scan) -> Report:
        return self.site.report(exam)

    def comparisons(self, exam: Scan, count: int = 1) -> list[Comparison]:
        """What is said of an exam beside earlier ones, once there is so much of it."""

        def heard() -> list[Comparison]:
            said = [m for _, m in self.site.messages() if m.get("type") == "comparison"]
            mine = [Comparison.model_validate(m["comparison"]) for m in said]
            study = self.site.naming.study(exam.study)
            return [one for one in mine if one.study == study]

        found: list[Comparison] = self.site.until(
            lambda: one if len(one := heard()) >= count else None,
            f"{count} comparisons of {exam.study}",
        )
        return found

    def compared(self, exam: Scan) -> Comparison:
        """The one thing that is said of an exam with one earlier exam, or none."""
        (one,) = self.comparisons(exam)
        return one


def new(**of_them: str) -> Patient:
    """Somebody with an id of their own."""
    given: dict[str, Any] = {"patient_id": f"P{uuid.uuid4().hex[:12]}", "issuer": "", **of_them}
    return Patient(**given)


def codes(comparison: Comparison) -> set[str]:
    """Why two exams were not compared."""
    return {reason.code.value for reason in comparison.reasons}


def places(count: int, apart_mm: float, seed: int = 1) -> Sequence[tuple[float, float, float]]:
    """Places deep in the lungs of `plan(seed)`, clear of larger vessels, so far from each other."""
    body, trees = plan(seed)
    points = spread(40000, 0.37)
    points = points[maybe_lung(body, points)]
    points = points[body.lungs(*points.T)["lungs"] > 9]
    thick = trees.blood[trees.blood[:, 7] > 1.0]
    middles = (thick[:, 0:3] + thick[:, 3:6]) / 2
    out: list[tuple[float, float, float]] = []
    for point in points.astype(np.float64):
        if np.linalg.norm(middles - point, axis=1).min() < 6:
            continue
        if out and np.linalg.norm(np.array(out) - point, axis=1).min() < apart_mm:
            continue
        x, y, z = (float(v) for v in point)
        out.append((x, y, z))
        if len(out) == count:
            return out
    raise AssertionError(f"no room for {count} places")


def ball(at: tuple[float, float, float], diameter_mm: float) -> Nodule:
    """A solid one."""
    return Nodule(at, diameter_mm, "solid", 40.0)


def of_the_factory(folder: Path) -> Path:
    """The factory's bundle for chest CT, as the version that scenarios install."""
    path = Path(factory.__file__).parent / "bundles" / f"{BUNDLE}.scanside"
    entries = archive.read(path.read_bytes())
    manifest = {**json.loads(entries[MANIFEST]), "version": "90.0.0"}
    out = folder / path.name
    out.write_bytes(signed(archive.write({**entries, MANIFEST: json.dumps(manifest).encode()})))
    return out


def _changed(images: Any, change: Change | None) -> Any:
    for image in images:
        del image.ImagesInAcquisition  # no expectation: quiet ends the series
        if change is not None:
            change(image)
        yield image


def _uid() -> str:
    return f"2.25.{uuid.uuid4().int}"
