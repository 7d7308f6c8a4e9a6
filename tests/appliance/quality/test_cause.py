"""The table of causes: a test a row, by the patterns that painted faults have in real CTs."""

from __future__ import annotations

import pytest

from appliance.quality.cause import IMAGES, VOLUMES, Change, cause
from appliance.watching.alarm import Cause, Statistic

S = Statistic
STILL = dict.fromkeys((S.NOISE, S.TEXTURE, S.SKIN, S.LUNG_EDGE, S.TISSUE, S.AIR, S.LUNG_SHARE), 0.0)


def change(
    moved: dict[Statistic, float],
    *,
    tissue_hu: float = 0.0,
    air_hu: float | None = 0.0,
    studies: int = 4,
    contrast: tuple[float, float] | None = (0.3, 0.25),
) -> Change:
    z = STILL | moved
    hu = {S.TISSUE: (tissue_hu, 6.0)}
    missing = frozenset[Statistic]()
    if air_hu is None:
        missing = frozenset({S.AIR})
        del z[S.AIR]
    else:
        hu[S.AIR] = (air_hu, 11.0)
    return Change(z=z, studies=studies, hu=hu, missing=missing, contrast=contrast)


BRIGHTER = {S.TISSUE: 2.7}
VOLUMES_CASES = [
    (Cause.DOSE, change({S.NOISE: 2.1, S.TEXTURE: 0.1, S.SKIN: -0.1})),
    (Cause.DOSE, change({S.NOISE: -2.1, S.TEXTURE: 0.2, S.SKIN: 0.1})),
    (Cause.SHARPER_KERNEL, change({S.NOISE: 2.7, S.TEXTURE: 0.6, S.SKIN: 2.7, S.LUNG_EDGE: 1.2})),
    (Cause.OFFSET, change({S.TISSUE: 2.7, S.AIR: 1.4}, tissue_hu=15, air_hu=15)),
    (Cause.OFFSET, change({S.TISSUE: -7.0, S.AIR: -3.6}, tissue_hu=-40, air_hu=-38)),
    (Cause.OFFSET, change({S.TISSUE: -7.0}, tissue_hu=-40, air_hu=None)),
    (Cause.SCALE, change({S.TISSUE: 19.0, S.NOISE: 0.9}, tissue_hu=110, air_hu=2)),
    (Cause.CONTRAST_MEDIUM, change(BRIGHTER, tissue_hu=15, air_hu=1, contrast=(0.1, 1.0))),
    (Cause.CONTRAST_MEDIUM, change({S.TISSUE: -2.7}, tissue_hu=-15, contrast=(0.9, 0.0))),
    (Cause.POSITIONING_OR_PROTOCOL, change({S.LUNG_SHARE: -4.0})),
    (
        Cause.POSITIONING_OR_PROTOCOL,
        change({S.LUNG_SHARE: -14.0, S.NOISE: -8.0, S.TISSUE: -7.0}, tissue_hu=-40, studies=1),
    ),
]
IMAGES_CASES = [
    (Cause.OFFSET, Change({S.MEAN: 1.3, S.CONTRAST: 0.0, S.HALVES: 0.0}, 50, {})),
    (Cause.SCALE, Change({S.MEAN: 1.4, S.CONTRAST: 0.8, S.HALVES: -0.1}, 50, {})),
    (Cause.POSITIONING_OR_PROTOCOL, Change({S.MEAN: 0.0, S.HALVES: 1.0}, 50, {})),
]


@pytest.mark.parametrize(("named", "pattern"), VOLUMES_CASES + IMAGES_CASES)
def test_a_cause_is_named_by_its_pattern(named: Cause, pattern: Change) -> None:
    assert cause(pattern) is named


def test_every_row_has_its_test() -> None:
    for rows, cases in ((VOLUMES, VOLUMES_CASES), (IMAGES, IMAGES_CASES)):
        assert {named for named, _ in rows} == {named for named, _ in cases}
    assert {named for named, _ in VOLUMES} | {Cause.UNCLEAR} == set(Cause)


@pytest.mark.parametrize(
    "pattern",
    [
        change({}),
        change({S.NOISE: -3.8, S.TEXTURE: -5.2, S.SKIN: -3.4}),  # a softer kernel
        change({S.NOISE: 2.5, S.TEXTURE: 0.3, S.SKIN: 0.8, S.LUNG_EDGE: 0.4}),  # between two
        change(BRIGHTER, tissue_hu=15, air_hu=7.5),  # half of it follows
        change(BRIGHTER, tissue_hu=15, air_hu=0, contrast=None),  # scale, or contrast medium
        change(BRIGHTER, tissue_hu=15, air_hu=None),  # upward, and air is gone
        Change({S.LAPLACIAN: 4.0, S.MEAN: 0.0, S.CONTRAST: 0.2}, 50, {}),  # noise, or sharpness
        Change({S.MEAN: -1.8, S.HALVES: 1.0}, 50, {}),  # turned round
        Change({}, 1, {}),
    ],
)
def test_what_cannot_tell_says_unclear(pattern: Change) -> None:
    assert cause(pattern) is Cause.UNCLEAR


def test_the_mean_of_few_studies_is_unsure() -> None:
    moved = {S.NOISE: 2.1}
    assert cause(change(moved, studies=1)) is Cause.UNCLEAR
    assert cause(change(moved, studies=9)) is Cause.DOSE
