"""Every link of a document leads somewhere, and every document that is named is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
SOURCES = tuple(
    path
    for folder in ("appliance", "compile", "training", "tests", "bench", "jetson", "systemd")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".toml", ".service", ".html", ".json"}
)


def links(text: str) -> set[str]:
    """Where Markdown leads to within the repository, without the heading."""
    found = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)}
    return {link for link in found if link and "://" not in link}


def named(text: str) -> set[str]:
    """Documents of docs/ that a text names by their path."""
    return set(re.findall(r"(?<![\w/])docs/[\w./-]*\w\.md\b", text))


def test_every_link_of_a_document_leads_somewhere() -> None:
    lost = {
        f"{path.relative_to(ROOT)}: {link}"
        for path in DOCUMENTS
        for link in links(path.read_text(encoding="utf-8"))
        if not (path.parent / link).exists()
    }
    assert lost == set()


def test_every_document_that_is_named_is_there() -> None:
    lost = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*DOCUMENTS, *SOURCES)
        for name in named(path.read_text(encoding="utf-8", errors="ignore"))
        if not (ROOT / name).exists()
    }
    assert lost == set()


def test_links_and_names_are_found() -> None:
    other = "docs" + "/g/h.md"
    text = f"[a](b.md#c), [d](https://e/f.md), see {other}. Not build/{other}."
    assert links(text) == {"b.md"}
    assert named(text) == {other}
