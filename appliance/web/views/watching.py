"""What the library of scanners says, as a page and a terminal show it. Pure.

Rules
- Rows of today first, those with an alarm before all others, then those that do not come any more,
  then by maker and model; former rows last.
- A row for which a person has decided something that `work` has not obeyed yet says so, and offers
  no second decision. One whose last decision `work` refused, not longer than REFUSED_S ago, says
  which, and why.
- Beside a row of today stands what implants say of it (appliance/probe): of the bundle and tuning
  with which it was probed last since its last change, and how many series were probed before.
- What a trial proposes stands there until a person accepts it, with why it cannot be accepted where
  that is so (quality/offered.py); what was accepted stands there while it is in force.
- After the rows of today come the tunings in force that have none, each by the first digits of its
  digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from appliance.errors import ScansideError
from appliance.quality import offered, trial
from appliance.quality import probed as of_implants
from appliance.series.scanner import shown as shown_key
from appliance.store import library
from appliance.store.library import Entry, Listed
from appliance.store.rows import AuditRow
from appliance.watching.alarm import Alarm, Test
from appliance.watching.probe import OfSize, Performance, Probed, Share
from appliance.watching.proposal import Proposal
from appliance.watching.scanner import UNKNOWN, Scanner
from appliance.watching.told import short
from appliance.watching.tuning import Tuning
from appliance.web.text.say import Say
from appliance.web.views.light import Sign
from appliance.web.views.phrase import Phrase

REFUSED_S: Final = 86_400.0
"""A day: whoever decided has looked again by then, and what was wrong may be right."""
REFUSED_WHY: Final = frozenset(
    {
        "no_alarm", "no_proposal", "no_tuning", "proposal_changed", "texture_not_sharper",
        "texture_unknown", "tunings_damaged", "tunings_full",
    }
)  # fmt: skip
"""Codes that the page has words for; of any other it says where to look."""
_SIGN: Final[dict[str, Sign]] = {"learning": "wait", "fixed": "ok", "frozen": "look"}


@dataclass(frozen=True, slots=True)
class ShownAlarm:
    """One alarm that is open."""

    statistic: str
    cause: str
    test: Test
    way: Literal["up", "down"]
    size: str
    """In spreads of the row; of `learning` in spreads of the prior."""
    at: float
    """Since when, seconds since 1970."""

    def sentence(self, say: Say, at: str) -> str:
        """at: since when, in words."""
        statistic = say(f"drift.statistic.{self.statistic}")
        if self.test == "missing":
            return say("drift.alarm_missing", statistic=statistic, at=at)
        if self.test == "learning":
            return say("drift.alarm_learning", statistic=statistic, size=self.size)
        way = say(f"drift.way.{self.way}")
        return say("drift.alarm", statistic=statistic, size=self.size, way=way, at=at)

    def likely(self, say: Say) -> str:
        """Why it may have changed."""
        return say("drift.cause", cause=say(f"drift.cause.{self.cause}"))


@dataclass(frozen=True, slots=True)
class ShownRefusal:
    """What was decided and not done."""

    action: str
    """Of the audit."""
    code: str
    """One of REFUSED_WHY, or "other"."""
    at: float
    """When it was decided, seconds since 1970."""

    def sentence(self, say: Say, at: str) -> str:
        """at: when it was decided, in words."""
        decision = say(f"drift.decision.{self.action}")
        why = say(f"drift.refused_why.{self.code}")
        return say("drift.refused", decision=decision, at=at, why=why)


@dataclass(frozen=True, slots=True)
class ShownKey:
    """Whose images they are."""

    of_volumes: bool
    parts: Mapping[str, str | None]
    """Part of the key -> as the headers have it; None: they do not say, or it is not shown."""

    def sentence(self, say: Say) -> str:
        """What is not known is said in words, part by part."""
        said = {name: self._part(name, part, say) for name, part in self.parts.items()}
        return say("drift.key" if self.of_volumes else "drift.key_radiograph", **said)

    def _part(self, name: str, part: str | None, say: Say) -> str:
        if part is None:
            return say(f"drift.unknown.{name}")
        return say(f"drift.key.{name}", part=part) if name in ("kvp", "thickness") else part


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row."""

    id: str
    sign: Sign
    name: ShownKey
    state: Phrase
    counted: Phrase | None
    """None of a tuning without a row: nothing is known of its studies."""
    alarms: tuple[ShownAlarm, ...]
    stopped: bool
    waits: bool
    """For `work` to obey what a person has decided."""
    former: bool
    implants: tuple[Phrase, ...]
    """How many were found; none where the scanner was not probed."""
    tunings: tuple[Phrase, ...] = ()
    """What is proposed, and what is in force."""
    offers_mm: str = ""
    """The softening that can be accepted; empty: none."""
    tuned: bool = False
    """Whether one is in force."""
    tuning: str = ""
    """The digest of a tuning that has no row; empty: it is a row."""
    refused: ShownRefusal | None = None
    """The last decision, where `work` did not obey it."""


