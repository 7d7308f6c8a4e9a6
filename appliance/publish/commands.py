"""What may be asked of the device over MQTT: cmd/{ping|resend|stat|pause|resume|update-check}.

Rules. Whatever arrives is hostile until it parses, and nothing that arrives is ever repeated but
the sender's own `id`.
- At most 4 KiB of UTF-8 JSON: a `Command`, no unknown key. An empty payload is an empty command.
- A retained command is refused: it would be obeyed again at every connection.
- `reply_to` counts where it is given in full and lies below `{root}/reply/`; else there is no
  reply and the command is refused. The v5 Response Topic (4.10) only mirrors it and is not read.
- What cannot be obeyed is answered ok=false where there is a valid `reply_to`.
- Each verb may be obeyed twice (QoS 1 delivers at least once, 4.3.2): all of them are idempotent.
- Only what `[mqtt] commands` lists is obeyed; a refusal names the line to add.
- Every verb has a ration (RATIONS), so that whoever may ask can neither fill the disk nor keep the
  device from its work; `resume` has none, as nobody must be able to keep findings back. Refusals
  have one too: beyond it nothing is written down and nothing is answered.

| verb         | does                                                                            |
|--------------|---------------------------------------------------------------------------------|
| ping         | answers                                                                         |
| resend       | the messages of `report_id` are owed again, under the same event_ids            |
| stat         | the series of `study` (its pseudonym) are analysed before all that are routine  |
| pause        | holds the outbox (study events and findings); survives restarts; `degraded`;    |
|              | ends by itself after `[mqtt] pause_s`                                           |
| resume       | sends what was held, in order                                                   |
| update-check | lets `update` look for a release; nothing is taken by it                        |
"""

from __future__ import annotations

import json
import re
import uuid
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from pydantic import ValidationError

from appliance.report import Verb
from appliance.results.message import Command

