"""What the tests of faults share: made-up patients and bundles of the scenarios, and strace."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings, Work
from appliance.store.site_key import site_key

HERE = Path(__file__).parent


def _known_as(name: str, path: Path) -> None:
    """Make a file importable: --import-mode=importlib puts no test folder on the path."""
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


_known_as("scenario_site", HERE.parent / "scenarios" / "conftest.py")
_known_as("fault_syscalls", HERE / "syscalls.py")
_known_as("fault_killed", HERE / "killed.py")
_known_as("fault_workload", HERE / "workload.py")
_known_as("fault_stages", HERE / "stages.py")
from scenario_site import Bundles, Scans, bundles, chest  # noqa: E402

__all__ = ["bundles"]


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
    bundles = OpenBundles(settings, audit=lambda *_, **__: None)
    entry = bundles.shelf.add(bundles.usual, allow_unsigned=True)
    bundles.shelf.activate(entry.name, entry.version)
    return settings.state
