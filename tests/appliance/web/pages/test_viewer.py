"""The fragment that holds the viewer: in both languages, with every word its script may say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import httpx
import pytest

from appliance.web.pixels.listing import WINDOWS, No
from rigs.looked_at import WEB, LookedAt, served


def fragment(tmp_path: Path, language: str) -> str:
    state = LookedAt(tmp_path / "state")
    with served(state.application(language)) as base:
        page = httpx.get(f"{base}/view/study/0123/series/4567").text
    state.close()
    return page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_has_a_word_for_everything_that_may_be_said(tmp_path: Path, language: str) -> None:
    page = fragment(tmp_path, language)
    found = re.search(r'class="viewer-words">(.*?)</script>', page, re.DOTALL)
    assert found
    words = json.loads(found[1])
    script = "".join(path.read_text("utf-8") for path in (WEB / "assets").glob("viewer*.js"))
    assert set(re.findall(r"this\.words\.(\w+)", script)) <= set(words)
    assert {f"no_{why}" for why in get_args(No)} - {"no_radiograph"} <= set(words)
    kinds = set(re.findall(r'kind: "(\w+)"', script)) | {"gone", "busy"}
    assert {f"why_{kind}" for kind in kinds} <= set(words)
    assert all(words.values())
    for window in WINDOWS:
        texts = json.loads((WEB / "text" / language / "viewer.json").read_text("utf-8"))
        assert texts[window.name] in page


def test_it_holds_no_style_and_no_script_but_addresses_of_files(tmp_path: Path) -> None:
    page = fragment(tmp_path, "en")
    assert "style=" not in page
    assert re.findall(r"<script (?!type=\"application/json\")[^>]*>", page) == [
        '<script type="module" src="/assets/viewer.js">'
    ]
