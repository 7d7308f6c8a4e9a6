"""Opening and closing of bundles while series use them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.bundle import trust
from appliance.errors import BundleRefused
from appliance.host import memory
from appliance.reasons import Code
from appliance.report import BundleRef
from appliance.runtime.bundles import OpenBundle, OpenBundles
from appliance.settings import Settings, Work


class Backend:
    """Whether it is open is all that matters here."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bundles(tmp_path: Path, tiny_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> OpenBundles:
    """Open bundles with a shelf that is a list of (name, digest)."""
    loaded = trust.check(tiny_bytes)
    bundle = loaded.bundle
    bundles = OpenBundles(Settings(state=tmp_path))

    class Entry:
        version = "1.0.0"
        refused = None

        def __init__(self, name: str, digest: str) -> None:
            self.name, self.digest = name, digest

    def ready(entry: Any) -> Any:
        if entry.name == "bad":
            raise BundleRefused("it does not load")
        return entry

    def opened(entry: Any, _: Any = None) -> OpenBundle:
        ref = bundle.ref.model_copy(update={"name": entry.name, "digest": entry.digest})
        return OpenBundle(replace(bundle, ref=ref), Backend())  # type: ignore[arg-type]

    wanted: list[Any] = []
    monkeypatch.setattr(bundles.shelf, "active", lambda: tuple(Entry(*pair) for pair in wanted))
    monkeypatch.setattr(bundles.shelf, "load", lambda _: loaded)
    monkeypatch.setattr(bundles.shelf, "ready", ready)
    monkeypatch.setattr(bundles.shelf, "path", lambda entry: tmp_path / entry.digest)
    monkeypatch.setattr(bundles.shelf, "spares", lambda entry: ())
    monkeypatch.setattr(bundles, "_opened", opened)
    bundles.wanted = wanted  # type: ignore[attr-defined]
    return bundles


OLD, NEW = "1" * 64, "2" * 64


def test_a_retired_bundle_is_closed_once_no_series_uses_it(bundles: Any) -> None:
    bundles.wanted[:] = [("nodule", OLD)]
    (old,) = bundles.refresh()
    bundles.wanted[:] = [("nodule", NEW)]
    (new,) = bundles.refresh(in_use={OLD})
    assert new is not old
    assert not old.backend.closed
    assert bundles.refresh(in_use={None, NEW}) == (new,)
    assert old.backend.closed
    assert not new.backend.closed


def test_a_bundle_that_comes_back_while_it_is_in_use_is_not_opened_twice(bundles: Any) -> None:
    bundles.wanted[:] = [("nodule", OLD)]
    (old,) = bundles.refresh()
    bundles.wanted[:] = [("nodule", NEW)]
    (new,) = bundles.refresh(in_use={OLD})
    bundles.wanted[:] = [("nodule", OLD)]
    assert bundles.refresh(in_use={OLD, NEW}) == (old,)
    bundles.close()
    assert old.backend.closed
    assert new.backend.closed


def test_a_bundle_for_which_there_is_no_memory_leaves_the_running_one_of_its_name(
    tmp_path: Path, tiny_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = OpenBundles(Settings(state=tmp_path, work=Work(backend="onnxruntime")))
    loaded = trust.check(tiny_bytes)
    entry = SimpleNamespace(name="nodule", version="1.0.0", digest=loaded.digest, refused=None)
    newer = SimpleNamespace(name="nodule", version="1.1.0", digest=NEW, refused=None)
    monkeypatch.setattr(bundles.shelf, "path", lambda entry: tmp_path / entry.digest)
    monkeypatch.setattr(bundles.shelf, "load", lambda _: loaded)
    monkeypatch.setattr(bundles.shelf, "ready", lambda _: loaded)
    monkeypatch.setattr(bundles.shelf, "active", lambda: (entry,))
    (before,) = bundles.refresh()
    need = memory.opening(sum(map(len, loaded.networks.values()))) + memory.RESERVE
    before = replace(before, bundle=replace(before.bundle, ref=_named(before, "nodule")))
    bundles._open = {loaded.digest: before}
    monkeypatch.setattr(bundles.shelf, "active", lambda: (newer,))
    monkeypatch.setattr(memory, "available", lambda: need - 1)
    assert bundles.refresh() == (before,)
    monkeypatch.setattr(memory, "available", lambda: need)
    assert bundles.refresh() != (before,)
    bundles.close()


def _named(opened: OpenBundle, name: str) -> BundleRef:
    return opened.bundle.ref.model_copy(update={"name": name})


@pytest.mark.parametrize("where", ["active", "ready"])
def test_where_memory_runs_out_what_is_open_goes_on(
    bundles: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    bundles.wanted[:] = [("nodule", OLD)]
    before = bundles.refresh()
    bundles.wanted[:] = [("nodule", NEW)]
    monkeypatch.setattr(bundles.shelf, where, full)
    assert bundles.refresh() == before


def test_a_bundle_that_does_not_open_leaves_the_running_one_of_its_name(bundles: Any) -> None:
    bundles.wanted[:] = [("bad", "3" * 64)]
    assert bundles.refresh() == ()
    bundles.wanted[:] = [("nodule", OLD)]
    (old,) = bundles.refresh()
    bundles.shelf.ready = lambda entry: (_ for _ in ()).throw(BundleRefused("goldens"))
    bundles.wanted[:] = [("nodule", NEW)]
    (goes_on,) = bundles.refresh()
    assert replace(goes_on, fallback=None) == old
    assert goes_on.fallback is not None
    assert goes_on.fallback.code is Code.BUNDLE_FALLBACK
    assert not old.backend.closed
