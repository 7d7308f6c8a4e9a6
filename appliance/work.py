"""The stage that analyses: follow each series while it arrives, judge it, report it.

    hint or deadline -> look (new files into the fold) -> judge (complete?) -> conclude (report)

Rules
- The spool is the truth. A hint only says where to look; lost hints cost nothing, because a
  deadline looks again, and a start looks at everything.
- Nothing on the way of a slice polls: the loop sleeps until the next hint or deadline.
- A plausible end is inferred at once and goes out as `preliminary`; the verdict makes it `final`
  without a second inference if nothing came.
- A later slice leads to a new revision that supersedes the first. The same input never does.
- One series of a study and acquisition is analysed. A better one that comes late supersedes.
- An attempt is counted before it is made: a series that ends this process three times is reported
  as `failed` and left alone, and the next series goes on.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from select import select as wait_for_input
from typing import Literal

from appliance import line
from appliance.desk import Desk, Opened, better, keep
from appliance.dicom import policy
from appliance.errors import Poisoned, ScansideError, StateUnusable
from appliance.host import notify
from appliance.publish import message
from appliance.publish.outbox import wake
from appliance.reasons import SET_ASIDE, Code
from appliance.records import Header, Identity, Result, Stack, Stamps
from appliance.report import Reason, Stage, Status, pseudonym
from appliance.series import complete, pixels, select
from appliance.settings import Settings
from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.store.rows import SeriesState
from appliance.store.site_key import site_key
from appliance.store.spool import SeriesKey, Spool

log = logging.getLogger("scanside.work")

MAX_ATTEMPTS = 3
RETRY_S = 2.0
LOOK_AGAIN_S = 60.0
"""Longest sleep without a hint: for files that came while a hint was lost and no deadline stood."""


@dataclass
class Followed:
    """One series while it arrives. `_at` are seconds since 1970, `_tick` of the monotonic clock."""

    key: SeriesKey
    folds: dict[str | None, line.Fold] = field(default_factory=dict)
    """Digest of an accepting bundle -> its fold; None -> the fold where none accepts."""
    opened: dict[str | None, Opened | None] = field(default_factory=dict)
    refused: tuple[Reason, ...] = ()
    """Why no bundle accepts."""
    seen: set[str] = field(default_factory=set)
    header: Header | None = None
    first_at: float = 0.0
    last_at: float = 0.0
    first_tick: float = 0.0
    last_tick: float = 0.0
    prepared_at: float = 0.0
    gaps: list[float] = field(default_factory=list)
    results: dict[str | None, tuple[Result, float]] = field(default_factory=dict)
    """Bundle -> the latest result and when it was inferred."""
    deadline: float = 0.0
    failures: int = 0

    @property
    def uid(self) -> str:
        return self.key.series


@dataclass(frozen=True)
class Commit:
    """How a result is to be committed."""

    preliminary: bool = False
    inferred_at: float | None = None
    withdraws: str | None = None
    """Id of the report of another series that this one replaces."""


class Work:
    """The series that are arriving, and what to do with each. One thread, no locks."""

    def __init__(self, settings: Settings, journal: Journal, spool: Spool, desk: Desk) -> None:
        self.settings = settings
        self.journal = journal
        self.spool = spool
        self.desk = desk
        self.following: dict[SeriesKey, Followed] = {}
        self._gaps: dict[str, deque[float]] = {}
        self._site_key = site_key(settings.state)

    def look_everywhere(self) -> None:
        """Every series on disk that has more than was reported, and associations that are lost."""
        self.journal.recover_associations()
        for key in self.spool.series():
            if key in self.following or self._news(key):
                self.look(key, ended=True)

    def look(self, key: SeriesKey, *, ended: bool) -> None:
        """Put the new files of one series into its fold. `ended`: an association of it has."""
        followed = self.following.get(key)
        if followed is None:
            if not self._news(key):
                return
            followed = self.following[key] = Followed(key)
            if len(self.following) == 1:
                self.desk.refresh()  # between two studies a newly activated bundle is taken up
        fresh = self.spool.instances(key)
        for uid in sorted(fresh.keys() - followed.seen, key=lambda uid: fresh[uid].stat().st_mtime):
            self._add(followed, uid, fresh[uid])
        soon = complete.Quiet().plausible_s
        followed.deadline = time.monotonic() if ended else followed.last_tick + soon

    def wait_s(self) -> float:
        """Seconds until the next series wants to be judged."""
        now = time.monotonic()
        next_one = min((f.deadline for f in self.following.values()), default=now + LOOK_AGAIN_S)
        return min(max(0.0, next_one - now), LOOK_AGAIN_S)

    def judge_due(self) -> None:
        """Judge each series whose time has come. One that fails is tried again, three times."""
        for followed in list(self.following.values()):
            if followed.deadline > time.monotonic():
                continue
            try:
                self._judge(followed)
            except StateUnusable:
                raise
            except Exception as e:  # the loop of this verb: one series must not stop the next
                log.exception("series %s", followed.uid)
                followed.failures += 1
                followed.deadline = time.monotonic() + RETRY_S
                if followed.failures >= MAX_ATTEMPTS:
                    self._give_up(followed, e)

    def _news(self, key: SeriesKey) -> bool:
        """Whether there is more on disk than the last verdict counted."""
        row = self.journal.series_of(key.series)
        judged = row.instances if row is not None and row.state != "open" else None
        return judged is None or len(self.spool.instances(key)) > judged

    def _add(self, followed: Followed, uid: str, path: Path) -> None:
        try:
            data = path.read_bytes()
            arrived = path.stat().st_mtime
        except OSError as e:
            raise StateUnusable(f"{path}: {e.strerror}") from e
        if not followed.folds:
            self._begin(followed, data)
        for digest, fold in followed.folds.items():
            followed.folds[digest] = line.add(fold, data)
        followed.seen.add(uid)
        age = max(0.0, time.time() - arrived)
        if followed.first_at == 0.0:
            followed.first_at, followed.first_tick = arrived, time.monotonic() - age
        else:
            followed.gaps.append(max(0.0, arrived - followed.last_at))
        followed.last_at = max(followed.last_at, arrived)
        followed.last_tick = max(followed.last_tick, time.monotonic() - age)
        followed.prepared_at = time.time()

    def _begin(self, followed: Followed, data: bytes) -> None:
        """Choose the bundles by the first image, and say that a series is arriving."""
        accepting: tuple[Opened, ...] = ()
        try:
            followed.header = pixels.header(data)
        except ScansideError as e:
            log.info("series %s: %s", followed.uid, e.line())  # the fold keeps the reason
        else:
            if select.by_name(followed.header) is None:
                accepting = self.desk.accepting(followed.header)
                if not accepting:
                    followed.refused = self.desk.why_none(followed.header)
        followed.opened = {o.bundle.ref.digest: o for o in accepting} or {None: None}
        followed.folds = {
            digest: line.begin(opened.bundle if opened else None)
            for digest, opened in followed.opened.items()
        }
        self._say("received", followed, 1)

    def _say(self, event: message.EventName, followed: Followed, slices: int) -> None:
        study = pseudonym(self._site_key, followed.key.study)
        outgoing = message.of_series(
            event, study=study, series_uid=followed.uid, slices=slices, at=datetime.now(timezone.utc)
        )
        self.journal.post([outgoing], series_uid=followed.uid)
        wake(self.settings.state)

    def _judge(self, followed: Followed) -> None:
        if not followed.folds:
            del self.following[followed.key]  # its files are gone: deleted meanwhile
            return
        quiet = self._quiet(followed)
        verdict = complete.verdict(self._facts(followed), quiet)
        followed.deadline = time.monotonic() + (verdict.wait_s or 0.0)
        if verdict.state == "preliminary" and self.settings.work.preliminary:
            for digest in followed.folds:
                self._conclude(followed, digest, verdict, preliminary=True)
            # what the lung mask says may change the verdict; judge again with it
            verdict = complete.verdict(self._facts(followed), quiet)
            followed.deadline = time.monotonic() + (verdict.wait_s or 0.0)
        elif verdict.state in ("complete", "give_up"):
            log.info(
                "series %s: %s by %s, %d images",
                followed.uid, verdict.state, verdict.rule, len(followed.seen),
            )  # fmt: skip
            self._say("complete", followed, len(followed.seen))
            for digest in followed.folds:
                self._conclude(followed, digest, verdict, preliminary=False)
            if followed.header is not None and verdict.state == "complete":
                self._learn(followed)
            del self.following[followed.key]

    def _give_up(self, followed: Followed, error: Exception) -> None:
        """Report a series as `failed`, with nothing of the analysis but that it failed."""
        poisoned = isinstance(error, ScansideError) and error.code == "backend_failed"
        reason = Reason(
            code=Code.BACKEND_FAILED if poisoned else Code.POISONED,
            text=f"the analysis failed {MAX_ATTEMPTS} times ({type(error).__name__})",
            where="series",
        )
        for digest, fold in followed.folds.items():
            self._commit(followed, digest, line.failed(fold, reason), Commit())
        del self.following[followed.key]

    def _conclude(
        self,
        followed: Followed,
        digest: str | None,
        verdict: complete.Verdict,
        *,
        preliminary: bool,
    ) -> None:
        """The result of what is here -> report and messages."""
        attempts = self.journal.begin_attempt(followed.uid)
        if attempts > MAX_ATTEMPTS:
            raise Poisoned(f"series {followed.uid} ended this stage {attempts - 1} times")
        result, inferred_at, withdraws = self._result(followed, digest)
        self.journal.end_attempt(followed.uid)
        if preliminary and result.status is not Status.ANALYSED:
            return  # only the verdict refuses
        if result.status is Status.ANALYSED:
            limitations = (*verdict.limitations, *result.limitations)
            result = replace(result, limitations=limitations)
        self._commit(
            followed,
            digest,
            result,
            Commit(preliminary=preliminary, inferred_at=inferred_at, withdraws=withdraws),
        )

    def _commit(
        self, followed: Followed, digest: str | None, result: Result, about: Commit
    ) -> None:
        """Report, messages and state of the series, together. A replay changes nothing."""
        previous = self.journal.latest_report(followed.uid, digest)
        known = previous is not None and previous.input_digest == result.input_digest
        state: SeriesState = "open" if about.preliminary else _state(result)
        instances = None if about.preliminary else len(followed.seen)
        if previous is not None and known and (about.preliminary or previous.stage is Stage.FINAL):
            if instances is not None:
                self.journal.set_series(
                    followed.uid, followed.key.study, state, instances=instances
                )
            return
        supersedes = about.withdraws
        if previous is not None:
            supersedes = previous.supersedes if known else previous.report_id
        released = [a.association.ended for a in self.journal.associations_of(followed.uid)]
        now = time.time()
        report = line.seal(
            result,
            Identity(
                site_key=self._site_key,
                publish_uids=self.settings.site.publish_uids,
                revision=self.journal.next_revision(followed.uid, digest, result.input_digest),
                supersedes=str(supersedes) if supersedes else None,
                preliminary=about.preliminary,
            ),
            Stamps(
                first_slice=_utc(followed.first_at),
                last_slice=_utc(followed.last_at),
                released=_utc(max((at for at in released if at is not None), default=None)),
                complete=None if about.preliminary else _utc(now),
                prepared=_utc(followed.prepared_at),
                inferred=_utc(about.inferred_at),
                committed=_utc(now),
            ),
        )
        keep(self.settings.state, report, result, sorted(followed.seen))
        at = datetime.fromtimestamp(now, timezone.utc)
        self.journal.commit_report(
            report,
            series_uid=followed.uid,
            study_uid=followed.key.study,
            messages=list(message.of_report(report, series_uid=followed.uid, at=at)),
            series_state=state,
            instances=instances,
        )
        wake(self.settings.state)
        log.info(
            "series %s: %s %s, %d findings",
            followed.uid, report.stage.value, report.status.value, len(report.findings),
        )  # fmt: skip

    def _result(
        self, followed: Followed, digest: str | None
    ) -> tuple[Result, float | None, str | None]:
        """The result of what is here, when it was inferred, and the report it withdraws.

        Inferred again only if something came since.
        """
        fold, opened = followed.folds[digest], followed.opened[digest]
        kept = followed.results.get(digest)
        reasons, withdraws = followed.refused, None
        outline = line.outline(fold)
        if opened is not None and isinstance(outline, Stack):
            reasons, withdraws = better(
                self.journal, self.spool, followed.key, opened.bundle, fold, outline
            )
        if not reasons and kept is not None and kept[0].input_digest == fold.digest:
            return *kept, withdraws
        result = line.finish(fold, opened.backend if opened else None, reasons=reasons)
        if result.status is not Status.ANALYSED:
            return result, None, withdraws
        followed.results[digest] = result, time.time()
        return *followed.results[digest], withdraws

    def _facts(self, followed: Followed) -> complete.SeriesFacts:
        fold = next(iter(followed.folds.values()))
        outline = line.outline(fold)
        stack = outline if isinstance(outline, Stack) else None
        whole = {Code.GAP_FILLED, Code.IRREGULAR_SPACING}
        covered = [
            result.facts.coverage.lungs == "covered"
            for digest, (result, _) in followed.results.items()
            if result.status is Status.ANALYSED
            and result.input_digest == followed.folds[digest].digest
        ]
        return complete.SeriesFacts(
            now=time.monotonic(),
            first=followed.first_tick,
            last=followed.last_tick,
            count=len(followed.seen),
            expected=followed.header.expected_images if followed.header else None,
            associations=tuple(
                complete.AssociationFact(
                    state=_ASSOCIATION[a.association.outcome],
                    instances=a.instances,
                    moved_on=self._moved_on(followed, a.association.id),
                )
                for a in self.journal.associations_of(followed.uid)
            ),
            uniform=stack is not None and not any(r.code in whole for r in stack.limitations),
            cover_mm=float(stack.z_mm[-1]) if stack is not None else 0.0,
            min_cover_mm=fold.bundle.manifest.accepts.cover_mm if fold.bundle else 0.0,
            covered=all(covered) if covered else None,
        )

    def _moved_on(self, followed: Followed, association: str) -> bool:
        """Whether a later series is arriving in the same association."""
        return any(
            other.first_at > followed.last_at
            and any(a.association.id == association for a in self.journal.associations_of(other.uid))
            for other in self.following.values()
            if other is not followed
        )

    def _quiet(self, followed: Followed) -> complete.Quiet:
        """Quiet times of the AE title that sent this series: set, else learned, else default."""
        work = self.settings.work
        row = self.journal.series_of(followed.uid)
        ae = row.calling_ae if row else ""
        most = policy.quiet_s(self.settings, ae)
        setting = complete.learned_quiet(list(self._gaps.get(ae, ())), setting_s=most)
        return complete.Quiet(
            released_s=work.released_quiet_s, setting_s=setting, aborted_s=work.aborted_quiet_s
        )

    def _learn(self, followed: Followed) -> None:
        row = self.journal.series_of(followed.uid)
        if row is not None and row.calling_ae:
            self._gaps.setdefault(row.calling_ae, deque(maxlen=2000)).extend(followed.gaps)


_ASSOCIATION: dict[str | None, Literal["open", "released", "aborted"]] = {
    None: "open",
    "released": "released",
    "aborted": "aborted",
    "lost": "aborted",
    "refused": "aborted",
}


def _state(result: Result) -> SeriesState:
    if result.status is Status.ANALYSED:
        return "analysed"
    if result.status is Status.FAILED:
        return "failed"
    return "set_aside" if result.reasons[0].code in SET_ASIDE else "refused"


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def main(settings: Settings, ready: Callable[[], object] | None = None) -> int:
    """The stage in the foreground until SIGTERM or SIGINT; 0 when it stopped by itself."""
    spool = Spool(settings.state)
    path = settings.state / "run" / "work.sock"
    spool.disk.make_folder(path.parent)
    path.unlink(missing_ok=True)
    stop = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop
        stop = True

    with (
        Journal.open(settings.state / JOURNAL_NAME) as journal,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hints,
    ):
        signals, sender = socket.socketpair()
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask_to_stop)
        hints.bind(str(path))
        desk = Desk(settings)
        desk.refresh()
        work = Work(settings, journal, spool, desk)
        work.look_everywhere()
        if ready is not None:
            ready()
        looked = time.monotonic()
        while not stop:
            keys, ended = _wait(hints, signals, work.wait_s())
            for key in keys | (set(work.following) if ended else set()):
                work.look(key, ended=ended)
            if time.monotonic() - looked > LOOK_AGAIN_S:
                work.look_everywhere()
                looked = time.monotonic()
            work.judge_due()
            notify.watchdog()
        signal.set_wakeup_fd(-1)
        desk.close()
        signals.close()
        sender.close()
    return 0


def _wait(
    hints: socket.socket, signals: socket.socket, wait_s: float
) -> tuple[set[SeriesKey], bool]:
    """Sleep until a hint, a signal or the deadline: the series that were hinted at, and whether
    any association ended."""
    found: set[SeriesKey] = set()
    ended = False
    if not wait_for_input([hints, signals], [], [], wait_s)[0]:
        return found, ended
    while True:
        try:
            hint = json.loads(hints.recv(4096, socket.MSG_DONTWAIT))
            if "association" in hint:
                ended = True
            else:
                found.add(SeriesKey(str(hint["study"]), str(hint["series"])))
        except BlockingIOError:
            return found, ended
        except (ValueError, KeyError, TypeError):
            log.warning("a hint that is none was dropped")
