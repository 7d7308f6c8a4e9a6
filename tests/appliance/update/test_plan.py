"""What a box does about what it is offered: every code is reached, and every rule of the plan."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from appliance.release.record import (
    Admitted,
    Appliance,
    Blob,
    Device,
    Range,
    Recall,
    Recalled,
    Release,
    Wheel,
)
from appliance.settings import Update
from appliance.update.plan import Do, Facts, Named, Offer, Plan, offer, plan
from appliance.update.why import Why

AT = datetime(2026, 7, 1, 3, 0, tzinfo=timezone.utc)
POLICY = Update(url="https://updates.example/scanside", auto=("security", "feature", "model"))
RUNS = Named(name="scanside", version="0.2.0", digest="a" * 64)
LUNG = Named(name="lung-nodule", version="1.2.0", digest="b" * 64)


def blob(sign: str) -> Blob:
    return Blob(digest=sign * 64, length=10, packed=9)


def release(number: int = 2, version: str = "0.3.0", sign: str = "c", **change: Any) -> Release:
    """For x86-64, with the same bundle as runs."""
    wheel = Wheel(
        name=f"scanside-{version}-py3-none-any.whl", digest=sign * 64, length=10, packed=9
    )
    said: dict[str, Any] = {
        "channel": "stable",
        "number": number,
        "made": AT - timedelta(days=1),
        "kind": "feature",
        "intended_use_changes": False,
        "notes": "smaller networks",
        "appliance": Appliance(version=version, wheel=wheel),
        "devices": (
            Device(kind="x86-64", python=Range(at_least="3.10", below="3.14"), lock=blob("1")),
        ),
        "bundles": (bundle(LUNG),),
        "sbom": blob("2"),
        "vex": blob("3"),
    }
    return Release(**{**said, **change})


def bundle(named: Named) -> Admitted:
    return Admitted(**named.model_dump(), contents=blob("4"))


def facts(**change: Any) -> Facts:
    """A box at rest in its window."""
    said: dict[str, Any] = {
        "at": AT,
        "channel": "stable",
        "site": "north",
        "kind": "x86-64",
        "python": "3.11.2",
        "appliance": RUNS,
        "slot": 1,
        "bundles": (LUNG,),
        "highest": 1,
        "free_mb": 5000.0,
        "in_window": True,
        "idle": True,
        "between_series": True,
    }
    return Facts(**{**said, **change})


def planned(*releases: Release, policy: Update = POLICY, needs_mb: float = 0, **box: Any) -> Plan:
    return plan([Offer(release=one, needs_mb=needs_mb) for one in releases], facts(**box), policy)


def test_another_appliance_takes_a_slot_like_that_of_now_and_the_same_one_takes_none() -> None:
    wheel = NEW.appliance.wheel
    needs = offer(NEW, RUNS, 600.0).needs_mb
    assert needs >= 600.0 + (wheel.packed + wheel.length) / 1e6
    same = RUNS.model_copy(update={"digest": wheel.digest})
    assert offer(NEW, same, 600.0).needs_mb < 1.0


def does(made: Plan) -> list[Do]:
    return [step.do for step in made.steps]


def codes(made: Plan) -> set[Why]:
    return {one.code for one in made.why}


def recall(*names: Named) -> Recall:
    entries = tuple(
        Recalled(
            what="appliance" if one.name == "scanside" else "bundle",
            **one.model_dump(),
            reason="It misses nodules.",
            at=AT,
        )
        for one in names
    )
    return Recall(number=1, made=AT, entries=entries)


NEW = release()
JETPACK = release(
    devices=(
        Device(
            kind="orin",
            python=Range(at_least="3.10"),
            jetpack=Range(at_least="6.1"),
            tensorrt=Range(at_least="10.3", below="11"),
            lock=blob("1"),
        ),
    )
)
REACHED: dict[Why, Plan] = {
    Why.NO_URL: planned(policy=Update()),
    Why.NOTHING_NEWER: planned(),
    Why.OTHER_CHANNEL: planned(release(channel="canary")),
    Why.OTHER_SITE: planned(release(channel="site-south"), channel="site-south"),
    Why.OTHER_DEVICE: planned(JETPACK),
    Why.PYTHON: planned(NEW, python="3.14.0"),
    Why.JETPACK: planned(JETPACK, kind="orin", jetpack="6.0", tensorrt="10.7"),
    Why.TENSORRT: planned(JETPACK, kind="orin", jetpack="6.2", tensorrt="11.0"),
    Why.OLDER: planned(release(version="0.1.0")),
    Why.RELABELLED: planned(release(version="0.2.0")),
    Why.RECALLED: planned(
        NEW, recall=recall(Named(name="scanside", version="0.3.0", digest="c" * 64))
    ),
    Why.ROLLED_BACK: planned(NEW, rolled_back=(NEW.path,)),
    Why.NOT_AUTOMATIC: planned(NEW, policy=Update(url="https://updates.example")),
    Why.NEEDS_ACCEPT: planned(release(intended_use_changes=True)),
    Why.HELD: planned(NEW, hold=True),
    Why.DISK: planned(NEW, needs_mb=5001),
    Why.WINDOW: planned(NEW, in_window=False),
    Why.BUSY: planned(NEW, idle=False),
}


def test_every_code_is_reached() -> None:
    assert set(REACHED) == set(Why)


@pytest.mark.parametrize("code", Why)
def test_a_code_stands_alone_and_nothing_is_switched(code: Why) -> None:
    made = REACHED[code]
    assert codes(made) == {code}
    assert not {Do.SWITCH_APPLIANCE, Do.SWITCH_BUNDLE} & set(does(made))
    assert all(one.text and one.remedy for one in made.why)


def test_a_new_appliance_is_fetched_built_proved_and_switched() -> None:
    made = planned(NEW)
    assert made.release == NEW
    assert does(made) == [Do.FETCH, Do.BUILD, Do.PROVE, Do.SWITCH_APPLIANCE]
    assert made.why == ()


def test_of_both_all_is_proved_before_anything_is_switched() -> None:
    newer = Named(name="lung-nodule", version="1.3.0", digest="d" * 64)
    made = planned(release(bundles=(bundle(newer),)))
    assert does(made) == [
        Do.FETCH,
        Do.BUILD,
        Do.BUILD,
        Do.PROVE,
        Do.SWITCH_APPLIANCE,
        Do.SWITCH_BUNDLE,
    ]


def test_a_bundle_alone_needs_the_window_and_no_idle_box() -> None:
    newer = Named(name="lung-nodule", version="1.3.0", digest="d" * 64)
    only = release(version="0.2.0", sign="a", bundles=(bundle(newer),))
    assert does(planned(only, idle=False, between_series=False))[-1] is Do.SWITCH_BUNDLE
    assert codes(planned(only, in_window=False)) == {Why.WINDOW}


def test_what_waits_for_the_window_is_made_and_proved_meanwhile() -> None:
    assert does(REACHED[Why.WINDOW]) == [Do.FETCH, Do.BUILD, Do.PROVE]
    assert does(REACHED[Why.BUSY]) == [Do.FETCH, Do.BUILD, Do.PROVE]


def test_a_release_that_brings_nothing_new_is_only_remembered() -> None:
    assert does(planned(release(version="0.2.0", sign="a"))) == [Do.REMEMBER]


def test_by_hand_neither_kind_nor_window_nor_quiet_are_asked_but_a_series_in_hand_is() -> None:
    policy = Update(auto=())
    made = planned(NEW, policy=policy, by_hand=True, in_window=False, idle=False)
    assert does(made)[-1] is Do.SWITCH_APPLIANCE
    assert codes(planned(NEW, by_hand=True, idle=False, between_series=False)) == {Why.BUSY}
    assert codes(planned(NEW, by_hand=True, hold=True)) == {Why.HELD}
    changed = release(intended_use_changes=True)
    assert codes(planned(changed, by_hand=True)) == {Why.NEEDS_ACCEPT}


def test_a_security_release_waits_for_the_window_until_its_deadline() -> None:
    def urgent(deadline: datetime) -> Release:
        return release(kind="security", deadline=deadline)

    before, over = urgent(AT + timedelta(hours=1)), urgent(AT)
    assert codes(planned(before, in_window=False, idle=False)) == {Why.WINDOW, Why.BUSY}
    assert does(planned(over, in_window=False, idle=False))[-1] is Do.SWITCH_APPLIANCE
    assert codes(planned(over, in_window=False, idle=False, between_series=False)) == {Why.BUSY}


def test_an_accept_is_for_one_release() -> None:
    changed = release(intended_use_changes=True)
    assert planned(changed, accepted=changed.path).release == changed
    assert codes(planned(changed, accepted="stable/1.json")) == {Why.NEEDS_ACCEPT}


def test_a_security_release_is_not_missed_behind_a_feature() -> None:
    urgent = release(2, kind="security")
    feature = release(3, version="0.4.0", sign="e")
    policy = Update(url="https://updates.example")
    assert planned(urgent, feature, policy=policy).release == urgent
    assert planned(urgent, feature).release == feature


def test_what_rolled_back_is_tried_again_by_hand_and_nothing_older_ever() -> None:
    again = {"rolled_back": (NEW.path,), "highest": 2}
    assert codes(planned(NEW, **again)) == {Why.ROLLED_BACK}
    assert planned(NEW, **again, by_hand=True).release == NEW
    assert planned(NEW, rolled_back=(NEW.path,), highest=3, by_hand=True).release is None
    later = release(3, version="0.4.0", sign="e")
    assert planned(NEW, later, **again).release == later


def test_what_was_taken_before_is_nothing_newer() -> None:
    assert codes(planned(NEW, release(1), highest=2)) == {Why.NOTHING_NEWER}


def test_a_version_that_this_box_had_once_never_returns_with_other_bytes() -> None:
    had = Named(name="scanside", version="0.3.0", digest="f" * 64)
    assert codes(planned(NEW, known=(had,))) == {Why.RELABELLED}


def test_what_runs_and_is_recalled_gives_way_also_under_a_hold() -> None:
    box = {"recall": recall(RUNS, LUNG), "hold": True, "in_window": False}
    made = planned(**box)
    assert does(made) == [Do.WITHDRAW_BUNDLE, Do.WITHDRAW_APPLIANCE]
    busy = planned(**box, idle=False)
    assert does(busy) == [Do.WITHDRAW_BUNDLE]
    assert codes(busy) == {Why.BUSY, Why.HELD}


def test_what_gives_way_does_not_keep_a_good_release_from_coming() -> None:
    good = release(bundles=())
    made = planned(good, recall=recall(LUNG))
    assert does(made)[:2] == [Do.WITHDRAW_BUNDLE, Do.FETCH]
    assert made.release == good
