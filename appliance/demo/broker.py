"""A broker for the demos: Debian's mosquitto, as a child on a port of its own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.demo.child import child
from appliance.errors import BrokerAway


@contextlib.contextmanager
def mosquitto(folder: Path, port: int) -> Iterator[None]:
    """It listens on this port of the loopback interface, for everybody there. BrokerAway."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise BrokerAway(
            "mosquitto is not installed", remedy="Type: sudo apt-get install mosquitto"
        )
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\n")
    config.chmod(0o644)
    with child([program, "-c", str(config)]) as process:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise BrokerAway(f"mosquitto ended with {process.returncode}")
            time.sleep(0.05)
        yield
