"""What no update may cost: two scanners send without pause while a box is updated again and again.

Everything runs: a repository behind http, `scanside run` with slots that pip makes, `apply`,
`update` and `guard`, the stages of each slot, and two scanners. What is counted is counted by the
scanners (associations and images that were refused) and by the journal (studies without a report).

SCANSIDE_UPDATES (10) and SCANSIDE_BUNDLE_UPDATES (100) say how many. No machine's speed decides:
the time of a study during updates is compared with that of the same run without them, in turns of
ROUND updates and of twice as many studies without one, so that what else the machine does meets
both.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from appliance.apply.shelving import ReleaseShelf, ShelfBundles
from appliance.bundle import trust
from appliance.report import SeriesKey, Status
from appliance.store.journal import Journal
from appliance.update.plan import Named
from appliance.update.states import State
from rigs.bundles import BUNDLE, Bundles, trust_tests
from rigs.peers import until
from rigs.releasing import Simulated
from rigs.updating import OURS, Scanner, Updated, released, updated

BUNDLE_UPDATES = int(os.environ.get("SCANSIDE_BUNDLE_UPDATES", "100"))
UPDATES = int(os.environ.get("SCANSIDE_UPDATES", "10"))
DIES = "import sys, os; {'work', 'apply'} & set(sys.orig_argv[3:4]) and os._exit(3)\n"
"""A line of a .pth file, which Python runs at its start: `work` and `apply` end at once."""
GOOD = (State.READY, State.SWITCHING, State.TRIAL, State.CONFIRMED)
ROUND = 10
LOOK_S = 0.2
"""Between two looks at the journal: looking without a pause would slow down what it looks at."""
STUDY_S = 120.0
"""A study is analysed within this, whatever else the machine does."""


@pytest.fixture
def site(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, bundles: Bundles
) -> Iterator[Updated]:
    """A box that runs from slot 1, with a small bundle that analyses what the scanners send."""
    repo = Simulated.begun()
    released(repo, "90.0.0")
    with updated(repo, tmp_path, tmp_path_factory.mktemp("box")) as made:
        trust_tests(made.box.places.state)
        for words in (
            ("add", str(bundles.usual), "--allow-development"),
            ("activate", BUNDLE, "90.0.0"),
        ):
            done = made.scanside("bundle", *words)
            assert done.returncode == 0, done.stderr
        yield made


def analysed(site: Updated, sent: list[SeriesKey]) -> bool:
    """Whether each has its report."""
    found = site.reports(sent).values()
    return all(one is not None and one.status is Status.ANALYSED for one in found)


def late_s(site: Updated, sent: list[SeriesKey]) -> list[float]:
    """From the last image to the report, of each, the fastest first."""
    times = [one.times for one in site.reports(sent).values() if one is not None]
    return sorted((one.committed - one.last_slice).total_seconds() for one in times)


def confirmed(site: Updated) -> bool:
    """Whether the update in hand has ended, and well."""
    status = site.status()
    assert status.steps is not None
    assert status.steps.state in GOOD, status.steps
    return status.steps.state is State.CONFIRMED


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_updates_of_the_appliance_refuse_no_association_and_lose_no_study(
    site: Updated, capsys: pytest.CaptureFixture[str]
) -> None:
    scanners = [Scanner(site, name) for name in ("CT1", "CT2")]
    try:
        until(lambda: all(one.sent for one in scanners), STUDY_S)
        for number in range(1, UPDATES + 1):
            if number > 1:
                released(site.repo, f"90.0.{number - 1}")
                site.serve()
            done = site.types("now")
            assert done.returncode == 0, (
                done.stdout,
                done.stderr,
                site.box.log.read_text()[-9000:],
            )
            until(lambda: confirmed(site), 5 * STUDY_S)
            assert os.readlink(site.box.places.current) == f"slots/{number + 1}"
    finally:
        for one in scanners:
            one.stop()
    sent = [key for one in scanners for key in one.sent]
    until(lambda: analysed(site, sent), STUDY_S * 3)
    times = late_s(site, sent)
    refused = [why for one in scanners for why in one.refused]
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what this is run for
            f"\n{UPDATES} updates of the appliance, two scanners without pause: {len(sent)} "
            f"studies, {len(refused)} refused, 0 lost; the report {times[len(times) // 2]:.1f} s "
            f"after the last image in half of them, {times[-1]:.1f} s in the latest"
        )
    assert refused == []
    assert site.box.units.state("receive", UPDATES + 1) == "ready"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_updates_of_a_bundle_lose_no_study_and_hold_up_none(
    site: Updated, bundles: Bundles, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each new version is on the shelf and active as `apply` does it, and the next one comes when a
    study was analysed by it."""
    state = site.box.places.state

    def told(action: str, detail: Mapping[str, str]) -> None:
        with Journal.open(state) as journal:
            journal.audit.add("apply", action, **detail)

    proved = site.scanside("prove", str(bundles.newer))
    assert proved.returncode == 0, (proved.stdout, proved.stderr)
    shelf = ShelfBundles(ReleaseShelf(state, audit=told))
    shelf.admit(bundles.newer, "stable/2.json")
    named = [named_of(bundles.usual), named_of(bundles.newer)]
    scanners = [Scanner(site, name) for name in ("CT1", "CT2")]
    before: list[SeriesKey] = []
    during: list[SeriesKey] = []

    def sent() -> list[SeriesKey]:
        return [key for one in scanners for key in list(one.sent)]

    try:
        for first in range(1, BUNDLE_UPDATES + 1, ROUND):
            old = set(sent())
            enough = len(old) + 2 * ROUND
            until(lambda enough=enough: len(sent()) >= enough, STUDY_S * ROUND, every_s=LOOK_S)  # type: ignore[misc]
            before += [key for key in sent() if key not in old]
            start = set(sent())
            for number in range(first, min(first + ROUND, BUNDLE_UPDATES + 1)):
                one, old = named[number % 2], set(sent())
                shelf.activate(one)
                new = partial(new_by, site, sent, old, one)
                until(new, STUDY_S, every_s=LOOK_S)
            during += [key for key in sent() if key not in start]
    finally:
        for scanner in scanners:
            scanner.stop()
    until(lambda: analysed(site, sent()), 3 * STUDY_S, every_s=LOOK_S)
    alone, beside = late_s(site, before), late_s(site, during)
    p99 = alone[int(0.99 * (len(alone) - 1))]
    refused = [why for one in scanners for why in one.refused]
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what this is run for
            f"\n{BUNDLE_UPDATES} updates of a bundle, two scanners without pause: {len(during)} "
            f"studies, {len(refused)} refused, 0 lost; the latest report {beside[-1]:.1f} s after "
            f"its last image; without updates p99 {p99:.1f} s, the latest {alone[-1]:.1f} s, of "
            f"{len(alone)}"
        )
    assert refused == []
    # the aim is p99 and 1 s; a machine that does other work too jitters by more than that
    assert beside[-1] <= 2 * alone[-1] + 10


