"""Who looks at the page while it is measured: event streams, and one client that fetches slices.

    python -m bench.watchers ADDRESS NAME PASSWORD FILE

It logs in as a browser does, opens STREAMS streams of events, of the list and of the newest study,
and fetches the images of that study one after the other, from the first to the last and again, one
every EACH_S at most, as somebody who scrolls without a pause. A byte is appended to FILE for each
image. It ends at SIGTERM.
"""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
from pathlib import Path

import httpx

STREAMS = 5
EACH_S = 0.05
"""The aim for the next image (docs/benchmarks.md): faster than that nobody looks."""
TIMEOUT_S = 60.0


def main() -> None:
    """Looks until it is ended."""
    address, name, password, file = sys.argv[1:]
    with httpx.Client(base_url=address, timeout=TIMEOUT_S) as browser:
        sent = {"name": name, "password": password, "next": "/"}
        if browser.post("/login", data=sent).status_code != 303:
            raise SystemExit("the page does not let the bench in")
        study = _found(r'href="(/study/[0-9a-f]{32})"', browser.get("/").text)
        series = _found(r'data-address="([^"]+)"', browser.get(study).text)
        topics = ["of=list", *[f"of=study&study={study.rpartition('/')[2]}"] * (STREAMS - 1)]
        for topic in topics:
            threading.Thread(target=_listen, args=(browser, topic), daemon=True).start()
        count = len(browser.get(f"{series}/images").json()["images"])
        with Path(file).open("ab", buffering=0) as noted:
            for number in itertools.cycle(range(count)):
                due = time.monotonic() + EACH_S
                browser.get(f"{series}/image/{number}").raise_for_status()
                noted.write(b".")
                time.sleep(max(0.0, due - time.monotonic()))


def _found(pattern: str, page: str) -> str:
    found = re.search(pattern, page)
    if found is None:
        raise SystemExit(f"the page has nothing like {pattern}")
    return found[1]


def _listen(browser: httpx.Client, topic: str) -> None:
    with browser.stream("GET", f"/events?{topic}", timeout=None) as stream:
        for _ in stream.iter_lines():
            pass


if __name__ == "__main__":
    main()
