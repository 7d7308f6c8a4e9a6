"""One appliance for all scenarios, and what is sent to it. What they are is in tests/rigs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.phantom.chest import chest
from rigs import site as sites
from rigs.bundles import Bundles
from rigs.scans import PHI, Scans
from rigs.site import Site


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Scans:
    """Makes series of the phantom."""
    coarse = chest(spacing_mm=(5.0, 2.8, 2.8), noise_hu=8.0)
    finer = chest(spacing_mm=(4.0, 2.8, 2.8), noise_hu=8.0)
    return Scans(tmp_path_factory.mktemp("scans"), coarse, finer)


@pytest.fixture(scope="session")
def site(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One appliance for all scenarios; each sends series of its own."""
    with sites.running(tmp_path_factory.mktemp("site"), bundles.usual) as running_site:
        yield running_site
        running_site.process.terminate()
        assert running_site.process.wait(60) == 0, "a stage did not stop cleanly"


@pytest.fixture(scope="session")
def phi() -> dict[str, str]:
    """What every image says of its patient."""
    return PHI
