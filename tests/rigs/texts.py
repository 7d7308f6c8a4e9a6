"""The texts of the in-room check, as the page will say them."""

from __future__ import annotations

from pathlib import Path

from appliance.web.site import Language
from appliance.web.text.say import Say, speaker, texts

TEXT = Path(__file__).resolve().parents[2] / "appliance" / "web" / "text"
LANGUAGES = {language: TEXT / language / "room.json" for language in ("en", "zh")}
ENGLISH = LANGUAGES["en"]


def saying(language: Language) -> Say:
    """say(key, **values), as in a template."""
    return speaker(texts(language))
