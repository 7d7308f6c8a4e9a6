"""OHIF, somebody else's viewer, over an Orthanc of the test, as a person sees it in a browser.

Rules
1. What is shown is judged by what is on the page: pixels of the picture, the drawings laid over it,
   words. Nothing of the viewer's own state is asked, but for whether it has anything left to do.
2. The viewer is used with the mouse: a double click on a thumbnail opens a series, a click answers.
3. OHIF is what `.ci/ohif` fetched; its settings are its own but for the archive's address.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rigs.chromium import HANG_S, Chromium, Page, PageError, Pixels, decoded
from rigs.orthanc import Orthanc

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
FETCH = Path(__file__).resolve().parents[2] / ".ci" / "ohif"
PROXIED = ("/dicom-web/", "/wado")
PREPARED = """
localStorage.setItem('shownTours', '["basicViewerTour"]');
window.failures = [];
const noted = error => /has been destroyed/.test(error) || failures.push(error);
addEventListener('beforeunload', e => e.stopImmediatePropagation());
addEventListener('error', e => noted(String(e.error?.stack ?? e.message)));
addEventListener('unhandledrejection', e => noted(String(e.reason?.stack ?? e.reason)));
"""
"""Run in each page before OHIF: its introduction, which lies over the image, counts as seen; it
does not ask whether a page may be left; and what is thrown and not caught, which ends in its
error page or a black view, is noted, but for what was to be drawn in a view that is replaced."""
PATIENT_LOOKS = 30
"""At what is shown, before the image is moved."""
SETTINGS = {
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "showStudyList": False,
    "investigationalUseDialog": {"option": "never"},
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "wadoUriRoot": "/wado",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "qidoSupportsIncludeField": False,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "omitQuotationForMultipartRequest": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
    "defaultDataSourceName": "dicomweb",
}
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}


def folder() -> Path:
    """Where OHIF lies; skips the test where it was not fetched."""
    done = subprocess.run([FETCH, "--where"], capture_output=True, text=True, check=True)
    found = Path(done.stdout.strip())
    if not (found / "index.html").is_file():
        pytest.skip(f"OHIF is not at {found}: .ci/ohif fetches it")
    return found


class Site:
    """A web server on this machine alone: OHIF's files, and Orthanc's DICOMweb behind it."""

    def __init__(self, archive: Orthanc) -> None:
        handler = type("Handler", (_Handler,), {"files": folder(), "archive": archive.port})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Site:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    files: Path
    archive: int
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(PROXIED):
            self._forward()
        elif path == "/app-config.js":
            self._answer(
                200, "text/javascript", f"window.config = {json.dumps(SETTINGS)};".encode()
            )
        else:
            found = (self.files / path.lstrip("/")).resolve()
            if not found.is_relative_to(self.files.resolve()) or not found.is_file():
                found = self.files / "index.html"  # a page of the one-page application
            kind = TYPES.get(found.suffix, "application/octet-stream")
            self._answer(200, kind, found.read_bytes())

    def _forward(self) -> None:
        there = http.client.HTTPConnection("127.0.0.1", self.archive, timeout=60)
        # Orthanc writes the host of the request into the addresses that it gives.
        asked = {k: v for k, v in self.headers.items() if k in {"Host", "Accept"}}
        there.request("GET", self.path, headers=asked)
        answer = there.getresponse()
        self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        there.close()

    def _answer(self, status: int, kind: str | None, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):  # the page was closed meanwhile
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the library
        """Nothing: what a test needs to know is on the page."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An image as it is shown."""

    pixels: Pixels
    """With segments and without what is drawn over it, [rows, columns, 3], blue first."""
    outlines: list[Box]
    """Of what is drawn over it, in `pixels`."""
    labels: list[str]
    """The lines of text that are drawn over it."""


