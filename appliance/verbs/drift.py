"""`scanside drift`: what is usual of each scanner, what changed, and what a person says of it.

Rules
- A row is named by its 16 digits, or by the first of them, at least LEAST_DIGITS.
- What a person decides is a row of the audit; `work` obeys it when it is idle (store/library.py),
  also where it does not run at this moment. Until then `scanside drift` says that it waits.
- Where the state folder belongs to another user, as on a box with slots, `apply` writes that row
  for root and for members of the group scanside-admin, and says what became of it
  (verbs/drift_asked.py).
- A tuning whose row had to make way for others is in force as ever. It is listed as what it is, and
  withdrawn by the digits of its digest.
- What implants say of a scanner (appliance/probe) stands in its row of today, and so do the tuning
  that a trial proposes (quality/offered.py) and the one that a person has accepted.
- Where tunings.json cannot be read, the list says so, and nothing of a tuning is decided.
- What is exported names no scanner, no study and no date; what is imported gives spreads to rows of
  the same maker, model and kernel (quality/exchange.py), from the next series on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.errors import ScansideError
from appliance.quality import exchange, offered, told, trial
from appliance.quality import library as rows
from appliance.quality import probed as of_implants
from appliance.quality.exchange import Exchange
from appliance.report import Digest, Record
from appliance.series import scanner
from appliance.settings import Settings
from appliance.store import hint, library, probed, tunings
from appliance.store.files import DISK
from appliance.store.hint import Hint
from appliance.store.journal import Journal
from appliance.store.library import Entry, Library, Listed
from appliance.store.rows import AuditRow
from appliance.watching.alarm import Alarm, Statistic
from appliance.watching.probe import Performance, Probed
from appliance.watching.proposal import Proposal
from appliance.watching.row import State
from appliance.watching.scanner import Scanner
from appliance.watching.told import RowId, Spread, short
from appliance.watching.tuning import Tuning
from appliance.web.text import say
from appliance.web.views.watching import ShownAlarm, ShownRow, shown

LEAST_DIGITS: Final = 4
MOST_BYTES: Final = 4_000_000
Decision = Literal["ack", "accept", "tune", "withdraw"]
ACTIONS: Final[dict[Decision, str]] = {
    "ack": library.ACKNOWLEDGE,
    "accept": library.ACCEPT,
    "tune": library.TUNE,
    "withdraw": library.WITHDRAW,
}
"""As the audit has them, and as `apply` is asked for them."""


class SaidTuning(Record):
    """A tuning that a person accepted for this row, and that is in force."""

    digest: Digest
    """As reports name it."""
    soften_mm: float
    from_per_mm: float
    """It is for series whose noise has at least this mean frequency, 1/mm."""


class SaidLone(SaidTuning):
    """One that is in force though the library has no row of its scanner any more: it is withdrawn
    by the first digits of its digest, four or more."""

    key: Scanner
    """Of that scanner, as of a row."""
    waits: bool
    """Whether a person has withdrawn it and `work` has not obeyed yet."""


class SaidRow(Record):
    """One row, as it is on this box."""

    row: RowId
    scanner: RowId
    """Rows of one scanner have the same."""
    key: Scanner
    """Without the number of the device, and its kernel only where that is a maker's own name."""
    state: State
    former: bool
    """Whether a person has ended it."""
    n: int
    learnt: int
    since: datetime
    last: datetime | None
    stopped: bool
    """Whether it was usual for its scanner and does not come any more, though others do."""
    waits: tuple[str, ...]
    """What a person has decided and `work` has not obeyed yet."""
    alarms: tuple[Alarm, ...]
    past: tuple[Alarm, ...]
    spread: dict[Statistic, Spread]
    implants: Performance | None = None
    """What the probe found, of the bundle and tuning with which it looked last; None: not yet."""
    proposal: Proposal | None = None
    """What the newest trial of the probe proposes; nothing is done with it until a person accepts
    it (`scanside drift tune`)."""
    tunings: tuple[SaidTuning, ...] = ()


