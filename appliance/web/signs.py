"""The five signs of a state: a shape of its own each, so that colour is never the only difference.

    ok     a circle with a hook      green
    look   a triangle                amber
    stop   an octagon                red
    wait   a square                  blue
    quiet  a dash                    grey

They stand in the page itself, take the colour of the text around them, and are hidden from a screen
reader: the word beside a sign says the state (WCAG 2.2, 1.4.1).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from markupsafe import Markup

_SHAPES: Final = MappingProxyType(
    {
        "ok": '<circle cx="12" cy="12" r="11"/><path class="cut" d="M6 12.5l4 4 8-8.5"/>',
        "look": '<path d="M12 1.5 23 22H1z"/><path class="cut" d="M12 9v6m0 3v.5"/>',
        "stop": '<path d="M7.5 1h9L23 7.5v9L16.5 23h-9L1 16.5v-9z"/>'
        '<path class="cut" d="M8 8l8 8m0-8-8 8"/>',
        "wait": '<path d="M2 2h20v20H2z"/><path class="cut" d="M12 6v6.5l4 3"/>',
        "quiet": '<path d="M2 10h20v4H2z"/>',
    }
)
STATES: Final = tuple(_SHAPES)


def sign(state: str) -> Markup:
    """What a template calls as `sign`. KeyError where there is no such state."""
    return Markup(  # noqa: S704 - the shapes above
        f'<svg class="sign" viewBox="0 0 24 24" aria-hidden="true" focusable="false">'
        f"{_SHAPES[state]}</svg>"
    )
