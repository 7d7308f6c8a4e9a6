"""Every kind of line that this appliance knows. No other file asks which kind a bundle has.

A line that takes no images (OfLine.takes_images) is none of these: no series is read for it.

To add a kind: its model in bundle/lines.py, its module here, one row in `KINDS`; and, where it
reports findings of a new kind, a row in report.PLACE_OF.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from appliance.backend.profile import Shapes, of_pair
from appliance.bundle.exams import Compare
from appliance.bundle.manifest import Manifest, Network
from appliance.lines.kind import Kind, Reading
from appliance.lines.nodules import Nodules
from appliance.lines.qa import WaterPhantoms
from appliance.lines.radiograph import Radiographs
from appliance.lines.volume import Unknown

KINDS: Final[tuple[Kind[Any, Any], ...]] = (
    Nodules(),
    Radiographs(),
    WaterPhantoms(),
)
_OF_MODEL: Final[Mapping[type, Kind[Any, Any]]] = {kind.model: kind for kind in KINDS}
_UNKNOWN: Final[Reading[Any, Any]] = Unknown()


def of(manifest: Manifest) -> Kind[Any, Any]:
    """The kind of a bundle's line; TypeError for one that takes no images."""
    if not manifest.line.takes_images:
        raise TypeError(f"{manifest.name} takes no images")
    return _OF_MODEL[type(manifest.line)]


def reading(manifest: Manifest | None) -> Reading[Any, Any]:
    """How a series is read for this bundle; None: for none."""
    return _UNKNOWN if manifest is None else of(manifest)


def profile(role: str, network: Network, manifest: Manifest) -> dict[str, Shapes]:
    """Kind.profile of a bundle's kind; of what takes no images, the shapes of two exams."""
    if not manifest.line.takes_images:
        head = manifest.line_of(Compare).displace
        return of_pair(network, head.grid_mm, head.multiple)
    return of(manifest).profile(role, network, manifest)