LIMIT_BYTES = 4096
RATIONS: dict[Verb, tuple[int, float]] = {
    "ping": (300, 60.0),
    "resend": (1000, 3600.0),
    "stat": (1000, 3600.0),
    "pause": (1000, 3600.0),
    "update-check": (60, 60.0),
}
"""So many are obeyed in so many seconds. An audit row is kept for ever: resend, stat and pause make
one each, at most 24,000 a day of each verb. `resume` only makes one where it ends a pause."""
REFUSALS = (60, 60.0)
"""So many refusals in so many seconds are written down and answered."""
_REPLY = re.compile(r"reply(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){1,7}")
_ID = re.compile(r"[\x20-\x7e]{0,64}")
_VERBS: dict[str, Verb] = {verb: verb for verb in get_args(Verb)}


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that may be obeyed. `reply_to` is relative to the device's root."""

    verb: Verb
    command: Command
    reply_to: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """What is not obeyed, and why in words of ours."""

    verb: Verb | Literal["unknown"]
    text: str
    id: str = ""
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was done. `changed`: whether anything is other than before."""

    ok: bool
    text: str
    changed: bool = False


class Ration:
    """At most `count` in `seconds`, whatever is asked."""

    def __init__(self, count: int, seconds: float) -> None:
        self._seconds = seconds
        self._taken: deque[float] = deque(maxlen=count)

    def take(self, now: float) -> bool:
        """Whether one more is within it. `now`: seconds of a clock that only goes on."""
        if len(self._taken) == self._taken.maxlen and now - self._taken[0] < self._seconds:
            return False
        self._taken.append(now)
        return True


class Controls(Protocol):
    """What a command can do to the device. Each call is durable when it returns."""

    def resend(self, report_id: uuid.UUID) -> int:
        """How many messages of the report are owed again; 0 where the report is unknown."""
        ...

    def set_stat(self, study: str) -> int:
        """How many series of the study, by its pseudonym, are taken first from now on."""
        ...

    def check_for_update(self) -> bool:
        """Let a release be looked for; False where there is none to ask."""
        ...

    def set_paused(self, paused: bool) -> bool:
        """Hold the outbox or let it go; whether that changed anything."""
        ...


def parse(root: str, topic: str, payload: bytes, *, retained: bool = False) -> Asked | Refused:
    """Topic and payload -> a command or a refusal. Never raises."""
    verb = _VERBS.get(topic.removeprefix(f"{root}/cmd/"))
    name: Verb | Literal["unknown"] = verb or "unknown"
    if len(payload) > LIMIT_BYTES:
        return Refused(name, f"more than {LIMIT_BYTES} bytes")
    try:
        data: Any = json.loads(payload.decode("utf-8")) if payload else {}
    except (ValueError, RecursionError):
        return Refused(name, "not JSON")
    if not isinstance(data, dict):
        return Refused(name, "not a JSON object")
    reply_to = reply_topic(root, data.get("reply_to"))
    given = data.get("id")
    known = given if isinstance(given, str) and _ID.fullmatch(given) else ""
    if data.get("reply_to") is not None and reply_to is None:
        return Refused(name, f"reply_to must lie below {root}/reply/", known)
    if retained:
        return Refused(name, "a retained command is never obeyed", known, reply_to)
    if verb is None:
        return Refused(name, f"no such verb; known are {', '.join(_VERBS)}", known, reply_to)
    if given is not None and given != known:
        return Refused(name, "id must be up to 64 printable ASCII characters", "", reply_to)
    try:
        command = Command.model_validate(data)
    except ValidationError as e:
        return Refused(name, _first(e), known, reply_to)
    if verb == "resend" and command.report_id is None:
        return Refused(name, "resend needs report_id", known, reply_to)
    if verb == "stat" and command.study is None:
        return Refused(name, "stat needs study", known, reply_to)
    return Asked(verb, command, reply_to)


def reply_topic(root: str, given: object) -> str | None:
    """A full topic below `{root}/reply/` -> the same relative to the root; None for all else."""
    if not isinstance(given, str) or not given.startswith(f"{root}/"):
        return None
    relative = given[len(root) + 1 :]
    return relative if len(given) <= 256 and _REPLY.fullmatch(relative) else None


def not_listed(verb: Verb, listed: Collection[Verb]) -> str:
    """Why a verb that `[mqtt] commands` does not list is not obeyed, with the line to add."""
    line = ", ".join(f'"{one}"' for one in (*listed, verb))
    return f"not obeyed here; the settings may allow it: [mqtt] commands = [{line}]"


def obey(asked: Asked, controls: Controls) -> Answer:
    """Do what was asked."""
    match asked.verb:
        case "ping":
            return Answer(True, "pong")
        case "resend":
            if asked.command.report_id is None:
                return Answer(False, "resend needs report_id")
            count = controls.resend(asked.command.report_id)
            if count == 0:
                return Answer(False, "no such report, or its messages are no longer kept")
            return Answer(True, f"{count} messages are sent again", changed=True)
        case "stat":
            if asked.command.study is None:
                return Answer(False, "stat needs study")
            count = controls.set_stat(asked.command.study)
            if count == 0:
                return Answer(False, "no such study")
            return Answer(True, f"{count} series are taken first", changed=True)
        case "pause":
            changed = controls.set_paused(True)
            return Answer(True, "paused" if changed else "was paused already", changed=changed)
        case "resume":
            changed = controls.set_paused(False)
            return Answer(True, "resumed" if changed else "was not paused", changed=changed)
        case "update-check":
            if not controls.check_for_update():
                return Answer(False, "no update source configured")
            return Answer(True, "a release is looked for")


def _first(error: ValidationError) -> str:
    """The first thing wrong, by key where the key is one of ours; no value is repeated."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden" or key not in Command.model_fields:
        return f"unknown key; known are {', '.join(Command.model_fields)}"
    return f"{key} is not valid"
