"""What tests of implants share: a small LIDC database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def _lidc(path: Path, patients: int = 40) -> Path:
    """A LIDC database of one octagonal nodule a patient."""
    angle = np.arange(0, 2 * np.pi, np.pi / 4)
    with sqlite3.connect(path) as link:
        link.executescript(
            "create table scans (id, patient_id, pixel_spacing, slice_thickness);"
            "create table annotations (id, scan_id, spiculation);"
            "create table contours (id, annotation_id, image_z_position, inclusion, coords);"
        )
        for n in range(patients):
            link.execute("insert into scans values (?, ?, 0.7, 1.0)", (n, f"LIDC-IDRI-{n:04d}"))
            link.execute("insert into annotations values (?, ?, 1)", (n, n))
            for k in range(-4, 5):
                radius = (5 + n % 9) * (1 - (k / 5) ** 2) ** 0.5
                points = np.rint(100 + radius * np.array([np.sin(angle), np.cos(angle)])).T
                text = " ".join(f"{int(r)},{int(c)}" for r, c in points)
                row = n * 20 + k + 5, n, k * (0.5 + n % 9 / 8), text
                link.execute("insert into contours values (?, ?, ?, 1, ?)", row)
    return path


@pytest.fixture
def lidc() -> Callable[..., Any]:
    """The function above."""
    return _lidc
