"""What wakes `work` for its bundles."""

from __future__ import annotations

from pathlib import Path

from appliance.work.shelf_watch import ShelfWatch
from rigs.bundles import BUNDLE
from rigs.device import Device


def test_the_shelf_is_heard_when_a_table_changes_and_when_a_bundle_is_open(
    tmp_path: Path, tiny_bytes: bytes
) -> None:
    device = Device(tmp_path, tiny_bytes)
    watch = ShelfWatch(device.settings.state)
    assert len(watch.handles) == 2
    assert not watch.heard()
    device.activate(name=BUNDLE, version="90.0.0")
    assert watch.heard()
    assert not watch.heard()
    watch.opened()
    watch.opened()
    assert watch.heard()
    assert not watch.heard()
    watch.close()
    watch.opened()  # a thread that ends late
