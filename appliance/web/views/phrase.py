"""What a page says, before anybody knows in which language: a key of text/ and its values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Phrase:
    """A template says it with `say(phrase.key, **phrase.values)`."""

    key: str
    values: Mapping[str, object] = field(default_factory=dict)
