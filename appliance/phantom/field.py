"""Smooth fields of the phantom: where in the person each point of an image is drawn from.

Rules of this module:

1. A field is a formula, so what it says is exact at any point; its inverse is iterated until it
   misses by less than EXACT_MM.
2. Points are LPS millimetres, float64 [n, 3]; the person's carina is at (0, 0, 0) (`anatomy`).
   `to_person` maps points of the image to points of the person, `to_image` back.
3. A breath moves the domes of the diaphragm most and the apex least, the back of the lung more than
   its front, and draws the chest in; ribs go a few millimetres with it while the lung slides along
   them. It is at most MOST_MM, as between two scans that were both asked for in inspiration.
4. A build is another body: stretched along each axis and rippled, with another relief of the lungs.
5. No field folds: its determinant stays above 0. A test holds it at the largest of all figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

MOST_MM: Final = 25.0
"""Of a breath, at the domes."""
EXACT_MM: Final = 1e-4
_APEX_Z, _DOME_Z, _BACK_Y = 95.0, -100.0, 90.0
_DRAWN_IN: Final = 0.02
"""Of breadth and depth, by a breath of MOST_MM at the height of the domes."""
_WALL_SHARE: Final = 0.15
"""Of the lift, what the ribs follow of it."""
_RELIEF_WAVE_MM: Final = 50.0
_STEPS: Final = 200


@dataclass(frozen=True, slots=True)
class Field:
    """A breath and a build. `phases` are nine values of 0..2 pi."""

    phases: tuple[float, ...]
    lift_mm: float = 0.0
    """How much higher the domes stand in the image than in the person; below 0 lower."""
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """How much larger the image is than the person along x, y, z."""
    ripple_mm: float = 0.0
    """The largest displacement along each axis by slow waves."""
    wave_mm: float = 140.0
    """Their length."""
    relief_mm: float = 0.0
    """The same of short waves, which give the inner organs another relief, and the wall none."""

    def to_person(self, points: Points) -> Points:
        """Where the inner organs at these points of the image come from."""
        return self._built(self._breathed(points, self.lift_mm), self.relief_mm)

    def wall_to_person(self, points: Points) -> Points:
        """Where the chest wall at these points of the image comes from."""
        return self._built(self._breathed(points, self.lift_mm, _WALL_SHARE), 0.0)

    def to_image(self, points: Points, within_mm: float = EXACT_MM) -> Points:
        """Where these points of the person's inner organs lie in the image."""
        goal = np.asarray(points, np.float64)
        found: Points = goal.copy()
        for _ in range(_STEPS):
            miss = goal - self.to_person(found)
            found += miss
            if not miss.size or float(np.abs(miss).max()) < within_mm:
                break
        return found

    def pressed(self, points: Points) -> npt.NDArray[np.float64]:
        """[n]: volume in the person of a unit of volume in the image, by the breath alone: so much
        denser is the lung. It is the determinant of the derivative of `to_person` without waves."""
        y, z = np.asarray(points, np.float64)[:, 1:3].T
        low, steep = _low(z)
        back, tilt = _back(y)
        drawn_in = _DRAWN_IN * self.lift_mm / MOST_MM
        wide = 1 + drawn_in * low
        deep = 1 - self.lift_mm * steep * back
        # rows and columns y, z of the derivative; x takes part in its own place alone
        turned = (y - _BACK_Y) * drawn_in * steep * self.lift_mm * low * tilt
        found: npt.NDArray[np.float64] = wide * (wide * deep + turned)
        return found

    def _breathed(self, points: Points, lift_mm: float, share: float = 1.0) -> Points:
        x, y, z = np.asarray(points, np.float64).T
        low, back = _low(z)[0], _back(y)[0]
        drawn_in = _DRAWN_IN * lift_mm / MOST_MM * low
        return np.stack(
            [
                x * (1 + drawn_in),
                y + (y - _BACK_Y) * drawn_in,
                z - share * lift_mm * low * back,
            ],
            axis=1,
        )

    def _built(self, points: Points, relief_mm: float) -> Points:
        pivot = np.array([0.0, 60.0, 0.0])  # the spine stays where it is
        built: Points = (points - pivot) / self.stretch + pivot
        if self.ripple_mm:
            built += self.ripple_mm * self._waves(points, self.wave_mm)
        if relief_mm:
            built += relief_mm * self._waves(points, _RELIEF_WAVE_MM)
        return built

    def _waves(self, points: Points, length_mm: float) -> Points:
        x, y, z = points.T
        p, w = self.phases, 2 * np.pi / length_mm
        return np.stack(
            [
                np.sin(w * z + p[0]) * np.cos(0.8 * w * y + p[1]) * np.cos(0.6 * w * x + p[2]),
                np.sin(0.9 * w * x + p[3]) * np.cos(0.7 * w * z + p[4]) * np.cos(w * y / 2 + p[5]),
                np.sin(w * y + p[6]) * np.cos(0.9 * w * x + p[7]) * np.cos(0.6 * w * z + p[8]),
            ],
            axis=1,
        )


def _low(z: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How far towards the domes, 0..1, and its derivative by z."""
    t = np.clip((_APEX_Z - z) / (_APEX_Z - _DOME_Z), 0, 1)
    return t * t * (3 - 2 * t), -6 * t * (1 - t) / (_APEX_Z - _DOME_Z)


def _back(y: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How much of the lift at this depth, and its derivative by y."""
    part = 1 / (1 + np.exp(-(y + 20) / 30))
    return 0.75 + 0.25 * part, 0.25 * part * (1 - part) / 30


def breath(rng: np.random.Generator, lift_mm: float) -> Field:
    """The same person in another breath: domes that stand `lift_mm` higher than before, and slow
    waves of 1.5 mm, for no two breaths are alike. ValueError beyond MOST_MM."""
    if abs(lift_mm) > MOST_MM:
        raise ValueError(f"a breath lifts the domes by at most {MOST_MM:.0f} mm, not {lift_mm}")
    return Field(_phases(rng), lift_mm=lift_mm, ripple_mm=1.5)


def build(rng: np.random.Generator) -> Field:
    """Another person: broader or narrower by up to a tenth along each axis, with another shape of
    heart, domes and ribs."""
    x, y, z = (float(v) for v in rng.uniform(0.90, 1.05, 3))
    return Field(_phases(rng), stretch=(x, y, z), ripple_mm=8.0, wave_mm=230.0, relief_mm=3.0)


def _phases(rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(float(v) for v in rng.uniform(0, 2 * np.pi, 9))
