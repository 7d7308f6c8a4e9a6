"""How updates stand, as lines of the page of health. Pure.

Rules
- What is said is what `publish` says too (store/updating.py): codes, each with its phrase here.
- A box without slots has no such section.
- A hold, a release that waits to be accepted, one that went back and a recall ask for a person.
  That a release is on its way asks for nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.store.updating import Updating
from appliance.web.views.health import Line, Section
from appliance.web.views.light import Sign
from appliance.web.views.phrase import Phrase

_STATES: Final[Mapping[str, Sign]] = {
    "confirmed": "ok",
    "rolled_back": "look",
    "refused": "look",
    "replaced": "quiet",
}
"""Those in which nothing is under way; any other one is."""


def sections(said: Updating | None) -> tuple[Section, ...]:
    """None or one."""
    if said is None:
        return ()
    slot = {"version": said.version, "slot": said.slot}
    lines = [Line("ok", Phrase("health.update_runs"), Phrase("health.update_slot", slot))]
    if said.recalled:
        text = Phrase("health.update_recalled")
        lines.append(Line("stop", Phrase("health.update_runs"), text, "", "scanside update now"))
    if said.release is not None and said.state is not None:
        name = Phrase("health.update_release", {"release": said.release})
        sign = _STATES.get(said.state, "wait")
        remedy = "scanside update status" if sign == "look" else ""
        lines.append(Line(sign, name, _state(said), said.state, remedy))
    if said.hold:
        name, text = Phrase("health.update_hold"), Phrase("health.update_held")
        lines.append(Line("look", name, text, "", "scanside update release"))
    if said.accept is not None:
        text = Phrase("health.update_waits", {"release": said.accept})
        lines.append(
            Line("look", Phrase("health.update_accept"), text, "", "scanside update accept")
        )
    return (Section(Phrase("health.updates"), tuple(lines)),)


def _state(said: Updating) -> Phrase:
    if said.on_trial:
        return Phrase("health.update_trial")
    if said.state == "confirmed":
        return Phrase("health.update_confirmed")
    if said.state in ("rolled_back", "refused", "replaced"):
        return Phrase("health.update_not_taken")
    return Phrase("health.update_under_way")
