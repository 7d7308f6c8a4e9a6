"""A bundle that is damaged is replaced by one of its name that may be trusted, and that is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance import line
from appliance.bundle.shelf import Entry, Shelf
from appliance.bundle.trust import Loaded
from appliance.errors import StateUnusable
from appliance.lines.kind import NO_CONTEXT
from appliance.reasons import Code
from appliance.report import Status
from appliance.runtime import bundles as runtime_bundles
from appliance.runtime.bundles import OpenBundles
from appliance.store import heartbeat
from appliance.store.events import BundlesRefused
from appliance.store.heartbeat import Heart, TroubleCode
from appliance.store.journal import Journal
from appliance.verbs.bundle import mended
from appliance.verbs.checks import analysis
from appliance.verbs.checks.check import Check
from appliance.verbs.checks.check import Device as Examined
from appliance.work.refusals import Refusals
from rigs.device import Device
from rigs.shelves import audited

NAME = "tiny-nodule"


@pytest.fixture
def device(tmp_path: Path, tiny_bytes: bytes) -> Device:
    """1.1.0 was active, then 1.2.0 is."""
    made = Device(tmp_path, tiny_bytes)
    for version in ("1.1.0", "1.2.0"):
        made.activate(version=version)
    return made


def shelf(device: Device) -> Shelf:
    return OpenBundles(device.settings, audited(device.settings.state)).shelf


def entry(device: Device, version: str) -> Entry:
    return next(e for e in shelf(device).list() if (e.name, e.version) == (NAME, version))


def damage(device: Device, version: str) -> bytes:
    """One flipped byte in the middle of its file; the bytes before."""
    path = shelf(device).path(entry(device, version))
    good = path.read_bytes()
    middle = len(good) // 2
    path.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    return good


@contextmanager
def opened(device: Device) -> Iterator[OpenBundles]:
    """As `work` has them."""
    bundles = OpenBundles(device.settings, audited(device.settings.state))
    yield bundles
    bundles.close()


def versions(bundles: OpenBundles) -> list[str]:
    return [o.bundle.ref.version for o in bundles.refresh() if o.bundle.ref.name == NAME]


def checked(device: Device) -> Check:
    return analysis.bundles(Examined(device.settings, "scanside.toml"))


def test_a_flipped_byte_makes_the_one_before_serve_until_the_bundle_is_whole_again(
    device: Device,
) -> None:
    assert checked(device).ok
    good = damage(device, "1.2.0")
    found = checked(device)
    assert not found.ok
    assert "1.2.0" in found.text
    with opened(device) as bundles:
        assert versions(bundles) == ["1.1.0"]
        (trouble,) = bundles.troubles
        assert trouble.startswith(f"{NAME} 1.2.0: ")
        assert trouble.endswith("1.1.0 serves in its place")
        before = bundles.refresh()
        assert bundles.refresh() == before, "it is stable"
        shelf(device).path(entry(device, "1.2.0")).write_bytes(good)
        assert versions(bundles) == ["1.2.0"], "its file has changed: it is looked at again"
        assert bundles.troubles == ()
        assert all(one.fallback is None for one in bundles.refresh())
    assert checked(device).ok


@pytest.mark.long
def test_each_report_that_is_made_meanwhile_says_so(device: Device) -> None:
    damage(device, "1.2.0")
    with opened(device) as bundles:
        (one,) = (o for o in bundles.refresh() if o.bundle.ref.name == NAME)
        result = one.finish(line.begin([one.bundle]), NO_CONTEXT)
    assert result.status is Status.NOT_ANALYSED
    (limitation,) = result.limitations
    assert limitation.code is Code.BUNDLE_FALLBACK
    assert limitation.text == f"{NAME} 1.2.0 is refused: {NAME} 1.1.0 serves in its place"


@pytest.mark.long
def test_no_bundle_that_was_given_up_and_none_of_another_name_takes_its_place(
    device: Device,
) -> None:
    shelf(device).rollback(NAME)  # 1.2.0 is given up, 1.1.0 is active
    device.activate(name="other-nodule")
    damage(device, "1.1.0")
    with opened(device) as bundles:
        assert versions(bundles) == []
        assert any(one.bundle.ref.name == "other-nodule" for one in bundles.all)
        (trouble,) = bundles.troubles
        assert trouble.endswith("none serves")


@pytest.mark.long
def test_what_runs_goes_on_unless_it_was_given_up(device: Device) -> None:
    with opened(device) as bundles:
        assert versions(bundles) == ["1.2.0"]
        damage(device, "1.1.0")
        with Journal.open(device.settings.state) as journal:
            # a rollback whose bundle is damaged after its check
            of = {v: entry(device, v).digest for v in ("1.1.0", "1.2.0")}
            journal.audit.add(
                "tests", "bundle activate", name=NAME, version="1.1.0", digest=of["1.1.0"],
                before=of["1.2.0"], withdraws=of["1.2.0"],
            )  # fmt: skip
        (device.settings.state / "bundles" / "active.json").unlink()
        assert versions(bundles) == []
        assert bundles.troubles[-1].endswith("none serves")


@pytest.mark.long
def test_what_was_refused_is_not_run_again_at_each_look(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    with opened(device) as bundles:
        ready = bundles.shelf.ready

        def look(one: Entry) -> Loaded:
            looks.append(f"{one.name} {one.version}")
            return ready(one)

        monkeypatch.setattr(bundles.shelf, "ready", look)
        damage(device, "1.2.0")
        for _ in range(3):
            bundles.refresh()
        assert looks.count(f"{NAME} 1.2.0") == 1
        monkeypatch.setattr(runtime_bundles, "AGAIN_S", 0.0)
        monkeypatch.setattr(runtime_bundles, "TIMES", 0.0)
        bundles._refused.clear()
        for _ in range(3):
            bundles.refresh()
        assert looks.count(f"{NAME} 1.2.0") == 4


@pytest.mark.parametrize(
    "table", ["installed.json", pytest.param("active.json", marks=pytest.mark.long)]
)
def test_a_damaged_table_is_kept_and_the_same_bundle_serves(device: Device, table: str) -> None:
    path = device.settings.state / "bundles" / table
    path.write_bytes(b"\0" * 400)
    assert not checked(device).ok
    with opened(device) as bundles:
        assert versions(bundles) == ["1.2.0"]
        (trouble,) = bundles.troubles
        assert trouble == f"{path} is damaged or missing"
        assert not path.with_name(f"{table}.damaged-1").exists(), "`work` may not write there"
        (line,) = mended(bundles.shelf)  # as each verb of `scanside bundle` does
        assert f"{table}.damaged-1" in line
        assert versions(bundles) == ["1.2.0"]
        assert bundles.troubles == ()
    assert path.with_name(f"{table}.damaged-1").read_bytes() == b"\0" * 400
    assert checked(device).ok


@pytest.mark.long
def test_a_damaged_table_on_a_disk_that_takes_nothing_stops_nobody(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    (device.settings.state / "bundles" / "installed.json").write_bytes(b"{")
    with opened(device) as bundles:

        def full() -> tuple[str, ...]:
            raise StateUnusable("No space left on device")

        monkeypatch.setattr(bundles.shelf, "mend", full)
        (line,) = mended(bundles.shelf)
        assert line.startswith("No space left on device")
        assert versions(bundles) == ["1.2.0"]
        (trouble,) = bundles.troubles
        assert "installed.json is damaged" in trouble


def test_work_says_it_in_its_beat_and_in_one_event_a_change(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        heart = Heart(tmp_path, "work")
        refusals = Refusals(tmp_path, journal, heart)
        for troubles in ((), ("a", "b"), ("a", "b"), ()):
            refusals.note(troubles)
            heart.beat()
            beat = heartbeat.read(tmp_path, "work")
            assert beat is not None
            said = [(t.code, t.text) for t in beat.troubles]
            assert said == ([(TroubleCode.BUNDLE_REFUSED, "a; b")] if troubles else [])
        events = [one.event.text for one in journal.events.of(BundlesRefused)]
        assert events == ["", "a; b"]