def named_of(path: Path) -> Named:
    ref = trust.check(path.read_bytes()).ref
    return Named(name=ref.name, version=ref.version, digest=ref.digest)


def new_by(
    site: Updated, sent: Callable[[], list[SeriesKey]], old: set[SeriesKey], named: Named
) -> bool:
    """Whether a study that was not among the old ones was analysed by this bundle."""
    found = site.reports([key for key in sent() if key not in old]).values()
    return any(one is not None and one.bundle.digest == named.digest for one in found)


@pytest.mark.long
def test_a_release_whose_work_and_updater_die_is_left_within_a_minute_of_the_third_start(
    site: Updated, capsys: pytest.CaptureFixture[str]
) -> None:
    """The `apply` that switches is killed as soon as the trial has begun, and that of the new slot
    dies at each start: only `guard` is left. A scanner sends meanwhile."""
    places = site.box.places
    released(site.repo, "90.0.1", pth=f"{OURS}{DIES}")
    site.serve()
    scanner = Scanner(site, "CT1")
    starts = places.starts("work")
    try:
        asks = threading.Thread(target=site.types, args=("now",), daemon=True)
        asks.start()
        until(places.trial.exists, 5 * STUDY_S)
        updater = updater_of(site)
        os.kill(updater, signal.SIGKILL)
        third = float(until(lambda: starts_of(starts) >= 3 and time.monotonic(), STUDY_S))
        until(lambda: not places.trial.exists() and served_by(site, 1), STUDY_S)
        took = time.monotonic() - third
        count = len(scanner.sent)
        until(lambda: len(scanner.sent) > count, STUDY_S)
    finally:
        scanner.stop()
    until(lambda: analysed(site, scanner.sent), 3 * STUDY_S)
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what this is run for
            f"\na release whose work and updater die: slot 1 serves {took:.1f} s after the third "
            f"start; {len(scanner.sent)} studies, {len(scanner.refused)} refused, 0 lost"
        )
    assert os.readlink(places.current) == "slots/1"
    assert scanner.refused == []
    assert took < 60  # the aim itself
    until(lambda: site.status().steps.state is State.ROLLED_BACK, STUDY_S)  # type: ignore[union-attr]


def starts_of(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def served_by(site: Updated, slot: int) -> bool:
    stages = ("publish", "work", "receive", "retain")
    return all(site.box.units.state(stage, slot) == "ready" for stage in stages)


def updater_of(site: Updated) -> int:
    """The process of `apply`, a child of `scanside run`."""
    parent = site.box.process.pid
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3:4] == [b"apply"]:
            return int(pid)
    raise AssertionError("no apply")
