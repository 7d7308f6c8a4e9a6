"""The stage that analyses: follow each series while it arrives, judge it, report it.

    hint or deadline -> look (new files into the fold) -> judge (complete?) -> conclude (report)
                        one series a turn: what is `stat` first (priority)

Rules
- The spool is the truth. A hint only says where to look; lost hints cost nothing, because every
  deadline looks again, a start looks at everything, and a socket that was found full, which is when
  hints get lost, makes the stage look at every series the journal calls open.
- Nothing on the way of a slice polls: the loop sleeps until the next hint or deadline.
- A plausible end is inferred at once and goes out as `preliminary`; the verdict makes it `final`
  without a second inference if nothing came.
- A later slice leads to a new revision that supersedes the first. The same input never does.
- Which series of a study stand is judged anew at each final report, whichever came first.
- Engines for a GPU are built beside the work, never in its way; what is said of them is journalled.
- A series whose body part no bundle is meant for, or a better one of which was analysed, is only
  judged when nothing else waits, and once.
- A newly activated bundle is opened at once, in a thread beside the work, and studies that begin
  once it is open have it; those that begin before have the one before, and nobody waits (for two
  exceptions see runtime/bundles.py). All series of one study that are followed together have the
  same bundles, to their end.
- A series whose own step ended this process, or raised, three times is reported as `failed` and
  left alone, and the next series goes on (`blame`). One bundle's failure does not keep back the
  report of another. A stop on purpose does not count, nor does a state folder that fails.
- An appliance that was recalled opens no bundle: each series is concluded, and says why.
- A series for which there is not enough memory beside the others is refused with the figures.
- One process follows the series of a state folder; a second one is refused.
- What was reported is counted for the library of scanners while nothing is followed (`watching`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path

from appliance import line
from appliance.errors import StateUnusable
from appliance.host import memory
from appliance.report import Reason, SeriesKey
from appliance.runtime import engine_shelf
from appliance.runtime.bundles import OpenBundle, OpenBundles
from appliance.series import complete
from appliance.settings import Settings
from appliance.store import conditions
from appliance.store.bell import hearing
from appliance.store.hand import Hand
from appliance.store.heartbeat import Heart, living
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, damage
from appliance.store.spool import Spool
from appliance.work import beginning, opening
from appliance.work.blame import Blame, made_of
from appliance.work.comparing import comparing
from appliance.work.composing import composing
from appliance.work.conclude import Concluded, Conclusions
from appliance.work.fetching import Fetching
from appliance.work.followed import Followed
from appliance.work.hints import Hints, signals_of, wait
from appliance.work.loading import Loading
from appliance.work.opening import Unopened
from appliance.work.probing import Probing
from appliance.work.quiet import QuietTimes
from appliance.work.shelf_watch import ShelfWatch
from appliance.work.waiting import Waiting
from appliance.work.watching import Watching

log = logging.getLogger("scanside.work")

RETRY_S = 2.0
LOOK_AGAIN_S = 60.0
"""Longest sleep without a hint: for files that came while a hint was lost and no deadline stood."""
BUILD_LOOK_S = 2.0
"""Longest sleep while an engine is built, for its progress and its end."""
SETTLED_NS = 2_000_000_000
"""A folder that changed just now may change again without another time: clocks tick coarsely."""


class Work:
    """The series that are arriving, and what to do with each. One thread, no locks."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        spool: Spool,
        bundles: OpenBundles,
        heart: Heart | None = None,
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.spool = spool
        self.bundles = bundles
        self.heart = heart or Heart(settings.state, "work")
        self.loading = Loading(settings, journal, bundles, self.heart)
        self.composing, self.comparing = composing(settings, journal), comparing(settings, journal)
        self.fetching, self.watching = Fetching(settings), Watching(settings, journal)
        self.probing = Probing(settings, journal, self.loading)
        self.conclusions = Conclusions(settings, journal, spool)
        self.blame = Blame(journal, Hand(settings.state))
        self.following: dict[SeriesKey, Followed] = {}
        self._quiet_times = QuietTimes(settings, journal)
        self._waiting = Waiting(settings, journal, spool)
        self._looked: dict[SeriesKey, int] = {}
        """Series without news -> when their folder had changed."""
        self._memory: memory.Gauge | None = None
        self._idle = True
        """Nothing else was to be done when the series in hand was taken."""
        self._suspected: frozenset[SeriesKey] = frozenset()

    def recover(self) -> None:
        """Once, at the start: what ended the process before."""
        self.blame.recover()
        self._suspected = self.blame.suspected()

    # Looking: which files are new.

    def look_everywhere(self) -> None:
        """Note every series on disk that has more than was reported; associations that are lost.

        A folder that did not change since a look at it is not read again: weeks of series lie here.
        """
        if not self.busy:
            self.journal.tidy(self.settings.state)
        damage.tell(self.settings.state, self.heart)
        damage.heed(self.settings.state / JOURNAL_NAME)
        self.journal.series.recover_associations()
        if self.loading.loaded is not None:
            there = self.spool.changed
            self.conclusions.owe_of_set_aside()
            self.blame.renew((o.digest for o in self.loading.loaded), lambda key: bool(there(key)))
        before, self._looked = self._looked, {}
        for key in self.spool.series():
            changed = self.spool.changed(key)
            if key in self.following or changed is None or before.get(key) != changed:
                self._note(key, ended=True)
            settled = changed is not None and time.time_ns() - changed > SETTLED_NS
            if changed is not None and settled and key not in self.following:
                self._looked[key] = changed

    def _note(self, key: SeriesKey, *, ended: bool) -> None:
        """To be looked at in its turn; of a new series with its priority."""
        if key not in self.following:
            followed = self._follow(key)
            if followed is None:
                return
            followed.deadline = math.inf  # until it was looked at
            if not followed.attempts and key not in self._suspected:  # else it was read before
                self._guarded(followed, lambda f: self._waiting.read_priority(f.key))
        self._waiting.ask(key, ended=ended)

    def look(self, key: SeriesKey, *, ended: bool) -> None:
        """Put the new files of one series into its fold. `ended`: an association of it has."""
        followed = self.following.get(key) or self._follow(key)
        if followed is None or followed.failed:  # what failed waits for its deadline
            return
        followed.silent = self.conclusions.is_silent(key)
        self._guarded(followed, self._take_in)
        if followed.failed or key not in self.following:
            return
        now, later = time.monotonic(), followed.last_tick + followed.plausible_s
        followed.deadline = now if ended or followed.counted else later

    def refresh(self) -> tuple[OpenBundle, ...]:
        """Take up the bundles that are active and open now."""
        followed = self.following.values()
        in_use = {
            digest for f in followed for digest in (*f.opened, *(o.digest for o in f.bundles))
        }
        opened = self.loading.refresh(in_use)
        self._memory = self._memory or memory.Gauge(memory.limit())
        return opened

    def make_room(self) -> None:
        """While nothing is followed, for a bundle that memory does not hold beside another."""
        if not self.busy and self.loading.make_room():
            self.refresh()

    def _follow(self, key: SeriesKey) -> Followed | None:
        """Begin with a series that has news, and has not had all its chances."""
        if not self._news(key):
            return None
        of_study = next((f for f in self.following.values() if f.key.study == key.study), None)
        followed = Followed(key, of_study.bundles if of_study else self.refresh())
        row = self.journal.series.get(key)
        if row is None:  # `receive` ended before it could say so
            self.journal.series.set(key, "open")
        else:
            followed.attempts = row.attempts
        self.following[key] = followed
        if (reason := self.blame.against(row)) is not None:
            self._give_up(followed, reason)  # before anything of it is opened
            return None
        return followed

    def _news(self, key: SeriesKey) -> bool:
        """Whether there is more on disk than the last verdict counted."""
        # first the row: `retain` deletes the images before it, so none is made for what is gone
        row = self.journal.series.get(key)
        judged = row.instances if row is not None and row.state != "open" else None
        return len(self.spool.instances(key)) > (judged or 0)

    def _take_in(self, followed: Followed) -> None:
        """Add what is on disk and not in the fold yet, in order of arrival."""
        others = sum(f.held for f in self.following.values() if f is not followed)
        left = self._memory.bytes() if self._memory else None
        followed.memory_bytes = None if left is None else max(0, left - others)
        listed, followed.listed_tick = followed.listed_tick, time.monotonic()
        fresh = self.spool.instances(followed.key)
        arrived = {uid: self.spool.arrived(fresh[uid]) for uid in fresh.keys() - followed.seen}
        for uid in sorted(arrived, key=lambda uid: (arrived[uid] or 0.0, uid)):
            self.heart.go_on()
            at, data = arrived[uid], opening.opened(self.spool, fresh[uid], followed.room)
            if at is None or data is None:  # deleted meanwhile
                continue
            if not followed.chosen:
                self._begin(followed, data, fresh)
            age = max(0.0, time.time() - at)
            # what the last list did not show came after it, whatever the wall clock says
            followed.add(uid, data, at=at, tick=max(listed, time.monotonic() - age))
            followed.prepared_at = time.time()

    def _begin(self, followed: Followed, data: bytes | Unopened, files: Mapping[str, Path]) -> None:
        """Choose the bundles by this image, the first or the first that any accepts."""
        before = (files[uid] for uid in sorted(followed.seen & files.keys()))
        earlier = (opening.opened(self.spool, path, followed.room) for path in before)
        if beginning.begin(followed, data, earlier, recalled=self.loading.recalled):
            self.conclusions.owe_event("received", followed, 1)
        self.comparing.ask(ahead=followed.is_compared)
        self.fetching.begun(followed, data)

    # Judging: what is to be said.

    @property
    def busy(self) -> bool:
        """Whether any series is followed."""
        return bool(self.following)

    def wait_s(self) -> float:
        """Seconds until there is something to do."""
        now = time.monotonic()
        held_back = frozenset() if self._only_suspects() else self._suspected
        if self._waiting.any(but=held_back):
            return 0.0
        next_one = min(
            (f.deadline for key, f in self.following.items() if key not in held_back),
            default=now + LOOK_AGAIN_S,
        )
        return min(max(0.0, next_one - now), LOOK_AGAIN_S)

    def beat(self) -> None:
        """The loop turns, and so long does the oldest series wait for its turn."""
        self.heart.beat(oldest=self._waiting.oldest())

    def take_turn(self) -> None:
        """Look at the series whose turn it is and judge it, as far as either is due."""
        now = time.monotonic()
        due_since = {k: f.deadline for k, f in self.following.items() if f.deadline <= now}
        meant = {k: at for k, at in due_since.items() if not self.following[k].last}
        last, held_back = self._suspected, not self._only_suspects()
        key = self._waiting.first(meant, last, held_back=held_back)
        idle = key is None
        if idle:
            key = self._waiting.first(due_since, last, held_back=held_back)
        if key is None:
            return
        if (look := self._waiting.take(key)) is not None:
            self.look(key, ended=look.ended)
        due = self.following.get(key)
        if due is not None and due.deadline <= time.monotonic() and (idle or not due.last):
            self._idle = idle
            self._guarded(due, self._judge)

    def turn_aside(self) -> None:
        """What nobody waits for: builds and children, and the library while nothing is due."""
        self.loading.follow_builds()
        self.composing.turn()
        self.comparing.turn()
        self.probing.turn(busy=self.busy or self.comparing.pid is not None)
        if not self.busy and self.wait_s() > 0:
            self.watching.turn()

    def _only_suspects(self) -> bool:
        """Whether nothing is followed but what is suspected: then such a series may be tried."""
        return self.following.keys() <= self._suspected

    def note_hints(self, hints: Hints) -> None:
        """Note where the hints point, or all that is open where some of them were lost."""
        keys: list[SeriesKey] = []
        if hints.full:  # the oldest arrival first
            keys += [row.key for row in self.journal.series.all("open")]
        keys += hints.keys
        if hints.ordered:
            self.composing.ask()
        if hints.ended or hints.full:
            keys += self.following
        for key in keys:
            self._note(key, ended=hints.ended or hints.full)

    def _guarded(self, followed: Followed, step: Callable[[Followed], None]) -> None:
        """One step of one series, which is in hand meanwhile; whatever it raises, the others go
        on."""
        judging = step == self._judge
        try:
            with (
                self.blame.step(followed.key, "judge" if judging else "read", lasting=judging),
                self.heart.at(conditions.JUDGE if judging else conditions.WAITING),
                self.loading.first() if judging else nullcontext(),
            ):
                step(followed)
            followed.failed = False
        except StateUnusable:
            raise
        except Exception as e:  # the loop of this verb
            followed.attempts = self.blame.failed_once_more(followed.key)
            log.exception("series %s, attempt %d", followed.uid, followed.attempts)
            followed.failed = True
            followed.deadline = time.monotonic() + RETRY_S
            reason = self.blame.against(self.journal.series.get(followed.key), e)
            if reason is not None:
                self._give_up(followed, reason)

    def _judge(self, followed: Followed) -> None:
        self._take_in(followed)
        if followed.fold is None:
            del self.following[followed.key]  # its files are gone: deleted meanwhile
            return
        verdict = self._quiet_times.verdict(followed, self.following.values())
        if verdict.state != "wait":
            followed.outranked = self.conclusions.outranked(followed)
            if followed.last and not self._idle:
                return  # still due: once nothing else is
        early = self.settings.work.preliminary and not (followed.attempts or followed.last)
        if verdict.state == "preliminary" and early:
            for digest in followed.opened:
                self.heart.go_on()
                self.conclusions.preliminary(followed, digest)
            self.composing.ask()
            # what the lung mask says may change the verdict
            verdict = self._quiet_times.verdict(followed, self.following.values())
        elif verdict.state in ("complete", "give_up"):
            self._conclude(followed, verdict)
        followed.deadline = time.monotonic() + (verdict.wait_s or 0.0)

    def _conclude(self, followed: Followed, verdict: complete.Verdict) -> None:
        """The end of a series: a final report for each bundle."""
        count = len(followed.seen)
        log.info("series %s: %s by %s, %d images", followed.uid, verdict.state, verdict.rule, count)
        self.conclusions.owe_event("complete", followed, followed.belonging)
        with ExitStack() as reports:  # each is made, whatever another raises
            for digest in followed.opened:
                reports.callback(self.heart.go_on)
                reports.callback(self.conclusions.final, followed, digest, verdict.limitations)
        if followed.header is not None and verdict.state == "complete":
            self._quiet_times.learn(followed)
        self._leave(followed)

    def _give_up(self, followed: Followed, reason: Reason) -> None:
        """Report a series as `failed`, with nothing of the analysis but that it failed."""
        fold = followed.fold or line.begin(())
        for share in fold.shares:
            if share.key not in followed.concluded:  # one bundle keeps back no other
                concluded = Concluded(line.failed(fold, share.bundle, reason))
                self.conclusions.commit(followed, share.key, concluded)
        # what could not even be read counts as judged too: only news is tried again
        count = len(self.spool.instances(followed.key))
        digests = [opened.digest for opened in followed.bundles]
        self.journal.attempts.failed(followed.key, instances=count, made_of=made_of(digests))
        self._leave(followed)

    def _leave(self, followed: Followed) -> None:
        """Done with it until more comes; its slices leave the memory."""
        self.composing.ask()
        self.comparing.ask()
        self.blame.finished(followed.key)
        self._suspected -= {followed.key}
        del self.following[followed.key]


