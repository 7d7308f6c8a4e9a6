"""Water phantoms as tests want them: small images, few slices."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from appliance.phantom import instances, water
from appliance.phantom.water import Water
from appliance.preprocess import fast
from appliance.records import Plane
from appliance.series import pixels

MM = (5.0, 0.98, 0.98)
ROWS = 256


def images(
    phantom: Water = Water(),  # noqa: B008 - frozen
    *,
    spacing_mm: tuple[float, float, float] = MM,
    slices: int = 6,
    rows: int | None = None,
    seed: int = 1,
    series_uid: str = "1.2.3.9.5",
) -> list[Dataset]:
    """CT instances; by default 251 mm wide."""
    made = water.series(
        phantom,
        spacing_mm=spacing_mm,
        slices=slices,
        rows=rows or round(ROWS * MM[1] / spacing_mm[1]),
        seed=seed,
        study_uid="1.2.3.9",
        series_uid=series_uid,
    )
    return list(made)


def packed(every: Sequence[Dataset]) -> list[bytes]:
    """The same as Part-10 files."""
    return [instances.packed(one) for one in every]


def planes(every: Sequence[bytes]) -> list[Plane]:
    """Part-10 files as a line has them."""
    return [fast.plane(one, ()) for file in every for one in pixels.images(pixels.parse(file))]


def seen(phantom: Water = Water(), **how: object) -> list[Plane]:  # noqa: B008 - frozen
    """A phantom as a line has it; `how` as of `images`."""
    return planes(packed(images(phantom, **how)))  # type: ignore[arg-type]
