"""What is on the shelf, what is active, and that a failed change leaves both as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.bundle import golden, trust
from appliance.bundle.shelf import Entry, Shelf, _release
from appliance.bundle.standing import NO_LINE, NOT_IN_AUDIT, NOT_SIGNED
from appliance.bundle.tables import UNSIGNED
from appliance.errors import BundleRefused, ScansideError, StateUnusable
from rigs.cuts import Failing
from rigs.shelves import audited

NAME = "tiny-nodule"
Make = Callable[..., Shelf]
Signed = Callable[[str], Path]
Forge = Callable[..., bytes]


def code(call: Callable[[], object]) -> str:
    with pytest.raises(BundleRefused) as caught:
        call()
    assert caught.value.remedy
    return caught.value.code


def states(shelf: Shelf) -> dict[str, str]:
    return {
        e.version: "active" if e.active else "previous" if e.previous else "" for e in shelf.list()
    }


def test_at_first_start_the_factory_version_is_active(make_shelf: Make, state: Path) -> None:
    shelf = make_shelf(state=state / "fresh")
    (entry,) = shelf.list()
    assert (entry.name, entry.version, entry.origin) == (NAME, "1.0.0", "factory")
    assert entry.active
    assert entry.gate == "not run"
    assert shelf.active() == (entry,)
    assert shelf.load(entry).ref.digest == entry.digest
    assert not (state / "fresh").exists()


def test_without_any_bundle_the_shelf_is_empty(tmp_path: Path) -> None:
    assert Shelf(tmp_path, appliance_version="0.1.0", factory=empty(tmp_path)).list() == ()


@pytest.mark.parametrize(
    ("installed", "release"),
    [("0.1.0", "0.1.0"), ("0.2.0.dev1", "0.2.0"), ("1.2rc1", "1.2.0"), ("1.2.3+local.4", "1.2.3")],
)
def test_the_release_of_a_version_is_compared(installed: str, release: str) -> None:
    assert _release(installed) == release


def empty(folder: Path) -> Path:
    (folder / "digests.json").write_text("{}")
    return folder


def test_the_wheels_own_factory_folder_is_whole(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for entry in shelf.list():
        assert shelf.load(entry).ref.version == entry.version


def test_a_signed_bundle_is_added_then_activated_then_rolled_back(
    make_shelf: Make, signed: Signed
) -> None:
    shelf = make_shelf()
    entry = shelf.add(signed("1.1.0"))
    assert (entry.origin, entry.active, entry.gate) == ("added", False, "passed")
    assert states(shelf) == {"1.0.0": "active", "1.1.0": ""}
    assert shelf.activate(NAME, "1.1.0").active
    assert states(shelf) == {"1.0.0": "previous", "1.1.0": "active"}
    assert shelf.load(shelf.active()[0]).ref.version == "1.1.0"
    assert shelf.rollback(NAME).version == "1.0.0"
    assert states(make_shelf()) == {"1.0.0": "active", "1.1.0": "previous"}
    assert shelf.rollback(NAME).version == "1.1.0"


def test_activating_what_is_active_keeps_the_previous(make_shelf: Make, signed: Signed) -> None:
    shelf = make_shelf()
    digest = shelf.add(signed("1.1.0")).digest
    shelf.activate(NAME, digest)
    shelf.activate(NAME, digest[:12])
    assert states(shelf) == {"1.0.0": "previous", "1.1.0": "active"}


def test_versions_are_listed_by_number(make_shelf: Make, signed: Signed) -> None:
    shelf = make_shelf()
    for version in ("1.10.0", "1.9.0"):
        shelf.add(signed(version))
    assert [e.version for e in shelf.list()] == ["1.0.0", "1.9.0", "1.10.0"]


def test_what_is_not_there_is_said(make_shelf: Make, signed: Signed, tmp_path: Path) -> None:
    shelf = make_shelf()
    assert code(lambda: shelf.activate(NAME, "7.0.0")) == "bundle_not_found"
    assert code(lambda: shelf.activate("other", "1.0.0")) == "bundle_not_found"
    assert code(lambda: shelf.rollback(NAME)) == "bundle_no_previous"
    assert code(lambda: shelf.add(tmp_path / "nowhere.scanside")) == "bundle_unreadable"
    assert code(lambda: shelf.add(tmp_path)) == "bundle_unreadable"


def test_an_unsigned_bundle_needs_the_flag(make_shelf: Make, forge: Forge, tmp_path: Path) -> None:
    path = tmp_path / "unsigned.scanside"
    path.write_bytes(forge(lambda m: m.update(version="1.1.0")))
    shelf = make_shelf(allow_unsigned=True)
    assert code(lambda: shelf.add(path)) == "bundle_unsigned"
    assert len(shelf.list()) == 1
    entry = shelf.add(path, allow_unsigned=True)
    assert entry.signed_by == UNSIGNED
    assert shelf.load(entry).ref.version == "1.1.0"


def test_an_unsigned_bundle_needs_the_line_in_the_settings_too(
    make_shelf: Make, forge: Forge, tmp_path: Path
) -> None:
    path = tmp_path / "unsigned.scanside"
    path.write_bytes(forge(lambda m: m.update(version="1.1.0")))
    with pytest.raises(BundleRefused, match="settings") as caught:
        make_shelf().add(path, allow_unsigned=True)
    assert caught.value.code == "bundle_unsigned"
    assert "allow_unsigned = true" in caught.value.remedy
    assert len(make_shelf().list()) == 1


def test_an_unsigned_bundle_counts_no_more_without_the_line_in_the_settings(
    make_shelf: Make, forge: Forge, tmp_path: Path
) -> None:
    path = tmp_path / "unsigned.scanside"
    path.write_bytes(forge(lambda m: m.update(version="1.1.0")))
    make_shelf(allow_unsigned=True).add(path, allow_unsigned=True)
    make_shelf(allow_unsigned=True).activate(NAME, "1.1.0")
    later = make_shelf()
    (active,) = later.active()
    assert active.version == "1.1.0", "it is not silently replaced"
    assert code(lambda: later.load(active)) == "bundle_unexplained"
    assert later.problems() == (f"{NAME} 1.1.0 does not count: {NOT_SIGNED}",)
    allowed = make_shelf(allow_unsigned=True)
    assert allowed.load(allowed.active()[0]).ref.version == "1.1.0"


def test_a_wrong_signature_is_refused_even_with_the_flag(
    make_shelf: Make, forge: Forge, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.scanside"
    path.write_bytes(forge(key=Ed25519PrivateKey.generate()))
    for allow in (False, True):
        assert code(lambda a=allow: make_shelf().add(path, a)) == "bundle_signature"


def test_a_withdrawn_key_withdraws_what_it_signed(
    make_shelf: Make, signed: Signed, state: Path
) -> None:
    shelf = make_shelf()
    entry = shelf.add(signed("1.1.0"))
    (state / "trust" / "fleet.pub").unlink()
    assert code(lambda: shelf.load(entry)) == "bundle_signature"
    assert code(lambda: shelf.activate(NAME, "1.1.0")) == "bundle_signature"
    assert states(shelf)["1.0.0"] == "active"


def test_a_taken_version_is_refused(
    make_shelf: Make, forge: Forge, key: Any, tmp_path: Path
) -> None:
    path = tmp_path / "same-version.scanside"
    path.write_bytes(forge(lambda m: m.update(title="other"), key=key))
    assert code(lambda: make_shelf().add(path)) == "bundle_version_taken"


def test_a_bundle_that_changed_on_disk_is_refused_and_can_be_added_again(
    make_shelf: Make, signed: Signed, state: Path
) -> None:
    shelf = make_shelf()
    entry = shelf.add(signed("1.1.0"))
    (path,) = (state / "bundles" / NAME).iterdir()
    assert path.name == f"1.1.0-{entry.digest[:12]}.scanside"
    good = path.read_bytes()
    for bad in (good[:-600], b"", good.replace(b"tests", b"fests"), signed("1.2.0").read_bytes()):
        path.write_bytes(bad)
        with pytest.raises(BundleRefused):
            shelf.load(entry)
    path.unlink()
    assert code(lambda: shelf.load(entry)) == "bundle_unreadable"
    assert shelf.add(signed("1.1.0")) == entry
    assert path.read_bytes() == good


def test_a_changed_factory_bundle_is_refused(make_shelf: Make, factory: Path, forge: Forge) -> None:
    path = factory / "bundles" / "tiny-nodule.scanside"
    path.write_bytes(forge(lambda m: m.update(title="other")))
    shelf = make_shelf()
    assert code(lambda: shelf.load(shelf.active()[0])) == "bundle_digest"


def test_after_an_appliance_update_the_new_factory_version_is_active(
    make_shelf: Make, signed: Signed, factory: Path, forge: Forge
) -> None:
    shelf = make_shelf()
    shelf.add(signed("1.1.0"))
    shelf.activate(NAME, "1.1.0")
    shelf.rollback(NAME)
    data = forge(lambda m: m.update(version="2.0.0"))
    (factory / "bundles" / "tiny-nodule.scanside").write_bytes(data)
    line = {NAME: {"version": "2.0.0", "digest": trust.check(data).digest}}
    (factory / "digests.json").write_text(json.dumps(line))
    assert states(shelf) == {"1.1.0": "", "2.0.0": "active"}
    shelf.activate(NAME, "1.1.0")
    assert states(shelf) == {"1.1.0": "active", "2.0.0": "previous"}


def test_golden_cases_run_once_a_bundle_and_backend(
    make_shelf: Make, signed: Signed, networks: Any
) -> None:
    shelf = make_shelf()
    shelf.add(signed("1.1.0"))
    assert networks.opened == 1
    shelf.add(signed("1.1.0"))
    shelf.activate(NAME, "1.1.0")
    assert shelf.ready(shelf.active()[0]).ref.version == "1.1.0"
    assert networks.opened == 1
    other = make_shelf(runner=networks.runner("openvino 1 fp32"))
    assert other.active()[0].gate == "not run"
    assert other.gate(other.active()[0]).passed
    assert other.active()[0].gate == "passed"
    assert networks.opened == 2
    other.gate(other.active()[0], again=True)
    assert networks.opened == 3


def test_a_bundle_whose_golden_cases_fail_is_not_added(
    make_shelf: Make, signed: Signed, networks: Any, state: Path
) -> None:
    networks.error = 1.0
    assert code(lambda: make_shelf().add(signed("1.1.0"))) == "bundle_golden"
    assert states(make_shelf()) == {"1.0.0": "active"}
    assert not (state / "bundles" / NAME).exists()


def test_a_bundle_that_fails_on_a_new_backend_is_not_activated(
    make_shelf: Make, signed: Signed, networks: Any
) -> None:
    make_shelf().add(signed("1.1.0"))
    networks.error = 1.0
    shelf = make_shelf(runner=networks.runner("other"))
    for _ in range(2):
        assert code(lambda: shelf.activate(NAME, "1.1.0")) == "bundle_golden"
    assert states(shelf) == {"1.0.0": "active", "1.1.0": ""}
    assert code(lambda: shelf.ready(shelf.list()[1])) == "bundle_golden"
    assert shelf.list()[1].gate == "failed"
    networks.error = 0.0
    assert shelf.activate(NAME, "1.1.0").gate == "passed"


def test_without_a_runner_only_what_has_passed_is_activated(
    make_shelf: Make, signed: Signed
) -> None:
    shelf = make_shelf(runner=None)
    shelf.add(signed("1.1.0"))
    assert code(lambda: shelf.activate(NAME, "1.1.0")) == "bundle_golden"
    make_shelf().activate(NAME, "1.1.0")
    make_shelf().gate(make_shelf().list()[0])
    assert shelf.rollback(NAME).version == "1.0.0"


def test_a_bundle_without_a_golden_case_is_refused(
    make_shelf: Make, forge: Forge, key: Any, tmp_path: Path, tiny_bytes: bytes
) -> None:
    def drop(manifest: dict[str, Any]) -> None:
        manifest["version"] = "1.1.0"
        manifest["goldens"][2]["network"] = "propose"

    path = tmp_path / "no-golden.scanside"
    path.write_bytes(forge(drop, key=key))
    assert code(lambda: make_shelf().add(path)) == "bundle_golden"


def test_changes_are_told_before_they_are_made(
    make_shelf: Make, signed: Signed, state: Path
) -> None:
    told: list[tuple[str, Any]] = []
    write = audited(state)

    def tell(action: str, detail: Any) -> None:
        told.append((action, dict(detail)))
        write(action, detail)

    shelf = make_shelf(audit=tell)
    entry = shelf.add(signed("1.1.0"))
    shelf.activate(NAME, "1.1.0")
    shelf.rollback(NAME)
    assert [action for action, _ in told] == ["bundle add", "bundle activate", "bundle activate"]
    assert told[0][1]["signed_by"] == entry.signed_by
    assert told[1][1]["before"] == told[2][1]["digest"]
    assert "withdraws" not in told[1][1]
    assert told[2][1]["withdraws"] == entry.digest

    def broken(action: str, detail: Any) -> None:
        raise StateUnusable("the journal is full")

    before = states(shelf)
    with pytest.raises(StateUnusable):
        make_shelf(audit=broken).activate(NAME, "1.1.0")
    with pytest.raises(StateUnusable):
        make_shelf(audit=broken).add(signed("1.2.0"))
    assert states(shelf) == before


@pytest.mark.parametrize("name", ["installed.json", "active.json", "recalled.json"])
@pytest.mark.parametrize("damage", [b'{"../../x": 1}', b"", b"\0" * 600, None])
def test_a_damaged_table_is_named_and_stops_nobody(
    make_shelf: Make, signed: Signed, state: Path, name: str, damage: bytes | None
) -> None:
    shelf = make_shelf()
    shelf.add(signed("1.1.0"))
    shelf.add(signed("1.2.0"))
    shelf.activate(NAME, "1.1.0")
    shelf.withdraw("e" * 64, "of another device")
    before, path = states(shelf), state / "bundles" / name
    path.unlink()
    if damage is None:
        path.mkdir()  # what the disk does not give
    else:
        path.write_bytes(damage)
    assert states(shelf) == before
    assert shelf.problems() == (f"{path} is damaged or missing",)
    kept = path.with_name(f"{name}.damaged-1")
    assert not kept.exists(), "who only looks changes nothing"
    assert shelf.mend() == (kept.name,)
    assert shelf.mend() == ()
    assert shelf.problems() == ()
    assert states(shelf) == before
    assert shelf.is_recalled("e" * 64)
    if damage is not None:
        assert kept.read_bytes() == damage
    assert shelf.activate(NAME, "1.2.0").active


def test_what_is_written_into_a_damaged_table_sets_it_aside(
    make_shelf: Make, signed: Signed, state: Path
) -> None:
    shelf = make_shelf()
    shelf.add(signed("1.1.0"))
    for number in (1, 2):
        (state / "bundles" / "installed.json").write_bytes(b"%d" % number)
        shelf.add(signed(f"1.{number + 1}.0"))
        kept = state / "bundles" / f"installed.json.damaged-{number}"
        assert kept.read_bytes() == b"%d" % number
    assert set(states(shelf)) == {"1.0.0", "1.1.0", "1.2.0", "1.3.0"}
    assert shelf.problems() == ()


def test_a_line_that_nobody_admitted_does_not_count(
    make_shelf: Make, forge: Forge, state: Path
) -> None:
    """Whoever can write the state folder writes a bundle and its line."""
    shelf = make_shelf(allow_unsigned=True)
    data = forge(lambda m: m.update(version="9.0.0"))
    digest = trust.check(data).digest
    folder = state / "bundles"
    (folder / NAME).mkdir(parents=True)
    (folder / NAME / f"9.0.0-{digest[:12]}.scanside").write_bytes(data)
    line = {digest: {"name": NAME, "version": "9.0.0", "signed_by": UNSIGNED}}
    (folder / "installed.json").write_text(json.dumps(line))
    (folder / "active.json").write_text(json.dumps({NAME: {"active": digest, "previous": None}}))
    assert states(shelf) == {"1.0.0": "active", "9.0.0": ""}
    entry = shelf.list()[1]
    assert code(lambda: shelf.load(entry)) == "bundle_unexplained"
    assert code(lambda: shelf.activate(NAME, "9.0.0")) == "bundle_unexplained"
    assert f"{NAME} 9.0.0 does not count: {NOT_IN_AUDIT}" in shelf.problems()
    assert any("nobody has activated" in problem for problem in shelf.problems())


def test_an_active_bundle_that_lost_its_line_is_not_silently_replaced(
    make_shelf: Make, signed: Signed, state: Path
) -> None:
    shelf = make_shelf()
    entry = shelf.add(signed("1.1.0"))
    shelf.activate(NAME, "1.1.0")
    (state / "bundles" / "installed.json").unlink()
    (state / "bundles" / "active.json").unlink()
    (active,) = shelf.active()
    assert (active.version, active.refused) == ("1.1.0", NO_LINE)
    assert code(lambda: shelf.activate(NAME, "1.1.0")) == "bundle_unexplained"
    assert code(lambda: shelf.load(active)) == "bundle_unexplained"
    assert f"{state / 'bundles' / 'active.json'} is damaged or missing" in shelf.problems()
    assert shelf.add(signed("1.1.0")).digest == entry.digest
    assert shelf.load(shelf.active()[0]).ref.version == "1.1.0"


def test_the_place_of_a_bundle_takes_one_that_was_active_and_that_nobody_gave_up(
    make_shelf: Make, signed: Signed, forge: Forge, tmp_path: Path
) -> None:
    shelf = make_shelf(allow_unsigned=True)
    for version in ("1.1.0", "1.2.0", "1.3.0", "1.4.0"):
        shelf.add(signed(version))
    path = tmp_path / "unsigned.scanside"
    path.write_bytes(forge(lambda m: m.update(version="1.5.0")))
    shelf.add(path, allow_unsigned=True)
    for version in ("1.1.0", "1.5.0", "1.2.0", "1.3.0"):
        shelf.activate(NAME, version)
    assert spares(shelf) == ["1.2.0", "1.1.0", "1.0.0"], "1.4.0 never was, 1.5.0 is not signed"
    shelf.rollback(NAME)
    assert states(shelf)["1.2.0"] == "active"
    assert spares(shelf) == ["1.1.0", "1.0.0"], "1.3.0 was given up"
    assert shelf.is_withdrawn(trust.check(signed("1.3.0").read_bytes()).digest)
    shelf.activate(NAME, "1.3.0")
    assert spares(shelf) == ["1.2.0", "1.1.0", "1.0.0"]


def spares(shelf: Shelf) -> list[str]:
    return [entry.version for entry in shelf.spares(shelf.active()[0])]


@pytest.mark.parametrize("where", ["bundles", f"bundles/{NAME}", "file"])
def test_no_symbolic_link_on_the_shelf_is_followed(
    make_shelf: Make, signed: Signed, state: Path, tmp_path: Path, where: str
) -> None:
    shelf = make_shelf()
    entry = shelf.add(signed("1.1.0"))
    path = shelf.path(entry) if where == "file" else state / where
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    assert code(lambda: shelf.load(entry)) == "bundle_unreadable"
    if where != "file":
        with pytest.raises(StateUnusable, match="symbolic link"):
            shelf.add(signed("1.2.0"))


class Waiting:
    """A runner whose cases do not end before `end` is set."""

    def __init__(self) -> None:
        self.begun, self.end = Event(), Event()

    def runner(self) -> golden.Runner:
        def run(_: Path, loaded: trust.Loaded) -> golden.Gate:
            self.begun.set()
            assert self.end.wait(60)
            return golden.Gate(passed=True, results=())

        return golden.Runner("waiting", run)


def test_golden_cases_that_do_not_end_hold_up_nobody_else(make_shelf: Make, signed: Signed) -> None:
    slow = Waiting()
    path = signed("1.1.0")
    with ThreadPoolExecutor(1) as other:
        added = other.submit(make_shelf(runner=slow.runner()).add, path)
        assert slow.begun.wait(60)
        shelf = make_shelf()
        assert shelf.ready(shelf.active()[0]).ref.version == "1.0.0"
        shelf.add(signed("1.2.0"))
        shelf.activate(NAME, "1.2.0")
        shelf.add(path)  # the very same
        slow.end.set()
        assert added.result(60).version == "1.1.0"
    assert states(shelf) == {"1.0.0": "previous", "1.1.0": "", "1.2.0": "active"}


def test_what_was_taken_away_while_its_cases_ran_is_not_activated(
    make_shelf: Make, signed: Signed, state: Path
) -> None:
    make_shelf().add(signed("1.1.0"))
    slow = Waiting()
    with ThreadPoolExecutor(1) as other:
        switched = other.submit(make_shelf(runner=slow.runner()).activate, NAME, "1.1.0")
        assert slow.begun.wait(60)
        (state / "bundles" / "installed.json").write_text("{}")
        slow.end.set()
        with pytest.raises(BundleRefused):
            switched.result(60)
    assert states(make_shelf()) == {"1.0.0": "active"}


STEPS = 18
KEEPING = range(3, 9)
"""Of those: the golden result. Where that is not kept the bundle is admitted all the same."""


def snapshot(shelf: Shelf) -> tuple[Entry, ...]:
    for entry in shelf.list():
        assert shelf.load(entry).ref.digest == entry.digest
    return shelf.list()


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_an_interrupted_add_leaves_the_shelf_as_before(
    make_shelf: Make, signed: Signed, state: Path, at: int, for_good: bool
) -> None:
    before = snapshot(make_shelf(state=state))
    path = signed("1.1.0")
    disk = Failing(at, for_good=for_good)
    try:
        make_shelf(disk=disk).add(path)
    except ScansideError:
        after = snapshot(make_shelf())
        if not for_good:
            assert after == before
            assert not list((state / "bundles").glob("*/*.scanside"))
        # for good: a power cut after the last rename may keep the whole bundle, never a part of it
        assert [e.version for e in after] in (["1.0.0"], ["1.0.0", "1.1.0"])
        assert [e.version for e in after if e.active] == ["1.0.0"]
    else:
        assert disk.done < at or at in KEEPING
        assert at > 10 or at in KEEPING
    assert make_shelf().add(path).version == "1.1.0"
    assert make_shelf().activate(NAME, "1.1.0").active


@pytest.mark.parametrize("at", range(1, 6))
def test_an_interrupted_activate_keeps_one_whole_choice(
    make_shelf: Make, signed: Signed, at: int
) -> None:
    make_shelf().add(signed("1.1.0"))
    before = states(make_shelf())
    try:
        make_shelf(disk=Failing(at, for_good=True)).activate(NAME, "1.1.0")
    except StateUnusable:
        after = {"1.0.0": "previous", "1.1.0": "active"}
        assert states(make_shelf()) in (before, after)


def test_a_recalled_bundle_gives_way_to_the_newest_good_one_and_never_comes_back(
    make_shelf: Make, signed: Signed, state: Path
) -> None:
    shelf = make_shelf()
    added = {v: shelf.add(signed(v)) for v in ("1.1.0", "1.2.0", "1.3.0", "1.4.0")}
    for version in ("1.2.0", "1.1.0", "1.3.0"):
        shelf.activate(NAME, version)
    assert shelf.withdraw(added["1.3.0"].digest, "misses what is near the hilum") is not None
    assert states(shelf)["1.2.0"] == "active", "1.1.0 is older, 1.4.0 never served"
    assert "previous" not in states(shelf).values()
    assert shelf.withdraw(added["1.3.0"].digest, "misses what is near the hilum") is None
    (gone,) = (entry for entry in shelf.list() if entry.recalled)
    assert gone.refused == "it is recalled: misses what is near the hilum"
    assert shelf.is_withdrawn(gone.digest)
    for again in (
        lambda: shelf.activate(NAME, "1.3.0"),
        lambda: shelf.load(gone),
        lambda: shelf.load(added["1.3.0"]),  # an entry of before
        lambda: shelf.add(signed("1.3.0")),
    ):
        assert code(again) == "bundle_recalled"
    assert code(lambda: shelf.rollback(NAME)) == "bundle_no_previous"
    assert states(make_shelf())["1.2.0"] == "active"
    assert shelf.problems() == ()


def test_where_none_of_its_name_is_good_the_factorys_serves_and_else_none(
    make_shelf: Make, signed: Signed
) -> None:
    shelf = make_shelf()
    (of_wheel,) = shelf.list()
    entry = shelf.add(signed("1.1.0"))
    shelf.activate(NAME, "1.1.0")
    shelf.rollback(NAME)  # 1.1.0 is given up
    assert states(shelf) == {"1.0.0": "active", "1.1.0": "previous"}
    assert shelf.withdraw(of_wheel.digest, "wrong") is None
    (active,) = shelf.active()
    assert (active.version, active.recalled) == ("1.0.0", True)
    assert code(lambda: shelf.load(active)) == "bundle_recalled"
    assert shelf.spares(active) == (), "nobody goes back to 1.1.0 by himself"
    assert shelf.activate(NAME, "1.1.0").active
    assert shelf.withdraw(entry.digest, "wrong too") is None
    assert [one.recalled for one in shelf.active()] == [True]


def test_what_is_not_here_can_be_recalled_before_it_comes(
    make_shelf: Make, signed: Signed, state: Path
) -> None:
    shelf = make_shelf()
    digest = trust.check(signed("1.1.0").read_bytes()).digest
    before = states(shelf)
    assert shelf.withdraw(digest, "wrong") is None
    assert states(shelf) == before
    assert code(lambda: shelf.add(signed("1.1.0"))) == "bundle_recalled"
    (state / "bundles" / "recalled.json").unlink()  # whoever can write the folder
    assert code(lambda: shelf.add(signed("1.1.0"))) == "bundle_recalled"


def test_without_a_runner_a_recall_takes_what_has_not_run_on_this_backend_too(
    make_shelf: Make, signed: Signed
) -> None:
    """Who applies a recall has no backend: `work` runs the cases before it opens the bundle."""
    shelf = make_shelf()
    entry = shelf.add(signed("1.1.0"))
    shelf.activate(NAME, "1.1.0")
    taken = make_shelf(runner=None).withdraw(entry.digest, "wrong")
    assert taken is not None
    assert (taken.version, taken.gate) == ("1.0.0", "not run")
    assert shelf.ready(shelf.active()[0]).ref.version == "1.0.0"


@pytest.mark.parametrize("at", range(1, 12))
def test_an_interrupted_recall_is_finished_by_the_next_and_never_loads_what_it_recalled(
    make_shelf: Make, signed: Signed, at: int
) -> None:
    entry = make_shelf().add(signed("1.1.0"))
    make_shelf().activate(NAME, "1.1.0")
    try:
        make_shelf(disk=Failing(at, for_good=True)).withdraw(entry.digest, "wrong")
    except StateUnusable:
        assert make_shelf().is_recalled(entry.digest), "the audit has it"
        for one in make_shelf().active():
            assert one.digest != entry.digest or code(lambda o=one: make_shelf().load(o))
    make_shelf().withdraw(entry.digest, "wrong")
    assert states(make_shelf()) == {"1.0.0": "active", "1.1.0": ""}
