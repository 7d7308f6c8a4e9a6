"""The SOP classes that an archive is asked to take, by what it is to get (PS3.6 table A-1)."""

from __future__ import annotations

from collections.abc import Container, Iterable
from types import MappingProxyType
from typing import Final

from appliance.report import Product

ENHANCED_SR: Final = "1.2.840.10008.5.1.4.1.1.88.22"
COMPREHENSIVE_SR: Final = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"
KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
CLASSES: Final = MappingProxyType(
    {
        "sr": (ENHANCED_SR, COMPREHENSIVE_SR, COMPREHENSIVE_3D_SR),
        "seg": ("1.2.840.10008.5.1.4.1.1.66.4",),  # Segmentation
        "lungs": ("1.2.840.10008.5.1.4.1.1.66.4",),
        "sc": ("1.2.840.10008.5.1.4.1.1.7",),  # Secondary Capture Image
    }
)


def untaken(asked: Iterable[str], taken: Container[str]) -> tuple[str, ...]:
    """The classes, of those that an archive was asked for, which it would have to take yet. Of the
    two of reports with findings one is enough: what is refused is ordered in the older one."""
    missing = [uid for uid in asked if uid not in taken]
    if COMPREHENSIVE_SR in taken or COMPREHENSIVE_3D_SR in taken:
        missing = [u for u in missing if u not in (COMPREHENSIVE_SR, COMPREHENSIVE_3D_SR)]
    return tuple(missing)


def classes(profile: Iterable[Product], *, rejection_note: bool = False) -> tuple[str, ...]:
    """Those of a profile, in order, each once; and that of rejection notes, where they are sent."""
    notes = (KEY_OBJECT_SELECTION,) if rejection_note else ()
    return (*dict.fromkeys(uid for product in profile for uid in CLASSES[product]), *notes)