@dataclass(frozen=True, slots=True)
class ShownLibrary:
    """All of it."""

    sign: Sign
    rows: tuple[ShownRow, ...]
    damaged: int
    """Files that could not be read."""
    tunings_damaged: bool = False

    @property
    def probed(self) -> bool:
        """Whether implants were put into series of any row that is shown."""
        return any(row.implants for row in self.rows)


def shown(
    listed: Listed,
    acts: Sequence[AuditRow],
    probed: Sequence[Probed] = (),
    in_force: Sequence[Tuning] | None = (),
    *,
    now: float | None = None,
) -> ShownLibrary:
    """acts: of the audit, and what was answered, the oldest first. probed: what is kept of implants
    (store/probed.py). in_force: tunings; None where they cannot be read. now: seconds since
    1970; None where it is not asked what was refused of late."""
    gone = {one.name for one in library.stopped(listed.entries)}
    implants = {one.scanner: one for one in probed}
    rows, former = [], []
    for one in _ordered(listed.entries, gone):
        row = _row(one, acts, now, stopped=one.name in gone)
        if one.former:
            former.append(row)
            continue
        known = implants.get(one.row.key) or Probed(scanner=one.row.key)
        row = replace(row, implants=_implants(known, trial.change(one.row, known)))
        if in_force is not None:
            row = _tuned(row, one, listed, known, in_force)
        rows.append(row)
    lone = offered.without_row(in_force or (), (one.row for one in listed.today))
    rows += [*(_lone(one, acts, now) for one in lone), *former]
    damaged = len(listed.unreadable) + len(listed.damaged)
    ill = damaged or in_force is None or any(row.sign == "look" for row in rows)
    sign: Sign = "look" if ill else "ok" if rows else "quiet"
    return ShownLibrary(sign, tuple(rows), damaged, in_force is None)


def _ordered(entries: Sequence[Entry], gone: set[str]) -> list[Entry]:
    def place(one: Entry) -> tuple[bool, bool, bool, str, str, str]:
        key = one.row.key
        alarmed = bool(one.row.alarms)
        return bool(one.former), not alarmed, one.name not in gone, key.maker, key.model, one.name

    return sorted(entries, key=place)


def _row(entry: Entry, acts: Sequence[AuditRow], now: float | None, *, stopped: bool) -> ShownRow:
    row = entry.row
    sign = "quiet" if entry.former else "look" if stopped else _SIGN[row.state]
    state = "drift.former" if entry.former else f"drift.state.{row.state}"
    counted = {"n": row.n, "at": row.since.timestamp()}
    return ShownRow(
        id=entry.id,
        sign=sign,
        name=_name(entry.row.key),
        state=Phrase(state),
        counted=Phrase("drift.counted", counted),
        alarms=() if entry.former else tuple(map(_alarm, row.alarms)),
        stopped=stopped,
        waits=not entry.former and bool(library.pending(acts, entry)),
        former=bool(entry.former),
        implants=(),
        refused=None if entry.former else _refused(library.refusal(acts, entry.id), now),
    )


def _refused(found: tuple[AuditRow, AuditRow] | None, now: float | None) -> ShownRefusal | None:
    if found is None or now is None or now - found[1].at > REFUSED_S:
        return None
    act, answer = found
    code = str(answer.detail.get("code"))
    return ShownRefusal(act.action, code if code in REFUSED_WHY else "other", act.at)


