"""Programs of others that tests start: dcmtk, mosquitto and the like."""

from __future__ import annotations

import shutil

import pytest

PLACES = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
"""Never the virtual environment: pynetdicom's scripts there have the names of dcmtk's programs."""


def program(name: str) -> str:
    """The full path of a program; skips the test where it is missing."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
