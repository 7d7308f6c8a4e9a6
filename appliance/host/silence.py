"""What the inference libraries would tell their makers, and that they must not.

Official builds of both count their use and send it away over HTTPS unless they are told not to:
- `import openvino` sends an event through its package openvino_telemetry (Google Analytics) and
  keeps a number of this machine in ~/intel. Without that package OpenVINO takes its own stub.
- `import onnxruntime` (since the releases for Linux with the 1DS SDK; its Privacy.md) keeps a
  number of this machine and a queue of events in ~/.cache/Microsoft and sends them; it obeys
  ORT_DISABLE_TELEMETRY=1 if that is set before it is loaded.

A device knows no network beyond the room, and a name look-up that nobody answers costs time:
whoever imports one of them calls `silence` first. Children of this process inherit the variable.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "ORT_DISABLE_TELEMETRY"
PACKAGE = "openvino_telemetry"


def silence() -> None:
    """To be called before the first import of openvino or onnxruntime; harmless when repeated."""
    os.environ[VARIABLE] = "1"
    sys.modules.setdefault(PACKAGE, None)  # type: ignore[arg-type]  # its import then fails
