"""Headless Chromium, driven over its DevTools protocol.

Rules
1. The protocol runs through two pipes that the browser has as descriptors 3 and 4: messages are
   JSON, each ended by a zero byte (`--remote-debugging-pipe`). No port is open, and no library is
   needed.
2. No name but that of this machine is resolved, so that a page has nothing from elsewhere.
3. What a page cannot do within HANG_S ends the test. Nothing is waited for by a fixed time.
"""

from __future__ import annotations

import base64
import json
import queue
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rigs.programs import program

HANG_S = 120.0
"""Software rendering on a busy machine is slow; nothing takes a quarter of it on an idle one."""
WIDTH, HEIGHT = 1600, 1000
FLAGS = (
    "--headless",
    "--no-sandbox",  # of root, who runs CI in a container
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a GPU
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    f"--window-size={WIDTH},{HEIGHT}",
)
_PIPES = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null'
Pixels = NDArray[np.uint8]


class PageError(AssertionError):
    """The page threw, or did not come to what was awaited."""


class Chromium:
    """A browser with a profile of its own, while the context is open. Skips where it is missing."""

    def __init__(self, folder: Path) -> None:
        self.program = program("chromium")
        self.folder = folder
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._number = 0
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Chromium:
        command = [self.program, *FLAGS, f"--user-data-dir={self.folder / 'profile'}"]
        with (self.folder / "chromium.log").open("wb") as log:
            self.child = subprocess.Popen(
                ["/bin/sh", "-c", _PIPES, "sh", *command, "--remote-debugging-pipe"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.child.stdout is not None
        threading.Thread(target=self._listen, args=[self.child.stdout], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.child is not None
        assert self.child.stdin is not None
        try:
            self.ask("Browser.close")
            self.child.stdin.close()
            self.child.wait(HANG_S)
        finally:
            self.child.kill()
            self.child.wait(HANG_S)

    def page(self) -> Page:
        """A new, empty one."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, target, session)

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The answer to a command; events that come meanwhile are dropped."""
        assert self.child is not None
        assert self.child.stdin is not None
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self.child.stdin.write(json.dumps(message).encode() + b"\0")
        self.child.stdin.flush()
        end = time.monotonic() + HANG_S
        answer: dict[str, Any] = {}
        while answer.get("id") != self._number:
            try:
                answer = self._said.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise PageError(f"no answer to {method} within {HANG_S} s") from None
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        found: dict[str, Any] = answer["result"]
        return found

    def _listen(self, pipe: IO[bytes]) -> None:
        rest = b""
        while data := pipe.read1(1 << 20):  # type: ignore[attr-defined]
            *whole, rest = (rest + data).split(b"\0")
            for message in whole:
                self._said.put(json.loads(message))


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **params)

    def go(self, url: str) -> None:
        self.ask("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to. PageError where it throws."""
        found = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            said = found["exceptionDetails"]
            raise PageError(said.get("exception", {}).get("description") or said["text"])
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = HANG_S) -> Any:
        """The first true value of an expression."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.value(expression):
                return found
            time.sleep(0.2)
        raise PageError(f"not within {seconds} s: {expression}\n{self.text()}")

    def text(self) -> str:
        """All that a person can read on it."""
        return str(self.value("document.body.innerText"))

    def click(self, element: str, times: int = 1) -> None:
        """The middle of the element that an expression names, with the mouse."""
        box = self.until(
            f"(() => {{ const e = {element}; if (!e) return null; "
            "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect(); "
            "return b.width && [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        at = {"x": box[0], "y": box[1], "button": "left"}
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.ask("Input.dispatchMouseEvent", type=kind, clickCount=count, **at)

    def picture(self) -> Pixels:
        """What is seen, [rows, columns, 3], blue first as OpenCV has it."""
        return decoded(self.ask("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        self._browser.ask("Target.closeTarget", targetId=self._target)


def decoded(png: str) -> Pixels:
    """A PNG in base64 -> [rows, columns, 3], blue first."""
    found = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return np.asarray(found, np.uint8)
