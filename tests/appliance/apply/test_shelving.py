"""What a verified release admits to a real shelf, and what happens to it there."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.apply.shelving import ReleaseShelf, ShelfBundles
from appliance.bundle import trust
from appliance.bundle.gates import Gates
from appliance.bundle.golden import Gate
from appliance.bundle.manifest import digest
from appliance.bundle.shelf import Shelf
from appliance.errors import BundleRefused
from appliance.store.journal import Journal
from appliance.update.plan import Named


class Proof:
    """The process that has run its golden cases."""

    key = "cpu"

    def run(self, path: Path, loaded: trust.Loaded) -> Gate:
        return Gate(passed=True, results=())


def proved(state: Path, named: Named) -> None:
    Gates(state, Proof()).keep(named.digest, Gate(passed=True, results=()))


def bundles(state: Path, journal: Journal) -> ShelfBundles:
    return ShelfBundles(
        ReleaseShelf(state, audit=lambda what, detail: journal.audit.add("apply", what, **detail))
    )


def test_a_release_admits_a_bundle_without_a_key_and_by_hand_it_is_refused(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    loaded = trust.check(tiny_bundle.read_bytes())
    named = Named(name=loaded.ref.name, version=loaded.ref.version, digest=loaded.digest)
    state = tmp_path / "state"
    state.mkdir()
    with Journal.open(state) as journal:
        made = bundles(state, journal)
        with pytest.raises(BundleRefused) as refused:
            Shelf(state).add(tiny_bundle)
        assert refused.value.code in {"bundle_unsigned", "bundle_signature", "bundle_development"}
        made.admit(tiny_bundle, "stable/1.json")
        assert made.holds(named.digest)
        with pytest.raises(BundleRefused) as refused:
            made.activate(named)
        assert refused.value.code == "bundle_golden", "nothing is active that was not proved"
        proved(state, named)
        made.activate(named)
        assert named in made.active()
        (entry,) = [one for one in Shelf(state).active() if one.digest == named.digest]
        assert entry.signed_by == "release"
        assert Shelf(state).load(entry).digest == named.digest, "whoever loads it later"
        assert digest(loaded.manifest_json) in made.files()


def test_what_is_withdrawn_never_comes_back(tmp_path: Path, tiny_bundle: Path) -> None:
    loaded = trust.check(tiny_bundle.read_bytes())
    named = Named(name=loaded.ref.name, version=loaded.ref.version, digest=loaded.digest)
    state = tmp_path / "state"
    state.mkdir()
    with Journal.open(state) as journal:
        made = bundles(state, journal)
        made.admit(tiny_bundle, "stable/1.json")
        proved(state, named)
        made.activate(named)
        made.withdraw(named.digest, "it misses nodules")
        assert named not in made.active()
        with pytest.raises(BundleRefused):
            made.activate(named)
        with pytest.raises(BundleRefused):
            made.admit(tiny_bundle, "stable/2.json")


def test_what_is_deactivated_is_as_if_nobody_had_chosen_and_may_be_chosen_again(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    loaded = trust.check(tiny_bundle.read_bytes())
    named = Named(name=loaded.ref.name, version=loaded.ref.version, digest=loaded.digest)
    state = tmp_path / "state"
    state.mkdir()
    with Journal.open(state) as journal:
        made = bundles(state, journal)
        before = made.active()
        made.admit(tiny_bundle, "stable/1.json")
        proved(state, named)
        made.activate(named)
        for _ in range(2):
            made.deactivate(named.name)
            assert made.active() == before
            assert made.shelf.problems() == ()
        assert made.holds(named.digest)
        assert made.shelf.is_withdrawn(named.digest), "nobody falls back to it"
        (state / "bundles" / "active.json").unlink()
        assert made.active() == before, "the audit says it too"
        made.activate(named)
        assert named in made.active()
