"""Is the line slower while somebody looks at the page? The same line, looked at and not, in turns.

    python -m bench watched

Rules
- One line whose page is on. R01-001 is sent in turns: while nobody looks, while five event streams
  are open and one client scrolls, 20 slices a second at most (bench/watchers.py), and while the
  attached screen shows a study. Who looks has begun before the first slice comes.
- The attached screen is Chromium, headless, without a GPU, at 1024 x 600, bound by the link of
  `scanside web display`, with the priority of the example unit (Nice=15). No browser runs while the
  others are measured.
- The median of the runs of each counts, and its ratio to that while nobody looks.
- The clients stand for machines of their own, so they have the lowest priority here; what they take
  of the processors all the same, the line would have where they are elsewhere.
- Memory is PSS of the browser and of everything below it (proc(5), smaps_rollup).
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from appliance.demo.child import child, free_port
from appliance.settings import load
from appliance.web.access import link
from appliance.web.access.accounts import Accounts
from bench.beside import sent
from bench.figure import Figure
from bench.line import chest_ct
from bench.page import rigs
from bench.pictures import DRAWN, go, opened
from bench.site import TREE, Site, running, started_in, trace, traced
from bench.size import pss_mb

RUNS = 5
AIM = 1.05
"""Times as long as while nobody looks: what lies below is the scatter of the runs."""
SETTLED_S = 3.0
FIRST_S = 60.0
SMALL = "--window-size=1024,600"
NICE = 15
FINDINGS, NETWORKS = "last slice to preliminary findings", "inference of its networks"
Row = dict[str, float]
"""Milliseconds by FINDINGS and NETWORKS; of who looks `images/s` or `MB`."""
Looking = Callable[[], contextlib.AbstractContextManager[Callable[[], Row]]]
"""Somebody looks while the context is open; what is called at its end tells their own figures."""


def figures() -> Iterator[Figure]:
    """Nothing, with the reason, where data or dcmtk is missing; the attached screen is left out
    where Chromium is."""
    images = chest_ct()
    if images is None:
        return
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        folder, port = Path(name), free_port()
        notes = folder / "trace"
        more = f"[web]\nenabled = true\nport = {port}\n"
        with running(folder, traced(notes), more=more) as site:
            sent(site, folder, images)  # does not count; it is what they look at
            kinds = dict(_kinds(folder, f"http://127.0.0.1:{port}"))
            rows: dict[str, list[Row]] = {kind: [] for kind in kinds}
            for _ in range(RUNS):
                for kind, looking in kinds.items():
                    rows[kind].append(_run(site, folder, images, notes, looking))
        yield from _ratios(rows)


def _kinds(folder: Path, address: str) -> Iterator[tuple[str, Looking]]:
    """Who may look, and how it is done."""
    yield "nobody looks", _nobody
    yield "five event streams and one client", lambda: _clients(folder, address)
    if shutil.which("chromium") is None:
        print("watched: the attached screen is left out (apt-get install chromium)")
        return
    yield "the attached screen", lambda: _screen(folder)


@contextlib.contextmanager
def _nobody() -> Iterator[Callable[[], Row]]:
    time.sleep(SETTLED_S)
    yield dict


@contextlib.contextmanager
def _clients(folder: Path, address: str) -> Iterator[Callable[[], Row]]:
    accounts, password = Accounts(folder / "state"), secrets.token_urlsafe(12)
    name, file = f"bench-{secrets.token_hex(4)}", folder / f"images-{secrets.token_hex(4)}"
    accounts.add(name, "radiologist")
    accounts.change(name, password)
    file.touch()
    looks = [sys.executable, "-m", "bench.watchers", address, name, password, str(file)]
    command = ["nice", "-n", "19", *looks]
    with child(command, env=started_in(TREE, {})) as watchers:
        end = time.monotonic() + FIRST_S
        while not file.stat().st_size:
            if watchers.poll() is not None or time.monotonic() > end:
                raise SystemExit("the clients of the page saw no image")
            time.sleep(0.1)
        time.sleep(SETTLED_S)
        before, began = file.stat().st_size, time.monotonic()
        yield lambda: {"images/s": (file.stat().st_size - before) / (time.monotonic() - began)}
        if watchers.poll() is not None:
            raise SystemExit("the clients of the page ended before the series did")


@contextlib.contextmanager
def _screen(folder: Path) -> Iterator[Callable[[], Row]]:
    settings = load(folder / "scanside.toml")
    program = folder / "screen"
    program.write_text(f'#!/bin/sh\nexec nice -n {NICE} /usr/bin/chromium "$@" {SMALL}\n')
    program.chmod(0o700)
    profile = Path(tempfile.mkdtemp(prefix="screen-", dir=folder))
    screen = rigs("chromium")["chromium"].Chromium(profile)
    screen.program = str(program)
    with screen as browser:
        tab = opened(browser, link.make(settings, "display"))
        study = tab.value("document.querySelector('a[href^=\"/study/\"]').href")
        go(tab, study, DRAWN)
        time.sleep(SETTLED_S)
        yield lambda: {"MB": sum(pss_mb(browser.child.pid).values())}


def _run(site: Site, folder: Path, images: list[Any], notes: Path, looking: Looking) -> Row:
    with looking() as told:
        begun = time.time()
        times, first_out = sent(site, folder, images)
        own = told()
    analysis = next(one for one in trace(notes, "finish") if one["begin"] >= begun)
    spent = sum(took for what, took in analysis["spent"].items() if what != "prepare")
    return {FINDINGS: 1e3 * (first_out - times["last_slice"]), NETWORKS: 1e3 * spent, **own}


def _ratios(rows: dict[str, list[Row]]) -> Iterator[Figure]:
    medians = {
        kind: {what: statistics.median(run[what] for run in runs) for what in runs[0]}
        for kind, runs in rows.items()
    }
    alone = medians["nobody looks"]
    for what in (FINDINGS, NETWORKS):
        fastest = {kind: min(run[what] for run in runs) for kind, runs in rows.items()}
        best = {"fastest": fastest["nobody looks"]}
        yield Figure(f"{what}, nobody looks", alone[what], "ms", parts=best)
        for kind, found in medians.items():
            if found is alone:
                continue
            own = {k: v for k, v in found.items() if k not in alone}
            parts = {"ms": found[what], "fastest ms": fastest[kind], **own}
            yield Figure(f"{what}, {kind}", found[what] / alone[what], "times", AIM, parts)
