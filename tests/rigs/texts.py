"""The texts of the in-room check, as the page will say them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

TEXT = Path(__file__).resolve().parents[2] / "appliance" / "web" / "text"
LANGUAGES = {language: TEXT / language / "room.json" for language in ("en", "zh")}
ENGLISH = LANGUAGES["en"]


def saying(language: str) -> Callable[..., str]:
    """say(key, **values), as in a template."""
    texts = json.loads(LANGUAGES[language].read_text("utf-8"))

    def say(key: str, **values: object) -> str:
        text: str = texts[key.removeprefix("room.")]
        return text.format_map(values)

    return say
