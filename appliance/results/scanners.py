"""What an MQTT message says of a scanner, beside `watch` of `health`."""

from __future__ import annotations

from typing import Literal

from appliance.results.payload import Message
from appliance.watching.told import RowId


class ScannerMessage(Message):
    """A scanner that is known here sends with a key that was not seen before, such as another
    kernel. Row and scanner are keyed hashes, as `watch` of `health` has them."""

    type: Literal["scanner"] = "scanner"
    event: Literal["new_protocol"] = "new_protocol"
    row: RowId
    scanner: RowId
