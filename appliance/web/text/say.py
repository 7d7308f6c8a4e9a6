"""What a page says, in the language of who reads it: text/LANGUAGE/PART.json.

Rules
- A part of the page has one file in each language, a flat object of key -> text. The key of a text
  is PART.KEY. Both languages have the same keys, and the same {places} in each text; a test holds
  it.
- `{name}` in a text is a place for a value. Values are put in as they are: the template escapes the
  whole. A text holds no markup.
- `{name:image|images}` is the word that fits the number `name`: the first one for 1, the second one
  for all else (Unicode CLDR, cardinals of English: one, other). Chinese has one form, so its texts
  have none of this. The viewer fills its texts in the same way (assets/viewer.js).
- A key that is not there is an error, not an empty place: the page fails and the tests see it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from string import Formatter
from types import MappingProxyType
from typing import Any, Final, get_args

from appliance.web.site import Language

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
Say = Callable[..., str]
"""say(key, **values) -> text. KeyError where there is no such key or a value is missing."""


class _Counted(Formatter):
    """Python's, which knows the word that fits a number."""

    def format_field(self, value: Any, format_spec: str) -> str:
        one, bar, other = format_spec.partition("|")
        if bar:
            return one if str(value) == "1" else other
        return str(super().format_field(value, format_spec))


_COUNTED: Final = _Counted()


def texts(language: Language) -> Mapping[str, str]:
    """Every text of one language, by its key."""
    found: dict[str, str] = {}
    for path in sorted(files(__package__).joinpath(language).iterdir(), key=lambda p: p.name):
        part, dot, kind = path.name.partition(".")
        if (dot, kind) != (".", "json"):
            continue
        said = json.loads(path.read_text(encoding="utf-8"))
        found |= {f"{part}.{key}": text for key, text in said.items()}
    return MappingProxyType(found)


def speaker(known: Mapping[str, str]) -> Say:
    """What a template calls as `say`."""

    def say(key: str, **values: object) -> str:
        return _COUNTED.vformat(known[key], (), values) if values else known[key]

    return say


def wanted(accepted: str, offered: tuple[Language, ...]) -> Language:
    """The first of Accept-Language (RFC 9110 12.5.4) that is offered; else the first offered."""
    weighed = []
    for place, part in enumerate(accepted[:1000].split(",")):
        tag, _, weight = part.partition(";q=")
        try:
            quality = float(weight or 1)
        except ValueError:
            quality = 0.0
        weighed.append((-quality, place, tag.strip().lower().partition("-")[0]))
    for minus, _, tag in sorted(weighed):
        for language in offered:
            if language == tag and minus < 0:
                return language
    return offered[0]