class Viewer:
    """A study in OHIF, in a page of its own while the context is open."""

    def __init__(self, browser: Chromium, site: Site, study_uid: str) -> None:
        self.page: Page = browser.page()
        self._url = f"{site.url}/viewer?StudyInstanceUIDs={study_uid}"

    def __enter__(self) -> Viewer:
        self.page.ask("Page.enable")
        self.page.ask("Page.addScriptToEvaluateOnNewDocument", source=PREPARED)
        self.page.go(self._url)
        self.until(f"{_thumbnails()}.length > 0")
        self.wait(lambda seen: seen.pixels.any())
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def until(self, expression: str) -> Any:
        """The first true value of an expression. PageError where OHIF fails meanwhile."""
        found = self.page.until(f"window.failures?.length ? {{failures}} : ({expression})")
        if isinstance(found, dict) and "failures" in found:
            raise PageError(f"OHIF fails: {found['failures']}")
        return found

    def wait(self, shows: Callable[[Seen], object]) -> Seen:
        """What OHIF shows once that is what is asked for and, a moment later, is the same again."""
        seen: Any = None
        end, looks = time.monotonic() + HANG_S, 0
        while time.monotonic() < end:
            now, looks = self.until(_SEEN), looks + 1
            if now == seen and shows(found := _seen(now)):
                return found
            seen = now
            time.sleep(0.3)
            if looks % PATIENT_LOOKS == 0:
                self._scroll_and_back()
        raise PageError(f"not within {HANG_S} s: {self.page.text()}")

    def _scroll_and_back(self) -> None:
        """One image on and back with the wheel: at times OHIF draws a label only then."""
        box = f"{_IMAGE}.getBoundingClientRect()"
        x, y = self.page.until(
            f"{_IMAGE} && [{box}.x + {box}.width / 2, {box}.y + {box}.height / 2]"
        )
        for turned in (120, -120):
            self.page.ask(
                "Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=turned
            )
            time.sleep(0.5)

    def series(self) -> list[tuple[str, str]]:
        """Modality and description of each series in the list at the side, from the top."""
        labels = ("modality", "description")
        text = ", ".join(f"e.querySelector('[data-cy=series-{x}-label]').innerText" for x in labels)
        return [(m, d) for m, d in self.page.value(f"{_thumbnails()}.map(e => [{text}])")]

    def open(self, modality: str) -> None:
        """The first series of a modality, in the view that is shown."""
        label = "e.querySelector('[data-cy=series-modality-label]').innerText"
        self.page.click(f"{_thumbnails()}.find(e => {label} === '{modality}')", times=2)

    def next(self) -> None:
        """The next finding, by the arrow beside the image."""
        arrows = "[...document.querySelectorAll('.text-highlight.shrink-0.cursor-pointer svg')]"
        self.page.click(f"{arrows}[1]")

    def answer(self, word: str) -> None:
        """A question of the viewer's, by the button with this word."""
        buttons = "[...document.querySelectorAll('button')]"
        self.page.click(f"{buttons}.find(e => e.innerText.trim() === '{word}')")


def _thumbnails() -> str:
    return "[...document.querySelectorAll('[data-cy^=study-browser-thumbnail]')]"


_IMAGE = "document.querySelector('canvas.cornerstone-canvas')"
_SEEN = f"""(() => {{
    const image = {_IMAGE}, over = [...document.querySelectorAll('svg.svg-layer')];
    const all = kinds => over.flatMap(layer => [...layer.querySelectorAll(kinds)]);
    const scale = image?.width / image?.clientWidth;
    return image === null ? null : [
        image.toDataURL(),
        all('ellipse, polyline, polygon, path').map(e => e.getBBox()).map(
            b => [b.x, b.y, b.x + b.width, b.y + b.height].map(at => at * scale)),
        all('tspan').map(e => e.textContent),
    ];
}})()"""


def _seen(found: Any) -> Seen:
    image, outlines, labels = found
    return Seen(decoded(image.partition(",")[2]), [tuple(box) for box in outlines], labels)
