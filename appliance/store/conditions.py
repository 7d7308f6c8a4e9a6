"""How each stage does: what `status`, `health` and the doctor say, from this one function.

    absent    it never ran on this state folder
    down      it ran here, and no process holds its lock
    starting  its process has begun and does not serve yet; or it is absent or down while the
              appliance as a whole has just started
    stuck     its process lives and has made no progress for longer than its step may take
    running   its process lives and goes on

Rules
- Pure but for `look`: locks and beats in, conditions out. Ages are those of the monotonic clock.
- Stuck is judged by progress, never by a short timer. ALLOWED_S says how long each step may go on
  without a beat on the slowest box that may still be of use. The watchdogs of the units are longer
  than any step of their stage (tests/systemd), so systemd ends nothing that is not stuck.
- A process that says nothing, because its disk takes no beat, is running: only its lock is known.
- While `receive` is handed over to the next slot, the one of the newest slot that lives is judged.
- Of a stage that the settings do not ask for (`stages.of`), or that lives elsewhere than in the
  state folder, nothing is said.
- While nothing has ever run, or nothing is known to be wrong, there are no reasons.
- `publish` cannot say of itself that it is stuck: the broker says `offline` for it (its will), and
  the doctor `stuck`. Every other reason is said by `publish` and by the doctor alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from appliance.settings import Settings
from appliance.stages import of
from appliance.store.heartbeat import BEAT_S, START, Beat, Trouble, read
from appliance.store.lock import holder

STARTING_S = 60.0
"""The stages of an appliance that starts come one after another: on a slow box within a minute."""

WAITING, OPEN, JUDGE, DELETE = "", "open", "judge", "delete"
ALLOWED_S: Mapping[str, float] = MappingProxyType(
    {
        # A waiting loop beats every BEAT_S; six missed ones are no slow disk and no swapping.
        WAITING: 6 * BEAT_S,
        # Opening bundles runs golden cases: 10 s a bundle on two cores, and a slow box with three
        # bundles may need a hundred times as long. A journal that is checked or made anew is less.
        START: 1800.0,
        OPEN: 1800.0,
        # The inference of one series: some seconds on two cores; 1,000 images on a tenth of them,
        # with several bundles, and a machine that swaps, are minutes.
        JUDGE: 1200.0,
        # The files of one series, thousands, each with its own entry in the folder.
        DELETE: 600.0,
    }
)
STEPS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"work": (START, WAITING, OPEN, JUDGE), "retain": (START, WAITING, DELETE)}
)
"""Which of them a stage has, where it has more than START and WAITING."""


class State(str, Enum):
    """How a stage does, in one word."""

    ABSENT = "absent"
    DOWN = "down"
    STARTING = "starting"
    STUCK = "stuck"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found of a stage."""

    held: bool | None
    """Whether a process holds its lock; None where none ever did."""
    beat: Beat | None


@dataclass(frozen=True, slots=True)
class Condition:
    """How a stage does, in one sentence, and what it suffers from."""

    state: State
    text: str
    troubles: tuple[Trouble, ...] = ()

    @property
    def ill(self) -> bool:
        """Whether a person must look at it."""
        return self.state in (State.ABSENT, State.DOWN, State.STUCK)


def look(settings: Settings, stages: Iterable[str] | None = None) -> dict[str, Condition]:
    """The conditions now, of all stages that the settings ask for or of these."""
    state = settings.state
    ours = (row.name for row in of(settings) if row.home(settings) == state)
    names = list(ours if stages is None else stages)
    seen = {}
    for name in names:
        who, held = holder(state, name)
        seen[name] = Seen(held, read(state, who))
    return conditions(seen, time.monotonic())


def conditions(seen: Mapping[str, Seen], tick: float) -> dict[str, Condition]:
    """How each stage does at this tick of the monotonic clock; pure."""
    began = [one.beat.began for one in seen.values() if one.held and one.beat is not None]
    just_started = bool(began) and tick - min(began) < STARTING_S
    return {name: _condition(one, tick, just_started) for name, one in seen.items()}


def untouched(found: Mapping[str, Condition]) -> bool:
    """Whether no stage has ever run here."""
    return all(one.state is State.ABSENT for one in found.values())


def reasons(found: Mapping[str, Condition]) -> tuple[str, ...]:
    """Against `online`: `work_stuck` and the like, then the codes of troubles, each once."""
    if untouched(found):
        return ()
    words = [
        f"{name}_{'down' if one.state is State.ABSENT else one.state.value}"
        for name, one in found.items()
        if one.state is not State.RUNNING
    ]
    codes = [trouble.code.value for one in found.values() for trouble in one.troubles]
    return tuple(dict.fromkeys([*words, *sorted(codes)]))


def is_starting(reason: str) -> bool:
    """Whether this reason only says that a stage does not serve yet."""
    return reason.endswith(f"_{State.STARTING.value}")


def longest_s(stage: str) -> float:
    """The longest that any step of this stage may take without progress."""
    return max(ALLOWED_S[step] for step in STEPS_OF.get(stage, (START, WAITING)) if step != START)


def _condition(one: Seen, tick: float, just_started: bool) -> Condition:
    beat = one.beat
    if not one.held:
        if just_started:
            return Condition(State.STARTING, "has not begun yet")
        if one.held is None:
            return Condition(State.ABSENT, "never ran here")
        return Condition(State.DOWN, "does not run")
    if beat is None:
        return Condition(State.RUNNING, "runs and says nothing of itself")
    silent = max(0.0, tick - beat.tick)
    allowed = ALLOWED_S.get(beat.step, max(ALLOWED_S.values()))
    waits = ""
    if beat.oldest is not None:
        waits = f", and the oldest of what waits came {tick - beat.oldest:.0f} s ago"
    step = f"at `{beat.step}` for {tick - beat.since:.0f} s" if beat.step else "waits for work"
    if silent > allowed:
        where = f"at `{beat.step}`" if beat.step else "while it waits for work"
        text = f"no progress for {silent:.0f} s {where}, where {allowed:.0f} s are allowed{waits}"
        return Condition(State.STUCK, text, beat.troubles)
    if beat.step == START:
        return Condition(State.STARTING, f"starts for {tick - beat.began:.0f} s", beat.troubles)
    return Condition(State.RUNNING, f"{step}{waits}", beat.troubles)