def _tuned(
    shown: ShownRow, entry: Entry, listed: Listed, known: Probed, in_force: Sequence[Tuning]
) -> ShownRow:
    """With what is proposed for it, and what is in force."""
    found = offered.of_scanner(entry.row.key, in_force)
    said = [_in_force(one) for one in found]
    stands = offered.standing(known, entry.row, in_force)
    if stands is None or stands.proposal is None:
        return replace(shown, tunings=tuple(said), tuned=bool(found))
    offers_mm = f"{stands.proposal.soften_mm:g}"
    said.append(_proposed(stands.proposal))
    former, others = listed.former_of(entry), listed.others_than(entry)
    try:
        offered.made(known, entry.row, in_force, former=former, others=others)
        said.append(Phrase("drift.tune_how", {"row": entry.id}))
    except ScansideError as e:
        offers_mm = ""
        said.append(Phrase(f"drift.tune_not.{e.code}"))
    return replace(shown, tunings=tuple(said), offers_mm=offers_mm, tuned=bool(found))


def _lone(one: Tuning, acts: Sequence[AuditRow], now: float | None) -> ShownRow:
    """A tuning in force without a row."""
    name = short(one.digest)
    waits = any(act.detail["tuning"] == one.digest for act in library.pending_of_tunings(acts))
    return ShownRow(
        id=name,
        sign="quiet",
        name=_name(one.scanner),
        state=Phrase("drift.without_row"),
        counted=None,
        alarms=(),
        stopped=False,
        waits=waits,
        former=False,
        implants=(),
        tunings=(_in_force(one), Phrase("drift.withdraw_how", {"tuning": name})),
        tuned=True,
        tuning=one.digest,
        refused=_refused(library.refusal(acts, one.digest, "tuning"), now),
    )


def _in_force(one: Tuning) -> Phrase:
    values = {"mm": f"{one.soften_mm:g}", "per_mm": f"{one.from_per_mm:g}"}
    return Phrase("drift.tuned", values)


def _implants(known: Probed, change: datetime | None) -> tuple[Phrase, ...]:
    """What implants say since the last change of a scanner."""
    before = sum(bool(one.found) and one.change != change for one in known.series)
    said = [Phrase("drift.implants_before", {"series": before})] if before else []
    found = of_implants.newest(known, change)
    if found is None:
        return tuple(said)
    return (_found(found), *map(_of_size, found.by_size), *said)


def _found(found: Performance) -> Phrase:
    share = found.sensitivity
    more = {
        "low": _percent(share.low),
        "high": _percent(share.high),
        "share": _percent(share.value),
        "series": found.series,
        "extra": f"{found.extra_per_series:.1f}",
    }
    return Phrase("drift.implants", {**_counts(share), **more})


def _of_size(one: OfSize) -> Phrase:
    at = {"from_mm": f"{one.from_mm:g}", **_counts(one.share)}
    if one.below_mm is None:
        return Phrase("drift.implants_from", at)
    return Phrase("drift.implants_between", {**at, "below_mm": f"{one.below_mm:g}"})


def _counts(share: Share) -> dict[str, object]:
    return {"found": round(share.value * share.implants), "implants": share.implants}


def _proposed(one: Proposal) -> Phrase:
    values = {
        "mm": f"{one.soften_mm:g}",
        "now": _percent(one.sensitivity),
        "tuned": _percent(one.tuned),
        "implants": one.implants,
    }
    return Phrase("drift.proposed", values)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _name(scanner: Scanner) -> ShownKey:
    key = shown_key(scanner)
    thickness = key.thickness.replace("to ", "≤ ").replace("above ", "> ")
    known = {**key.model_dump(exclude={"serial"}), "thickness": thickness}
    parts = {name: None if part == UNKNOWN else part for name, part in known.items()}
    of_volumes = any(parts[name] is not None for name in ("kernel", "kvp", "thickness"))
    return ShownKey(of_volumes, parts)


def _alarm(alarm: Alarm) -> ShownAlarm:
    return ShownAlarm(
        statistic=alarm.statistic.value,
        cause=alarm.cause.value,
        test=alarm.test,
        way="up" if alarm.size >= 0 else "down",
        size=f"{abs(alarm.size):.1f}",
        at=alarm.since.timestamp(),
    )
