"""The one line over the page: is this exam usable? Pure.

Rules.
1. Until an end of the series was plausible nothing is judged: it is arriving, with its number of
   images. Nothing here is ever green before there is a check.
2. `usable` never says more than what was checked.
3. Texts come by key, in the reader's language: `room.usable`, and `room.flag.CODE` for each flag,
   with {figure}, {where} and {reason} as places; a reason is said in words, `reasons.what.CODE`
   (appliance/web/text).
4. What is rightly set aside (reasons.SET_ASIDE) has no check and no line: there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.room.check import Flag, RoomCheck

Say = Callable[..., str]
"""say(key, **values) -> text in the reader's language."""


def banner(check: RoomCheck | None, say: Say, *, images: int, judged: bool) -> str | None:
    """The line of a series. images: how many are here; judged: a report of it is there. None where
    nothing is to be said (rule 4)."""
    if check is None:
        return None if judged else say("room.arriving", images=images)
    if check.verdict == "usable":
        return say("room.usable")
    between = say("room.between")
    return say("room.look", what=between.join(flagged(flag, say) for flag in check.flags))


def flagged(flag: Flag, say: Say) -> str:
    """What one flag says, with its figure, a whole number where that is enough."""
    figure = "" if flag.figure is None else _short(flag.figure)
    return say(
        f"room.flag.{flag.code.value}",
        figure=figure,
        where=flag.where or "",
        reason=say(f"reasons.what.{flag.reason.value}") if flag.reason else "",
    )


def _short(figure: float) -> str:
    return f"{figure:.0f}" if abs(figure) >= 10 else f"{figure:.1f}"
