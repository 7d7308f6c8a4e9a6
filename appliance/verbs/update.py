"""`scanside update ...` as plain functions: ask `apply`, follow what it does, show how it stands.

Rules.
1. What was asked for is followed until it is on trial, confirmed, refused, or waits for something:
   one line a step. While another slot takes over nobody answers; that is waited for too. So is, by
   `now`, the moment between two series.
2. `status` without a running `apply` reads what it wrote last, and says so.
3. 0: done, on trial, or it waits by a rule. 1: refused, gone back, or it cannot be done.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance.apply import door
from appliance.apply.door import SOCKET, SYSTEMD_SOCKET
from appliance.apply.requests import Answer, Request, Status, read_status
from appliance.errors import ScansideError, StateUnusable
from appliance.settings import Settings
from appliance.update.states import State
from appliance.update.why import Why

AWAY_S = 120.0
"""So long nobody may answer: another slot takes over, and its `apply` begins."""
LOOK_S = 0.3
_FOLLOWED = ("check", "now", "rollback")
_FAILED = (State.REFUSED, State.ROLLED_BACK)


def done(settings: Settings, request: Request, *, as_json: bool) -> int:
    """Ask, follow, show; the exit code. ScansideError where it cannot be asked, or is refused."""
    _require_slots(settings)
    if request.verb == "status":
        _show(_status(settings), as_json=as_json)
        return 0
    answer = accepted(asked(settings, request))
    if answer.text and not as_json:
        print(answer.text)
    if request.verb not in _FOLLOWED:
        if as_json:
            _show(_status(settings), as_json=True)
        return 0
    status = followed(
        lambda: asked(settings, Request(verb="status")),
        answer.wish,
        patient=request.verb == "now",
        say=(lambda _: None) if as_json else print,
    )
    if as_json:
        _show(status, as_json=True)
    return _code(request, status)


def followed(
    ask: Callable[[], Answer],
    wish: int,
    *,
    patient: bool = False,
    say: Callable[[str], object],
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Status:
    """Until the wish of this number was seen, and nothing is being done any more (rule 1)."""
    said: list[str] = []
    heard = clock()
    before: tuple[str, ...] | None = None
    while True:
        try:
            answer = ask()
        except StateUnusable:
            if clock() - heard > AWAY_S:
                raise
            sleep(LOOK_S)
            continue
        heard = clock()
        status = answer.status
        if status is not None and status.seen >= wish:
            texts = status.steps.texts if status.steps is not None else ()
            if before is None:
                before = texts[:-1] if status.busy else texts
            for text in texts:
                if text not in before and text not in said:
                    said.append(text)
                    say(text)
            if not status.busy:
                for line in waits(status):
                    if line not in said:
                        said.append(line)
                        say(line)
                if not (patient and any(why.code is Why.BUSY for why in status.why)):
                    return status
        sleep(LOOK_S)


def waits(status: Status) -> tuple[str, ...]:
    """Why nothing more happens now, one line each."""
    lines = [why.one_line() for why in status.why]
    if status.trouble:
        lines.append(status.trouble)
    elif status.found:
        lines.append(f"update: {status.found}")
    return tuple(lines)


def shown(status: Status) -> tuple[str, ...]:
    """The status, line by line."""
    lines = [
        f"channel     {status.channel}" + (f" of {status.url}" if status.url else ", no url"),
        f"runs        {status.appliance.words()} in slot {status.slot}"
        + (f"; before it slot {status.previous}" if status.previous else ""),
        "bundles     " + (", ".join(one.words() for one in status.bundles) or "none active"),
    ]
    if status.recalled:
        lines.append(f"RECALLED    {status.recalled}")
    if status.hold:
        lines.append("held        nothing is changed until: scanside update release")
    if status.steps is not None:
        steps = status.steps
        lines.append(f"update      {steps.release}: {steps.state.value}")
        lines += [f"            {text}" for text in steps.texts]
    if status.offered:
        lines.append(f"offered     {', '.join(status.offered)}")
    if status.signed is not None:
        lines.append(f"signed      {status.signed:%Y-%m-%d %H:%M} UTC is the newest that is known")
    return (*lines, *(f"now         {line}" for line in waits(status)))


def _show(status: Status, *, as_json: bool) -> None:
    if as_json:
        print(status.model_dump_json(by_alias=True, indent=1))
    else:
        print("\n".join(shown(status)))


def _code(request: Request, status: Status) -> int:
    """Rule 3."""
    state = status.steps.state if status.steps is not None else None
    if request.verb == "rollback":
        return 0 if state is State.ROLLED_BACK else 1
    if request.verb == "now" and state in _FAILED:
        return 1
    return 1 if status.trouble else 0


def _status(settings: Settings) -> Status:
    try:
        answer = asked(settings, Request(verb="status"))
    except StateUnusable as e:
        status = read_status(settings.update.trusted)
        print(f"{e.text}; this is of {status.at:%Y-%m-%d %H:%M} UTC", file=sys.stderr)
        return status
    if answer.status is None:
        raise StateUnusable(answer.text, code=answer.code, remedy=answer.remedy)
    return answer.status


def asked(settings: Settings, request: Request, within_s: float = door.WITHIN_S) -> Answer:
    """What `apply` answers. StateUnusable where nobody does, ScansideError where one may not."""
    path = _socket(settings)
    try:
        return door.ask(path, request, within_s)
    except PermissionError as e:
        raise ScansideError(
            f"{path} may not be opened by you",
            code="update_not_permitted",
            remedy=f"Type it with sudo, or become a member of the group {door.GROUP}.",
        ) from e
    except (OSError, ValueError) as e:
        raise StateUnusable(
            "nobody answers: the stage `apply` does not run",
            code="update_not_running",
            remedy="Type: sudo systemctl start scanside-apply; or start `scanside run`.",
        ) from e


def accepted(answer: Answer) -> Answer:
    """The answer; ScansideError where it is a refusal."""
    if not answer.ok:
        raise ScansideError(answer.text, code=answer.code, remedy=answer.remedy)
    return answer


def _socket(settings: Settings) -> Path:
    ours = settings.update.trusted / SOCKET
    return SYSTEMD_SOCKET if SYSTEMD_SOCKET.exists() and not ours.exists() else ours


def _require_slots(settings: Settings) -> None:
    if settings.update.root is None:
        raise StateUnusable(
            "this is no box that updates itself",
            code="update_no_root",
            remedy="Install with install.sh, or set [update] root to the folder of the slots.",
        )
