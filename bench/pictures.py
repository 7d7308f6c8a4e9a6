"""Pictures of the page, of the demo's phantom, as docs/page.md shows them.

    python -m bench.pictures OUT [--languages en zh] [--follow-up]

Rules
- What is shown is what the demo does: its chest phantom, analysed by the factory bundle, and
  another phantom with a gap, which is refused. Nothing is drawn or put in by hand.
- Work list, study at first sight, study after a tap on its first finding, the refused study,
  feedback and health; each at 1024 x 600 and 1600 x 1000, in every language and both themes:
  PAGE-SIZE-LANGUAGE-THEME.png.
- With --follow-up it is what `scanside demo --follow-up` does, some minutes long, and one picture
  is taken in each look: the first finding beside that of a year before, with both of its places.
- Colours are rounded to steps of STEP, so that the noise of a CT does not make a picture of 100 kB
  one of 250 kB.
- Chinese is left out, with a line that says so, where no font has its characters.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from appliance.demo import scanner
from appliance.demo.child import child
from appliance.phantom import chest
from bench.site import TREE

SIZES = {"bedside": (1024, 600), "desk": (1600, 1000)}
THEMES = ("dark", "light")
STEP = 10
GAP = range(20, 30)
"""Slices that are missing in the series that is refused."""
DRAWN = "document.querySelector('.viewer[data-findings]:not([data-findings=\"0\"])')?.dataset.shown"


def main() -> None:
    """Takes all pictures; prints their paths."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--languages", nargs="+", choices=("en", "zh"), default=["en", "zh"])
    parser.add_argument("--follow-up", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    languages = [one for one in asked.languages if one != "zh" or _has_chinese()]
    with (
        tempfile.TemporaryDirectory(prefix="scanside-pictures-") as folder,
        (_followed if asked.follow_up else _demo)(Path(folder)) as link,
        _chromium()(Path(folder)) as browser,
    ):
        tab = opened(browser, link)
        taken = _beside if asked.follow_up else _taken
        for path in taken(tab, link.partition("/start")[0], languages, asked.out):
            print(path, flush=True)


@contextmanager
def _demo(folder: Path) -> Iterator[str]:
    """The demo, both series analysed or refused; the link of its page."""
    with _stays(folder) as (link, port):
        phantom = chest.chest(seed=2, spacing_mm=(5.0, 0.7, 0.7))
        images = [one for n, one in enumerate(scanner.series(phantom)) if n not in GAP]
        scanner.send(images, scanner.Address("SCANSIDE", "127.0.0.1", port))
        yield link


@contextmanager
def _followed(folder: Path) -> Iterator[str]:
    """The demo of a person twice, a year apart; the link of its page."""
    with _stays(folder, "--follow-up") as (link, _):
        yield link


@contextmanager
def _stays(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """The demo, once it has shown what it shows: the link of its page, and its port for DICOM."""
    command = [sys.executable, "-m", "appliance", "demo", "--out", str(folder / "out"), *options]
    said, wide = folder / "demo.log", {**os.environ, "COLUMNS": "200"}
    with said.open("wb") as log, child(command, stdout=log, env=wide) as demo:
        port = _until(demo, said, r"as SCANSIDE on 127\.0\.0\.1:(\d+)")
        link = _until(
            demo, said, r"Ctrl-C ends everything\.[^#]*(http://127\.0\.0\.1:\d+/start#\S+)\n"
        )
        yield link, int(port)


def _until(demo: subprocess.Popen[bytes], said: Path, pattern: str) -> str:
    """What the pattern's group finds in what the demo said, once it is there."""
    while demo.poll() is None:
        if found := re.search(pattern, said.read_text(encoding="utf-8")):
            return found[1]
        time.sleep(0.2)
    raise SystemExit("the demo ended before its page was shown; run `scanside demo` to see why")


def _chromium() -> Any:
    """The browser of the tests (tests/rigs)."""
    sys.path.insert(0, str(TREE / "tests"))
    try:
        return importlib.import_module("rigs.chromium").Chromium
    finally:
        sys.path.pop(0)


def opened(browser: Any, link: str) -> Any:
    """A tab that the link let in."""
    tab = browser.page()
    tab.go(link)
    tab.until("document.readyState === 'complete' && location.pathname === '/start'")
    tab.click("document.querySelector('main .button')")
    tab.until("document.readyState === 'complete' && location.pathname === '/'")
    return tab


def _taken(tab: Any, site: str, languages: Sequence[str], out: Path) -> Iterator[Path]:
    tab.until("document.querySelector('tr .light.stop') !== null")  # the second one is refused
    study, refused = (
        tab.value(f"document.querySelector('tr:has(.light.{sign}) a').href")
        for sign in ("ok", "stop")
    )
    go(tab, study, DRAWN)
    report = tab.value("document.querySelector('[data-report]').dataset.report")
    pages = {
        "list": (f"{site}/", "true"),
        "study": (study, DRAWN),
        "refused": (refused, "document.querySelector('.viewer').dataset.shown"),
        "feedback": (f"{site}/feedback/{report}", "true"),
        "health": (f"{site}/health", "true"),
    }
    for end in _looks(tab, site, languages):
        for name, (address, ready) in pages.items():
            go(tab, address, ready)
            yield _kept(tab, out / f"{name}-{end}")
            if name == "study":
                tab.click("document.querySelector('[data-viewer-finding]')")
                tab.until("document.querySelector('.viewer-finding.current') !== null")
                yield _kept(tab, out / f"finding-{end}")


def _beside(tab: Any, site: str, languages: Sequence[str], out: Path) -> Iterator[Path]:
    """Of the study of a year later, which has both exams, the first finding with its places."""
    studies = tab.value("[...document.querySelectorAll('.worklist th a')].map(one => one.href)")
    places = "document.querySelector('.compared .pairs details')"
    compared = []
    for study in studies:
        go(tab, study, "document.querySelector('.compared') !== null")
        compared += [study] * tab.value(f"Number({places} !== null)")
    loaded = f"[...{places}.querySelectorAll('img')].every(one => one.naturalWidth > 0)"
    for end in _looks(tab, site, languages):
        go(tab, compared[0], f"{places} !== null")
        tab.click(f"{places}.querySelector('summary')")
        tab.until(loaded)
        tab.value("document.querySelector('.compared .pairs .of').scrollIntoView()")
        yield _kept(tab, out / f"beside-{end}")


def _looks(tab: Any, site: str, languages: Sequence[str]) -> Iterator[str]:
    """The tab in each language, theme and size; how the name of its picture ends."""
    for language in languages:
        for theme in THEMES:
            look = f"{language}.{theme}"
            tab.ask("Network.setCookie", name="scanside-look", value=look, url=site)
            for size, (width, height) in SIZES.items():
                tab.ask(
                    "Emulation.setDeviceMetricsOverride",
                    width=width, height=height, deviceScaleFactor=1, mobile=False,
                )  # fmt: skip
                yield f"{size}-{language}-{theme}.png"


def go(tab: Any, address: str, ready: str) -> None:
    """Shows an address; returns when `ready`, an expression of JavaScript, is true there."""
    tab.go("about:blank")
    tab.until("location.href === 'about:blank'")
    tab.go(address)
    tab.until(f"document.readyState === 'complete' && location.href === {address!r} && ({ready})")


def _kept(tab: Any, path: Path) -> Path:
    for _ in range(2):  # what was asked for is drawn in the next frame
        tab.value("new Promise(requestAnimationFrame)")
    seen = np.minimum(np.round(tab.picture() / STEP) * STEP, 255).astype(np.uint8)
    _, packed = cv2.imencode(".png", seen, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    path.write_bytes(packed.tobytes())  # a full disk is an error here, not half a picture
    return path


def _has_chinese() -> bool:
    """Whether a font has Chinese characters; says what is missing."""
    try:
        found = subprocess.run(
            ["/usr/bin/fc-list", ":lang=zh"], check=False, capture_output=True
        ).stdout
    except OSError:
        found = b""
    if not found:
        print("no font has Chinese characters: left out (apt-get install fonts-noto-cjk)")
    return bool(found)


if __name__ == "__main__":
    main()
