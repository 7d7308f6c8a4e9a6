"""The page in a real browser: 304 slices of 512 x 512, and the memory of the process that draws.

    python -m bench page

Rules
- Chromium, headless and without a GPU, on the same cores as the stage `web`, which is the real one,
  with its login and the pages around the viewer. Times are the browser's own, from the beginning of
  the navigation to the study, or of the jump, to the frame that shows the image.
- From the list: a person looks at it for READS_S, then opens the study. Whoever opens the list has
  what decodes images started; the other figures say what it takes where that is not so, and where
  the series was looked at before.
- An image counts as the next one when nothing of it was fetched: each jump goes to a part of the
  series that was not looked at before. Slices are those of a phantom, uncompressed.
- Memory is what the kernel says of the renderer (VmRSS, proc(5)), after all three planes.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from appliance.phantom import chest, instances
from bench.figure import Figure
from bench.pictures import opened
from bench.site import TREE

SLICES = 304
JUMPS = 20
READS_S = 2.0
"""Between the list and a tap on a study in it."""
FIRST_S, NEXT_MS, CORONAL_S, RENDERER_MB = 1.0, 50.0, 3.0, 500.0
NOTE = """
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (target.dataset.shown) window.firstShown ??= performance.now();
    }
  }).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-shown"] });
"""
SHOW = """
  (async (wanted) => {
    const root = document.querySelector(".viewer");
    const begun = performance.now();
    WANTED
    while (!(DONE)) await new Promise(requestAnimationFrame);
    return performance.now() - begun;
  })(%s)
"""
JUMP = SHOW.replace(
    "WANTED",
    'const e = root.querySelector(".viewer-slider"); e.value = wanted + 1;'
    ' e.dispatchEvent(new Event("input"));',
).replace("DONE", "root.dataset.shown.startsWith(`axial ${wanted} `)")
PLANE = SHOW.replace("WANTED", "root.querySelector(`[data-plane=${wanted}]`).click();").replace(
    "DONE", 'root.dataset.shown.startsWith(`${wanted} `) && root.dataset.missing === "0"'
)


def figures() -> Iterator[Figure]:
    """First image, next image, coronal plane, memory. None where Chromium is missing."""
    if shutil.which("chromium") is None:
        print("page: left out, chromium is not installed (apt-get install chromium)")
        return
    found = rigs("chromium", "looked_at", "web")
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        folder = Path(name)
        state = found["looked_at"].LookedAt(folder / "state")
        state.series(_images())
        state.close()
        with (
            found["web"].running(folder / "state") as served,
            found["chromium"].Chromium(folder) as browser,
        ):
            yield from _measured(browser, served)


def rigs(*names: str) -> dict[str, Any]:
    """Rigs of the tests (tests/rigs) by their names, such as the browser and the server."""
    sys.path.insert(0, str(TREE / "tests"))
    try:
        return {name: importlib.import_module(f"rigs.{name}") for name in names}
    finally:
        sys.path.pop(0)


def _images() -> list[Any]:
    coarse = chest.chest(spacing_mm=(12.0, 0.7, 0.7))
    at = np.arange(SLICES) * len(coarse.hu) // SLICES
    phantom = chest.Phantom(coarse.hu[at], (1.0, 0.7, 0.7), coarse.origin_lps_mm, ())
    images = list(instances.series(phantom))
    return images[::-1]  # feet first, as a report has them


def _measured(browser: Any, served: Any) -> Iterator[Figure]:
    page = opened(browser, served.link())
    page.ask("Page.enable")
    page.ask("Page.addScriptToEvaluateOnNewDocument", source=NOTE)
    study = page.value("document.querySelector('.worklist th a').href")
    time.sleep(READS_S)
    yield Figure("first of 304 slices, from the list", _first_s(page, study), "s", FIRST_S)
    (decodes,) = rigs("processes")["processes"].children(served.process.pid)
    os.kill(decodes, signal.SIGKILL)
    time.sleep(READS_S)  # the stage has seen that it is gone
    yield Figure(
        "first of 304 slices, the process that decodes new", _first_s(page, study), "s", FIRST_S
    )
    yield Figure("first of 304 slices, looked at before", _first_s(page, study), "s", FIRST_S)
    ats = [7 + n * (SLICES // 2 - 10) // JUMPS for n in range(JUMPS)]
    times = [float(page.value(JUMP % at)) for at in ats]
    parts = {"p95": float(np.percentile(times, 95)), "max": max(times)}
    yield Figure(
        "next image, not fetched before, p50", statistics.median(times), "ms", NEXT_MS, parts
    )
    took = page.value(PLANE % '"coronal"')
    yield Figure("coronal plane of 304 slices", took / 1e3, "s", CORONAL_S)
    took = page.value(PLANE % '"sagittal"')
    yield Figure("sagittal plane after it", took, "ms")
    yield Figure("renderer, three planes of 304 slices", _renderer_mb(browser), "MB", RENDERER_MB)


def _first_s(page: Any, study: str) -> float:
    """From the beginning of the navigation to a study to the first image of it, in seconds."""
    page.go("about:blank")
    page.until("location.href === 'about:blank'")
    page.go(study)
    page.until(f"location.href === {study!r} && window.firstShown")
    return float(page.value("window.firstShown")) / 1e3


def _renderer_mb(browser: Any) -> float:
    """VmRSS of the largest renderer below this browser, in 10^6 bytes."""
    return max(_rss(pid) for pid in _below(browser.child.pid) if _is_renderer(pid)) / 1e6


def _below(pid: int) -> list[int]:
    """A process and all that it started."""
    children, found = rigs("processes")["processes"].children, [pid]
    for process in found:
        found += children(process)
    return found


def _is_renderer(pid: int) -> bool:
    return b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
