"""Whether everything that a Jetson installs with pip can be had for it, without a Jetson.

    python jetson/resolve.py

A Jetson installs locks/device.txt (jetson/README.md). For the Python of each JetPack pip is asked
for the wheel of each of its lines on aarch64; nothing is installed. A line without a wheel would
have to be built on the device: it fails, and so does one whose wheel is not in the lock. `make
check` runs it. TensorRT and pycuda are not in this set: the first comes with JetPack, the second is
built on the device.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from appliance.errors import BundleRefused
from compile import lock

JETPACKS = {
    "6.2 (Ubuntu 22.04)": lock.Target("3.10", "aarch64"),
    "7.2 (Ubuntu 24.04)": lock.Target("3.12", "aarch64"),
}


def wanted(target: lock.Target) -> list[lock.Pin]:
    """The lines of the device's lock that are for this target."""
    text = (lock.ROOT / "locks" / "device.txt").read_text(encoding="utf-8")
    return [pin for pin in lock.read(text) if target.takes(pin.marker)]


def wrong(pins: Sequence[lock.Pin], found: Mapping[str, str]) -> list[str]:
    """What cannot be installed, of the SHA-256 of the wheels that pip found by name."""
    lines = []
    for pin in pins:
        if pin.name not in found:
            lines.append(f"{pin.name} {pin.version}: no wheel")
        elif found[pin.name] not in pin.hashes:
            lines.append(f"{pin.name} {pin.version}: its wheel is not the one of locks/device.txt")
    return lines


def main() -> int:
    """0 where every JetPack gets all of it."""
    failed = False
    for name, target in JETPACKS.items():
        pins = wanted(target)
        try:
            lines = wrong(pins, lock.wheels(pins, target))
        except BundleRefused as e:
            lines = [e.one_line()]
        if lines:
            failed = True
            print(
                f"JetPack {name}, Python {target.python}: cannot be installed", *lines, sep="\n  "
            )
        else:
            print(f"JetPack {name}, {target}: {len(pins)} wheels, none to build")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
