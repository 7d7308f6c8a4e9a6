"""The SOP classes that an archive is asked to take, by what it is to get (PS3.6 table A-1)."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from appliance.report import Product

COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"
CLASSES: Final = MappingProxyType(
    {
        "sr": (
            "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
            "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
            COMPREHENSIVE_3D_SR,
        ),
        "seg": ("1.2.840.10008.5.1.4.1.1.66.4",),  # Segmentation
        "lungs": ("1.2.840.10008.5.1.4.1.1.66.4",),
        "sc": ("1.2.840.10008.5.1.4.1.1.7",),  # Secondary Capture Image
    }
)


def classes(profile: Iterable[Product]) -> tuple[str, ...]:
    """Those of a profile, in order, each once."""
    return tuple(dict.fromkeys(uid for product in profile for uid in CLASSES[product]))