class Said(Record):
    """scanside.drift/1: what `scanside drift --json` prints."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.drift/1"] = Field(default="scanside.drift/1", alias="schema")
    rows: tuple[SaidRow, ...]
    unreadable: tuple[str, ...]
    """Files that `work` will set aside."""
    damaged: tuple[str, ...]
    """Files that it has set aside."""
    tunings_without_row: tuple[SaidLone, ...] = ()
    tunings_damaged: bool = False
    """Whether tunings.json cannot be read: no series is tuned then."""


def said(settings: Settings) -> Said:
    """The whole library."""
    listed, acts = _read(settings)
    gone = {one.name for one in library.stopped(listed.entries)}
    implants = {one.scanner: one for one in probed.all_of(settings.state)}
    in_force = tunings.readable(settings.state)
    return Said(
        rows=tuple(
            _said(one, acts, implants, in_force or (), stopped=one.name in gone)
            for one in listed.entries
        ),
        unreadable=listed.unreadable,
        damaged=listed.damaged,
        tunings_without_row=_without_row(listed, acts, in_force or ()),
        tunings_damaged=in_force is None,
    )


def show(settings: Settings, console: Console) -> None:
    """The same for a person, in the words of the page."""
    words = say.speaker(say.texts("en"))
    listed, acts = _read(settings)
    tuned = tunings.readable(settings.state)
    found = shown(listed, acts, probed.all_of(settings.state), tuned)
    if found.damaged:
        console.print(words("drift.damaged", count=found.damaged))
    if found.tunings_damaged:
        console.print(words("drift.tunings_damaged"))
    if not found.rows:
        console.print(words("drift.none"))
        return
    table = Table(show_lines=True)
    for name in ("row", "scanner", "studies", "what is"):
        table.add_column(name, overflow="fold", no_wrap=name == "row")
    for row in found.rows:
        style = "bold red" if row.sign == "look" else ""
        name = row.name.sentence(words)
        n = str(row.counted.values["n"]) if row.counted is not None else ""
        table.add_row(Text(row.id), Text(name), Text(n), Text("\n".join(_lines(row, words)), style))
    console.print(table)


def decide(settings: Settings, decision: Decision, row: str, actor: str) -> str:
    """A person decides of a row: what was noted, for a terminal. Audited. ScansideError where there
    is no such row (`row_unknown`, `row_ambiguous`) or nothing to be decided (`no_alarm`, and as
    quality/offered.py says), or tunings.json is damaged."""
    listed = Library(settings.state).all()
    withdraws = decision == "withdraw"
    lone = _lone(listed, tunings.in_force(settings.state)) if withdraws else ()
    found = _named(listed, row, lone)
    if isinstance(found, Tuning):
        name, said = short(found.digest), offered.withdrawn([found])
        detail = {"tuning": found.digest}
    else:
        more, said = _checked(settings, decision, found, listed)
        name, detail = found.id, {"row": found.id, **more}
    with Journal.open(settings.state) as journal:
        journal.audit.add(actor, ACTIONS[decision], **detail)
    hint.send(settings.state, Hint(ordered=True))
    return f"{name}, {said}" if said else name


def _checked(
    settings: Settings, decision: Decision, entry: Entry, listed: Listed
) -> tuple[dict[str, str], str]:
    """What the audit is to have of a decision, and what is said of it."""
    if decision in ("ack", "accept"):
        rows.require_open(entry.row, entry.id)
        return {}, ""
    in_force = tunings.in_force(settings.state)
    if decision == "withdraw":
        return {}, offered.withdrawn(offered.to_withdraw(entry.row.key, in_force))
    known = probed.of_scanner(settings.state, entry.row.key)
    former, others = listed.former_of(entry), listed.others_than(entry)
    made = offered.made(known, entry.row, in_force, former=former, others=others)
    proposed = known.proposal
    detail = {} if proposed is None else {"soften_mm": f"{proposed.soften_mm:g}"}
    return detail, offered.accepted(made)


def export(settings: Settings, out: Path) -> int:
    """Rows that may leave, into a new file; how many. ScansideError `file_exists`."""
    listed, _ = _read(settings)
    made = exchange.exported((one.row for one in listed.today), scanner.shown)
    if out.exists():
        raise ScansideError(
            f"{out} is there already", code="file_exists", remedy="Name a file that is not."
        )
    DISK.write(out, made.model_dump_json(by_alias=True, indent=1).encode())
    return len(made.rows)


def bring(settings: Settings, path: Path, actor: str) -> int:
    """Rows of another box become priors here; how many. Audited. ScansideError `library_import` for
    what is no such file, StateUnusable where there are too many."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        rows = Exchange.model_validate_json(data).rows
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else _first(e)
        raise ScansideError(
            f"{path} cannot be imported: {why}",
            code="library_import",
            remedy="Bring a file that `scanside drift export` has written, by the same release.",
        ) from e
    DISK.make_folder(settings.state)
    if Library(settings.state).bring(data):
        with Journal.open(settings.state) as journal:
            journal.audit.add(actor, "drift_import", rows=len(rows))
        hint.send(settings.state, Hint(ordered=True))
    return len(rows)


