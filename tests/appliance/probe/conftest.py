"""A device whose one active bundle has shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.store.journal import Journal
from rigs.chests import Dicom
from rigs.device import Device
from rigs.donated import with_shapes
from rigs.exams import Room


@pytest.fixture(scope="session")
def shaped_bytes(tiny_bytes: bytes) -> bytes:
    return with_shapes(tiny_bytes)


@pytest.fixture
def shaped(tmp_path: Path, shaped_bytes: bytes, no_factory: None) -> Device:
    device = Device(tmp_path, shaped_bytes)
    device.activate()
    return device


@pytest.fixture
def room(shaped: Device, dicom: Dicom) -> Iterator[Room]:
    with Journal.open(shaped.settings.state) as journal:
        yield Room(shaped, dicom, journal)
