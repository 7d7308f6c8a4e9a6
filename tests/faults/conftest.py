"""What the tests of faults share: made-up patients and bundles of the scenarios, and strace."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.phantom.chest import chest
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings, Work
from appliance.store.site_key import site_key
from rigs.bundles import Bundles, trust_tests
from rigs.scans import Scans
from rigs.shelves import audited


@pytest.fixture(scope="session")
def small_scans(tmp_path_factory: pytest.TempPathFactory) -> Scans:
    """Makes series of a phantom in coarse pixels: a chest in 65 images of 64 x 64."""
    phantom = chest(spacing_mm=(5.0, 5.6, 5.6), noise_hu=8.0)
    return Scans(tmp_path_factory.mktemp("small-scans"), phantom, phantom)


@pytest.fixture(scope="session")
def installed(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with an active bundle and a site key, and nothing else. Copy it."""
    settings = Settings(
        state=tmp_path_factory.mktemp("installed") / "state",
        work=Work(backend="onnxruntime", threads=1),
    )
    site_key(settings.state)
    trust_tests(settings.state)
    shelf = OpenBundles(settings, audit=audited(settings.state)).shelf
    entry = shelf.add(bundles.usual, allow_development=True)
    shelf.activate(entry.name, entry.version)
    return settings.state
