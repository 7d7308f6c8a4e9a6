"""What a box does about the releases that it is offered: steps, or why not. Pure.

Rules.
1. Nothing that is offered is believed here but what was verified before (appliance.update.trust).
   The releases of the box's own channel are looked at from the newest down; the first to which
   nothing is to be said is taken. So a security release is not missed behind a feature.
2. Never taken: a release for others; a number at or below the highest that this box ever took; an
   appliance older than the one that runs; a name and version with other bytes than this box knows;
   anything recalled. Only the newest one that was taken may be taken again, by hand, after it
   rolled back.
3. A kind that is not in [update] auto is taken only by hand. A changed intended use waits for
   `accept` of this very release, also by hand.
4. A hold stops everything but what a recall takes away. Fetching, building and proving need room on
   the disk and neither window nor quiet. A bundle is switched inside the window; an appliance, for
   which stages restart, when the box is idle too. By hand, and for a security release after its
   deadline, it is the first moment between two series instead.
5. What runs and is recalled gives way, whatever else holds: a bundle after the study at hand, an
   appliance when the box is idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

from pydantic import AwareDatetime, Field

from appliance.bundle.manifest import Name, Version
from appliance.release.record import (
    Channel,
    Device,
    DeviceKind,
    Recall,
    Release,
    Release_,
)
from appliance.report import Digest, Record
from appliance.settings.sections import Update
from appliance.update.why import Why, WhyNot


class Named(Record):
    """What of a release has a name and a version: an appliance by the digest of its wheel, a bundle
    by that of its manifest."""

    name: Name
    version: Version
    digest: Digest

    def words(self) -> str:
        """For a person."""
        return f"{self.name} {self.version}"


APPLIANCE = "scanside"
"""The name of the appliance among what is named; no bundle may be called so on a device."""


class Facts(Record):
    """What is so on this box now. `at` is the time by appliance.update.clock."""

    at: AwareDatetime
    channel: Channel
    site: str
    kind: DeviceKind
    python: Release_
    jetpack: Release_ | None = None
    tensorrt: Release_ | None = None
    appliance: Named
    slot: int = Field(ge=0, description="in which the appliance runs; 0 before the first update")
    bundles: tuple[Named, ...] = ()
    """Those that are active."""
    known: tuple[Named, ...] = ()
    """All that this box ever had, for rule 2."""
    highest: int = Field(default=0, ge=0, description="number of the newest release ever taken")
    rolled_back: tuple[str, ...] = ()
    """Paths of the releases that were tried here and went back."""
    recall: Recall | None = None
    hold: bool = False
    accepted: str | None = None
    """Path of the release whose intended use was accepted."""
    by_hand: bool = False
    """Whether a person asks for it now."""
    free_mb: float = Field(ge=0, description="10^6 bytes, without what is kept in reserve")
    in_window: bool
    idle: bool
    """No association, nothing followed, and quiet for a minute."""
    between_series: bool
    """No association, and nothing in hand at this moment; or no such moment has come for long."""


class Offer(Record):
    """A verified release, and how much room it takes, fetched and built, in 10^6 bytes."""

    release: Release
    needs_mb: float = Field(default=0, ge=0)


def offer(release: Release, runs: Named, slot_mb: float) -> Offer:
    """A release that is not in hand yet. Of one with another appliance than `runs` it is known
    before the first byte that a slot like that of now is made, `slot_mb` in 10^6 bytes, and its own
    wheel fetched and unpacked; what its lists add is known once they are read (downloads, rule 1).
    """
    wheel = release.appliance.wheel
    lists = sum(one.contents.packed + one.contents.length for one in release.bundles)
    needs_mb = lists / 1e6
    if wheel.digest != runs.digest:
        needs_mb += slot_mb + (wheel.packed + wheel.length) / 1e6
    return Offer(release=release, needs_mb=needs_mb)


class Do(str, Enum):
    WITHDRAW_BUNDLE = "withdraw_bundle"
    WITHDRAW_APPLIANCE = "withdraw_appliance"
    FETCH = "fetch"
    BUILD = "build"
    PROVE = "prove"
    SWITCH_APPLIANCE = "switch_appliance"
    SWITCH_BUNDLE = "switch_bundle"
    REMEMBER = "remember"
    """Nothing but the number of the release is new."""


class Step(Record):
    """One thing to do, and to what: an appliance's version, a bundle's name and version."""

    do: Do
    what: str


class Plan(Record):
    """`release` is what is taken; None where none is. `steps` are what may be done now, `why` says
    why there are no more."""

    release: Release | None = None
    steps: tuple[Step, ...] = ()
    why: tuple[WhyNot, ...] = ()


def plan(offers: Sequence[Offer], facts: Facts, policy: Update) -> Plan:
    """What to do now. It is asked again whenever a fact has changed."""
    away, waits = _withdrawn(facts)
    if facts.hold:
        held = WhyNot(code=Why.HELD, text="updates are held on this box")
        return Plan(steps=away, why=(*waits, held))
    new = [one for one in offers if not _had(one.release, facts)]
    if not new:
        return Plan(steps=away, why=(*waits, _nothing(facts, policy, asked=bool(offers))))
    refusals: list[WhyNot] = []
    for offer in sorted(new, key=lambda one: one.release.number, reverse=True):
        found = tuple(_against(offer.release, facts, policy))
        if not found:
            steps, why = _steps(offer, facts)
            return Plan(release=offer.release, steps=(*away, *steps), why=(*waits, *why))
        refusals.extend(found)
    return Plan(steps=away, why=(*waits, *refusals))


def _had(release: Release, facts: Facts) -> bool:
    """Rule 2: whether this box took it, or a newer one, and did not go back from it."""
    if release.channel != facts.channel or release.number > facts.highest:
        return False
    return release.number < facts.highest or release.path not in facts.rolled_back


def _nothing(facts: Facts, policy: Update, *, asked: bool = False) -> WhyNot:
    if policy.url is None and not asked and not facts.by_hand:
        return WhyNot(code=Why.NO_URL, text="no repository of releases is named")
    newest = f"release {facts.highest}" if facts.highest else "no release"
    return WhyNot(
        code=Why.NOTHING_NEWER, text=f"{facts.channel} has nothing newer; this box took {newest}"
    )


def _withdrawn(facts: Facts) -> tuple[tuple[Step, ...], tuple[WhyNot, ...]]:
    """Rule 5."""
    if facts.recall is None:
        return (), ()
    steps = [
        Step(do=Do.WITHDRAW_BUNDLE, what=one.words())
        for one in facts.bundles
        if facts.recall.names(one.digest)
    ]
    if facts.recall.names(facts.appliance.digest) is None:
        return tuple(steps), ()
    if facts.idle:
        steps.append(Step(do=Do.WITHDRAW_APPLIANCE, what=facts.appliance.version))
        return tuple(steps), ()
    text = f"appliance {facts.appliance.version} was recalled, and a study is under way"
    return tuple(steps), (WhyNot(code=Why.BUSY, text=text),)


def _against(release: Release, facts: Facts, policy: Update) -> Iterator[WhyNot]:
    """All that is to be said against a release (rules 2 and 3)."""

    def no(code: Why, text: str) -> WhyNot:
        return WhyNot(code=code, text=f"{release.path}: {text}", release=release.path)

    if release.channel != facts.channel:
        yield no(Why.OTHER_CHANNEL, f"this box takes releases of {facts.channel}")
    if release.channel.startswith("site-") and release.channel != f"site-{facts.site}":
        yield no(Why.OTHER_SITE, f"this box is of the site {facts.site}")
    device = next((one for one in release.devices if one.kind == facts.kind), None)
    if device is None:
        kinds = ", ".join(one.kind for one in release.devices)
        yield no(Why.OTHER_DEVICE, f"it is for {kinds}, and this box is {facts.kind}")
    else:
        for code, text in _out_of_range(device, facts):
            yield no(code, text)
    if _numbers(release.appliance.version) < _numbers(facts.appliance.version):
        yield no(
            Why.OLDER,
            f"its appliance is {release.appliance.version}, and {facts.appliance.version} runs",
        )
    for text in _relabelled(release, facts):
        yield no(Why.RELABELLED, text)
    for entry in facts.recall.recalled_of(release) if facts.recall else ():
        yield no(Why.RECALLED, f"{entry.name} {entry.version} was recalled: {entry.reason}")
    if release.path in facts.rolled_back and not facts.by_hand:
        yield no(Why.ROLLED_BACK, "it was tried here and went back")
    if release.kind not in policy.auto and not facts.by_hand:
        yield no(Why.NOT_AUTOMATIC, f"a {release.kind} release comes by hand alone")
    if release.intended_use_changes and facts.accepted != release.path:
        yield no(Why.NEEDS_ACCEPT, "what it is meant for changes")


def _out_of_range(device: Device, facts: Facts) -> Iterator[tuple[Why, str]]:
    for code, what, wanted, here in (
        (Why.PYTHON, "Python", device.python, facts.python),
        (Why.JETPACK, "JetPack", device.jetpack, facts.jetpack),
        (Why.TENSORRT, "TensorRT", device.tensorrt, facts.tensorrt),
    ):
        if wanted is not None and (here is None or not wanted.holds(here)):
            yield code, f"it wants {what} {wanted.words()}; here is {here or 'none'}"


def _named(release: Release) -> Iterator[Named]:
    yield Named(
        name=APPLIANCE, version=release.appliance.version, digest=release.appliance.wheel.digest
    )
    for one in release.bundles:
        yield Named(name=one.name, version=one.version, digest=one.digest)


def _relabelled(release: Release, facts: Facts) -> Iterator[str]:
    had = {
        (one.name, one.version): one.digest
        for one in (*facts.known, *facts.bundles, facts.appliance)
    }
    for one in _named(release):
        before = had.get((one.name, one.version), one.digest)
        if before != one.digest:
            yield f"{one.words()} is {one.digest[:12]}, and was {before[:12]} on this box"


def _steps(offer: Offer, facts: Facts) -> tuple[tuple[Step, ...], tuple[WhyNot, ...]]:
    """Rule 4."""
    release = offer.release
    new = [one for one in _named(release) if one not in (*facts.bundles, facts.appliance)]
    if not new:
        return (Step(do=Do.REMEMBER, what=release.path),), ()
    if offer.needs_mb > facts.free_mb:
        text = f"{offer.needs_mb:.0f} MB are needed, {facts.free_mb:.0f} MB are free"
        return (), (WhyNot(code=Why.DISK, text=text, release=release.path),)
    made = [Step(do=Do.FETCH, what=release.path)]
    made += [Step(do=Do.BUILD, what=one.words()) for one in new]
    made += [Step(do=Do.PROVE, what=release.path)]
    appliance = any(one.name == APPLIANCE for one in new)
    why = tuple(_not_now(release, facts, appliance=appliance))
    if why:
        return tuple(made), why
    made += [
        Step(
            do=Do.SWITCH_APPLIANCE if one.name == APPLIANCE else Do.SWITCH_BUNDLE, what=one.words()
        )
        for one in new
    ]
    return tuple(made), ()


def _not_now(release: Release, facts: Facts, *, appliance: bool) -> Iterator[WhyNot]:
    late = release.deadline is not None and release.deadline <= facts.at
    if facts.by_hand or late:
        if appliance and not facts.between_series:
            yield WhyNot(code=Why.BUSY, text="a series is under way", release=release.path)
        return
    if not facts.in_window:
        yield WhyNot(code=Why.WINDOW, text="the window is closed", release=release.path)
    if appliance and not facts.idle:
        yield WhyNot(code=Why.BUSY, text="a study is under way", release=release.path)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
