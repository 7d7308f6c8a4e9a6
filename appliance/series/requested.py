"""What the request of an examination says of its priority, where a scanner wrote it into images.

Rules. Requested Procedure Priority (0040,1003) belongs to the worklist (PS3.3 C.4.11: STAT, HIGH,
ROUTINE, MEDIUM, LOW). Some scanners copy it into the image, at the top level or into an item of the
Request Attributes Sequence (0040,0275; PS3.3 C.7.3.1). STAT and HIGH are `stat`; everything else,
and what cannot be read, is `routine`: a wrong word costs a place in the queue, never a report.
"""

from __future__ import annotations

from appliance.errors import SeriesRefused
from appliance.report import Priority
from appliance.series.elements import Elements, parse, reading

PRIORITY, REQUESTS = 0x00401003, 0x00400275
_URGENT = frozenset(("STAT", "HIGH"))
_MAX_HEADER_BYTES = 64 << 20


def priority(data: bytes) -> Priority:
    """Bytes of one instance -> how urgent its request is."""
    try:
        with reading("image"):
            elements = parse(
                data, (PRIORITY, REQUESTS), pixels=False, max_bytes=_MAX_HEADER_BYTES
            ).elements
            requests = elements.items(REQUESTS, "Request Attributes Sequence")
            stat = any(_urgent(one) for one in (elements, *requests))
    except SeriesRefused:
        return "routine"
    return "stat" if stat else "routine"


def _urgent(elements: Elements) -> bool:
    asked = elements.text(PRIORITY, "Requested Procedure Priority")
    return asked is not None and asked.upper() in _URGENT
