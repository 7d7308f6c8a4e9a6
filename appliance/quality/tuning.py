"""Which tuning a series gets, and what it does to a bundle. Pure.

    texture and noise of a series, the tunings that were accepted -> one of them, or none
    manifest, SD -> the same manifest, whose networks of detection see softened voxels

Rules.
1. A series gets a tuning where its texture and its noise reach what the tuning asks for; of several
   the one that asks for the sharpest texture. What could not be measured gets none.
2. A tuning is made for a scanner whose texture is above the usual one by LEAST of it, and counts
   from half way between the two: what is as it always was is left alone, whatever its tags say.
3. Detection alone is softened: networks that propose and classify nodules. The network of lungs and
   those that measure see the scanner's own pixels, and so does the network of masses, which draws
   what is measured and looks at voxels of 3 mm, of which a sharp kernel changes little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.bundle.manifest import Manifest, Network
from appliance.preprocess.spec import Op, Pad, Soften, Window, ZScore
from appliance.quality import series
from appliance.records import Plane
from appliance.watching.quality import VolumeQuality
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning

DETECTION: Final = frozenset({"propose", "classify", "cube"})
"""Roles that are softened."""
LEAST: Final = 0.03
"""Of the usual texture: noise of half the dose moves it by up to 2 % (quality/noise.py)."""


def made(
    scanner: Scanner,
    soften_mm: float,
    *,
    usual_per_mm: float,
    seen_per_mm: float,
    from_hu: float = 0.0,
) -> Tuning:
    """A tuning for series like those of `seen_per_mm`. `usual_per_mm`: texture of the row before it
    changed, or else of the library. ValueError by rule 2 where they are alike."""
    if not is_sharper(seen_per_mm, usual_per_mm):
        raise ValueError(
            f"a texture of {seen_per_mm:.3f}/mm is not above the usual {usual_per_mm:.3f}/mm"
        )
    middle = round((usual_per_mm + seen_per_mm) / 2, 4)
    return Tuning(scanner=scanner, soften_mm=soften_mm, from_per_mm=middle, from_hu=from_hu)


def is_sharper(seen_per_mm: float | None, usual_per_mm: float | None) -> bool:
    """Rule 2; False where one of them is not known."""
    if seen_per_mm is None or usual_per_mm is None:
        return False
    return seen_per_mm >= usual_per_mm * (1 + LEAST)


def of(tunings: Sequence[Tuning], planes: Sequence[Plane]) -> Tuning | None:
    """Rule 1, for the slices of a series."""
    return chosen(tunings, series.measured(planes)) if tunings else None


def chosen(tunings: Sequence[Tuning], measured: VolumeQuality | None) -> Tuning | None:
    """Rule 1."""
    if measured is None or measured.texture_per_mm is None or measured.noise_hu is None:
        return None
    texture, noise_hu = measured.texture_per_mm, measured.noise_hu
    fitting = [t for t in tunings if texture >= t.from_per_mm and noise_hu >= t.from_hu]
    return max(fitting, key=lambda t: (t.from_per_mm, t.from_hu, t.digest), default=None)


def tuned(manifest: Manifest, sd_mm: float) -> Manifest:
    """The manifest of a bundle with the op `soften` of so many mm where it detects. It describes no
    file: its digest means nothing."""
    networks = {
        role: _softened(network, sd_mm) if role in DETECTION else network
        for role, network in manifest.networks.items()
    }
    return manifest.model_copy(update={"networks": networks})


def _softened(network: Network, sd_mm: float) -> Network:
    """With the op in its place, instead of one that is there: softened once as much as by both."""
    ops = network.preprocess
    before = [op.sd_mm for op in ops if isinstance(op, Soften)]
    sd_mm = sum(mm**2 for mm in (*before, sd_mm)) ** 0.5
    rest = [op for op in ops if not isinstance(op, Soften)]
    at = next((i for i, op in enumerate(rest) if isinstance(op, (Window, ZScore, Pad))), len(rest))
    changed: tuple[Op, ...] = (*rest[:at], Soften(sd_mm=sd_mm), *rest[at:])
    return network.model_copy(update={"preprocess": changed})