def main(
    settings: Settings, ready: Callable[[], object] | None = None, *, migrate: bool = True
) -> int:
    """The stage in the foreground until SIGTERM or SIGINT; 0 when it stopped by itself.

    migrate: whether the journal becomes one of this release's schema (store/journal/steps.py);
    False while the release is on trial.
    """
    spool = Spool(settings.state)
    stop = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop
        stop = True

    with (
        living(settings.state, "work") as heart,
        Journal.open(settings.state, manner=Manner.MEND) as journal,
        hearing(settings.state, "work") as hints,
        ExitStack() as end,
    ):
        if migrate:
            journal.migrate("work")
        signals = end.enter_context(signals_of(ask_to_stop))
        shelf = ShelfWatch(settings.state)
        end.callback(shelf.close)
        bundles = OpenBundles(settings, builds=True, alive=heart.go_on, news=shelf.opened)
        end.callback(bundles.close)
        work = Work(settings, journal, spool, bundles, heart)
        work.recover()
        work.refresh()
        engine_shelf.prune(settings.state, {entry.digest for entry in bundles.shelf.list()})
        work.look_everywhere()
        memory.settle()
        if ready is not None:
            ready()
        looked = quiet_since = time.monotonic()
        while not stop:
            work.beat()
            busy = work.busy
            building = bundles.engines is not None and bundles.engines.busy
            most = BUILD_LOOK_S if building else heart.sleep_s
            longest_s = min(work.wait_s(), work.watching.wait_s(), most)
            hints_now = wait(hints, signals, longest_s, shelf.handles)
            if busy or hints_now.keys or hints_now.ended:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= LOOK_AGAIN_S:
                bundles.rest()
                quiet_since = math.inf  # until a word comes
            if shelf.heard():
                work.refresh()
            work.make_room()
            work.note_hints(hints_now)
            if time.monotonic() - looked > LOOK_AGAIN_S:
                work.look_everywhere()
                looked = time.monotonic()
            work.take_turn()
            work.turn_aside()
        heart.end()
        for child in (work.composing, work.comparing, work.probing):
            child.stop()
    return 0
