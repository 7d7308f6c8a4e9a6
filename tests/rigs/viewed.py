"""The viewer in a real browser: what a person does to it, and what is then seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigs.chromium import Page, PageError, Pixels

WIDTH, HEIGHT = 1024, 600
ROOT = "document.querySelector('.viewer')"
HIDDEN = ("over", "position", "notice", "message")
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """On the stage, in pixels of the screen."""

    low: F64
    """x, y."""
    high: F64

    @property
    def middle(self) -> F64:
        return np.asarray((self.low + self.high) / 2)


class Viewed:
    """The page that shows one series. It is open, its findings are known and an image is drawn."""

    def __init__(self, page: Page, base: str, address: str) -> None:
        self.page = page
        self.base = base
        page.ask(
            "Emulation.setDeviceMetricsOverride",
            width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        page.ask("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
        page.go(f"{base}/view{address}")
        page.until(f"{ROOT}?.dataset.findings")
        for _ in range(2):  # the first finding is jumped to, and drawn in the next frame
            page.value("new Promise(requestAnimationFrame)")
        self.shown()

    def value(self, expression: str) -> Any:
        return self.page.value(expression)

    def shown(self) -> tuple[str, int, int]:
        """Plane, frame and image that are drawn, once something is."""
        plane, at, image = str(self.page.until(f"{ROOT}?.dataset.shown")).split()
        return plane, int(at), int(image)

    def shows(self, plane: str, at: int) -> None:
        """Waits until this frame is drawn."""
        self.page.until(f"{ROOT}.dataset.shown.startsWith('{plane} {at} ')")

    def at(self, at: int) -> None:
        """Waits until this frame, counted from 0, is asked for, drawn or not."""
        self.page.until(f"{ROOT}.querySelector('.viewer-slider').value === '{at + 1}'")

    def plane(self, name: str) -> int:
        """Presses the button of a plane; the frame that is then drawn, all images loaded."""
        self.page.click(f"{ROOT}.querySelector('[data-plane={name}]')")
        done = "true" if name == "axial" else f"{ROOT}.dataset.missing === '0'"
        self.page.until(f"{ROOT}.dataset.shown.startsWith('{name} ') && {done}")
        return self.shown()[1]

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            self.page.ask("Input.dispatchKeyEvent", type=kind, key=key, **text)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """touchStart, touchMove or touchEnd with fingers at these places of the stage."""
        x, y = self.corner()
        places = [{"x": x + px, "y": y + py, "id": n} for n, (px, py) in enumerate(points)]
        self.page.ask("Input.dispatchTouchEvent", type=kind, touchPoints=places)

    def lift(self, point: tuple[float, float], *rest: tuple[float, float]) -> None:
        """The last finger goes from this place; `rest`: where the others stay."""
        x, y = self.corner()
        gone = [{"x": x + point[0], "y": y + point[1], "id": len(rest)}]
        try:
            self.page.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=gone)
        except PageError:  # before Chromium 156 it was a move that leaves it out
            self.touch("touchMove", *rest)

    def corner(self) -> tuple[float, float]:
        x, y, _, _ = self.corner_and_size()
        return x, y

    def corner_and_size(self) -> tuple[float, float, float, float]:
        """Of the stage: left, top, width and height, in pixels of the screen."""
        x, y, width, height = self.value(
            f"(() => {{ const b = {ROOT}.querySelector('.viewer-stage').getBoundingClientRect();"
            " return [b.x, b.y, b.width, b.height]; })()"
        )
        return x, y, width, height

    def words(self, part: str) -> str:
        """What is said in the position, message, notice or note."""
        return str(self.value(f"{ROOT}.querySelector('.viewer-{part}').textContent"))

    def letters(self) -> list[str]:
        """Right, left, below, above."""
        found = self.value(
            f"[...{ROOT}.querySelectorAll('.viewer-letters text')].map(e => e.textContent)"
        )
        return [str(one) for one in found]

    def mark(self, finding: int, part: str) -> Bounds | None:
        """Where the outline or box of a finding lies, without the width of its line."""
        found = self.value(
            f"(() => {{ const e = {ROOT}.querySelector('[data-finding=\"{finding}\"] .{part}');"
            " if (!e) return null; const b = e.getBBox();"
            " return [b.x, b.y, b.x + b.width, b.y + b.height]; })()"
        )
        if found is None:
            return None
        return Bounds(np.array(found[:2], np.float64), np.array(found[2:], np.float64))

    def picture(self) -> Pixels:
        """What the stage shows of the image, without what lies over it: [rows, columns, 3]."""
        for visibility in ("hidden", ""):
            for name in HIDDEN:
                self.value(
                    f"{ROOT}.querySelector('.viewer-{name}').style.visibility = '{visibility}'"
                )
            if visibility:
                seen = self.page.picture()
        x, y = (round(v) for v in self.corner())
        width, height = self.value(
            f"(() => {{ const e = {ROOT}.querySelector('.viewer-stage');"
            " return [e.clientWidth, e.clientHeight]; })()"
        )
        return np.asarray(seen[y : y + height, x : x + width], np.uint8)


def extent(seen: NDArray[np.bool_]) -> Bounds:
    """Edges of what is set, from the corner of the first pixel."""
    rows, columns = np.nonzero(seen)
    low = np.array([columns.min(), rows.min()], np.float64)
    return Bounds(low, np.array([columns.max() + 1, rows.max() + 1], np.float64))
