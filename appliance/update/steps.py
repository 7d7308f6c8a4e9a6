"""The step journal: how far the update in hand is. `apply` alone writes it, in steps.json.

Rules.
1. A state is written down, durably, before its work begins; after a power cut that work is done
   once more. Which state follows which is a table (appliance.update.states).
2. There is one update at a time, so one record. None where none was ever begun.
3. A damaged record is not guessed at: nothing goes on until a person removes it. What runs goes on
   running, and `guard` needs it not.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from appliance.errors import StateUnusable
from appliance.report import Record, Sentence
from appliance.store.files import DISK, Disk
from appliance.update import states
from appliance.update.places import Places
from appliance.update.plan import Named
from appliance.update.states import Event, State
from appliance.update.why import WhyNot

MOST_TEXTS = 20
"""Older ones are in the audit."""


class Steps(Record):
    """How far one update is: `bundles` are those that it brings, `begun` is when it began, `texts`
    is what happened, oldest first, `why` why it does not go on."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.steps/1"] = Field("scanside.steps/1", alias="schema")
    release: str = Field(max_length=80, description="its path in the repository")
    state: State
    slot: int | None = Field(default=None, ge=1)
    """None before it has one, and where the release changes bundles alone."""
    bundles: tuple[Named, ...] = ()
    begun: AwareDatetime
    texts: tuple[Sentence, ...] = Field(default=(), max_length=MOST_TEXTS)
    why: tuple[WhyNot, ...] = ()


def advance(
    steps: Steps, event: Event, *, text: str | None = None, why: tuple[WhyNot, ...] = ()
) -> Steps:
    """The record after the event. An update that is tried again has no slot yet: no number is used
    for two tries. Forbidden where the event makes no sense in this state."""
    return Steps(
        release=steps.release,
        state=states.after(steps.state, event),
        slot=None if event is Event.AGAIN else steps.slot,
        bundles=steps.bundles,
        begun=steps.begun,
        texts=(*steps.texts, *([text] if text else []))[-MOST_TEXTS:],
        why=why,
    )


def read(places: Places) -> Steps | None:
    """The record; None where no update was ever begun. StateUnusable (`update_steps`)."""
    path = places.trusted / "steps.json"
    try:
        return Steps.stored(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as e:
        raise StateUnusable(
            f"{path} is damaged, so nobody knows how far the update is",
            code="update_steps",
            remedy=f"What runs goes on running. Remove {path}, then: scanside update check",
        ) from e


def write(places: Places, steps: Steps, disk: Disk = DISK) -> None:
    """Make the record durable, before the work of its state begins. StateUnusable."""
    data = steps.model_dump_json(by_alias=True, indent=1)
    disk.write(places.trusted / "steps.json", f"{data}\n".encode())