def _read(settings: Settings) -> tuple[Listed, list[AuditRow]]:
    listed, journal = Library(settings.state).all(), Journal.read(settings.state)
    if journal is None:
        return listed, []
    with journal:
        return listed, journal.audit.of(library.ACTS_AND_ANSWERS)


def _lone(listed: Listed, in_force: Iterable[Tuning]) -> tuple[Tuning, ...]:
    return offered.without_row(in_force, (one.row for one in listed.today))


def _named(listed: Listed, row: str, lone: Iterable[Tuning]) -> Entry | Tuning:
    """The row of these digits, or the tuning that has none."""
    if len(row) < LEAST_DIGITS:
        raise unknown(row)
    found: list[Entry | Tuning] = [
        *(one for one in listed.today if one.id.startswith(row.lower())),
        *(one for one in lone if one.digest.startswith(row.lower())),
    ]
    if not found:
        raise unknown(row)
    if len(found) > 1:
        raise ScansideError(
            f"{len(found)} rows begin with {row}", code="row_ambiguous", remedy="Type more digits."
        )
    return found[0]


def unknown(row: str) -> ScansideError:
    """Of what is no row, nor a tuning without one."""
    return ScansideError(
        f"there is no row {row[:32]!r}",
        code="row_unknown",
        remedy="`scanside drift` lists them; at least four digits name one.",
    )


def _said(
    entry: Entry,
    acts: Sequence[AuditRow],
    implants: Mapping[Scanner, Probed],
    in_force: Sequence[Tuning],
    *,
    stopped: bool,
) -> SaidRow:
    row = entry.row
    waits = () if entry.former else tuple(act.action for act in library.pending(acts, entry))
    known = None if entry.former else implants.get(row.key)
    stands = None if known is None else offered.standing(known, row, in_force)
    proposal = None if stands is None else stands.proposal
    tuned = () if entry.former else offered.of_scanner(row.key, in_force)
    return SaidRow(
        row=entry.id,
        scanner=entry.scanner,
        key=scanner.shown(row.key),
        state=row.state,
        former=bool(entry.former),
        n=row.n,
        learnt=row.learnt,
        since=row.since,
        last=row.last,
        stopped=stopped,
        waits=waits,
        alarms=row.alarms,
        past=row.past,
        spread=told.spreads(row.recent),
        implants=None if known is None else of_implants.newest(known, trial.change(row, known)),
        proposal=proposal
        and proposal.model_copy(update={"scanner": scanner.shown(proposal.scanner)}),
        tunings=tuple(
            SaidTuning(digest=one.digest, soften_mm=one.soften_mm, from_per_mm=one.from_per_mm)
            for one in tuned
        ),
    )


def _without_row(
    listed: Listed, acts: Sequence[AuditRow], in_force: Sequence[Tuning]
) -> tuple[SaidLone, ...]:
    waiting = {str(one.detail["tuning"]) for one in library.pending_of_tunings(acts)}
    return tuple(
        SaidLone(
            digest=one.digest,
            soften_mm=one.soften_mm,
            from_per_mm=one.from_per_mm,
            key=scanner.shown(one.scanner),
            waits=one.digest in waiting,
        )
        for one in _lone(listed, in_force)
    )


def changed(alarm: ShownAlarm, words: say.Say) -> str:
    """What changed, and since when, as a terminal has it."""
    return alarm.sentence(words, f"{datetime.fromtimestamp(alarm.at):%Y-%m-%d %H:%M}")


def _lines(row: ShownRow, words: say.Say) -> list[str]:
    found = [words(row.state.key)]
    if row.stopped:
        found.append(words("drift.stopped"))
    for alarm in row.alarms:
        to_do = words(f"drift.do.{alarm.cause}")
        found += [changed(alarm, words), f"{alarm.likely(words)}. {to_do}"]
    found += [words(said.key, **said.values) for said in (*row.implants, *row.tunings)]
    if row.waits:
        found.append(words("drift.waits"))
    return found


def _first(error: Any) -> str:
    """What is wrong, in a line."""
    if isinstance(error, ValidationError):
        one = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, one['loc']))}: {one['msg']}"[:200]
    return str(error)[:200]
