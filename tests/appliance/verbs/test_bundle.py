"""The verbs of `scanside bundle`, without the command line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from appliance.bundle.shelf import Shelf
from appliance.errors import BundleRefused
from appliance.settings import Settings
from appliance.verbs import bundle as verbs


def shown(shelf: Shelf) -> str:
    out = io.StringIO()
    verbs.show(verbs.listed(shelf), Console(file=out, width=160))
    return out.getvalue()


def test_the_table_shows_state_and_golden_cases(
    make_shelf: Callable[..., Shelf], signed: Callable[[str], Path]
) -> None:
    shelf = make_shelf()
    entry = verbs.add(shelf, signed("1.1.0"))
    verbs.activate(shelf, entry.name, "1.1.0")
    text = shown(shelf)
    for said in ("tiny-nodule", "1.1.0", "active", "previous", "passed", "not run", "in the wheel"):
        assert said in text
    assert verbs.rollback(shelf, entry.name).version == "1.0.0"


def test_an_empty_shelf_says_so(make_shelf: Callable[..., Shelf], tmp_path: Path) -> None:
    (tmp_path / "digests.json").write_text("{}")
    assert "No bundle" in shown(make_shelf(factory=tmp_path))


def test_an_unsigned_bundle_needs_an_audit(
    make_shelf: Callable[..., Shelf], tiny_bundle: Path
) -> None:
    with pytest.raises(BundleRefused, match="audited"):
        verbs.add(make_shelf(audit=None), tiny_bundle, allow_unsigned=True)
    shelf = make_shelf(allow_unsigned=True)
    assert verbs.add(shelf, tiny_bundle, allow_unsigned=True).origin == "factory"


def test_what_does_not_count_is_shown_as_such(
    make_shelf: Callable[..., Shelf], signed: Callable[[str], Path], state: Path
) -> None:
    shelf = make_shelf()
    verbs.activate(shelf, verbs.add(shelf, signed("1.1.0")).name, "1.1.0")
    (state / "bundles" / "installed.json").write_text("{}")
    assert "active (does not count)" in " ".join(shown(shelf).split())


def test_what_was_recalled_is_shown_as_such(
    make_shelf: Callable[..., Shelf], signed: Callable[[str], Path]
) -> None:
    shelf = make_shelf()
    entry = verbs.activate(shelf, verbs.add(shelf, signed("1.1.0")).name, "1.1.0")
    shelf.withdraw(entry.digest, "wrong")
    assert "(recalled)" in shown(shelf)


def test_where_bundles_come_with_releases_alone_add_by_hand_says_which_line_to_change(
    tmp_path: Path,
) -> None:
    verbs.require_by_hand(Settings(state=tmp_path))
    off = Settings.model_validate({"state": tmp_path, "bundles": {"by_hand": False}})
    with pytest.raises(BundleRefused) as refused:
        verbs.require_by_hand(off)
    assert refused.value.code == "bundle_by_hand"
    assert "by_hand = true" in refused.value.remedy
