"""What the line has of a made-up chest -> its entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.preprocess import plan
from appliance.prior import made, packed
from appliance.prior.entry import CUBE, HIGH_HU, IMAGE_MM, LOW_HU, MOST_CUBES, Entry, Person
from appliance.prior.patient import Said
from appliance.reasons import Code
from appliance.records import Grid, Mask, Stack
from appliance.report import Finding, Reason, Report, Scored, Scores
from rigs import entries
from rigs.blurred import stacked
from rigs.reports import DIGEST

SPACING = (1.25, 0.7, 0.7)
SHAPE = (80, 160, 160)
CENTER = (56.0, 56.0, 50.0)
"""Of a ball of tissue in the lungs, LPS."""
PERSON = Person(key="0" * 64)
SAID = (Said(taken="20240102030405", agent="Iohexol"), Said(taken="20240102030400"))


def places(shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, ...]:
    """z, y, x of the voxels in mm."""
    return tuple(np.meshgrid(*(np.arange(n) * mm for n, mm in zip(shape, SPACING, strict=True)),
                             indexing="ij", sparse=True))  # fmt: skip


def chest(noise_hu: float = 10.0, *, round_field: bool = False) -> Stack:
    z, y, x = places()
    lung = (z - 50) ** 2 / 40**2 + (y - 56) ** 2 / 35**2 + (x - 56) ** 2 / 40**2 < 1
    ball = (z - CENTER[2]) ** 2 + (y - CENTER[1]) ** 2 + (x - CENTER[0]) ** 2 < 5**2
    hu = np.where(lung & ~ball, -850.0, 40.0)
    hu += noise_hu * np.random.default_rng(2).standard_normal(SHAPE)
    if round_field:
        hu = np.where((y - 56) ** 2 + (x - 56) ** 2 < 54**2, hu, -1000.0)
    return stacked(np.rint(hu).astype(np.int16), SPACING, padding=round_field)


def lungs(stack: Stack, mm: float = 2.5) -> Mask:
    """The lungs on a coarser grid of their own, as the network draws them."""
    grid = plan.grid_of(stack, (mm, mm, mm))
    at = plan.to_lps(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    x, y, z = np.moveaxis(at, -1, 0)
    inside = (z - 50) ** 2 / 40**2 + (y - 56) ** 2 / 35**2 + (x - 56) ** 2 / 40**2 < 1
    return Mask("lungs", inside, grid)


def body() -> Mask:
    """The ball, on a small grid of 0.8 mm around it."""
    grid = entries.grid((20, 20, 20), 0.8, tuple(v - 9.5 * 0.8 for v in CENTER))  # type: ignore[arg-type]
    away = plan.to_lps(grid, np.moveaxis(np.indices(grid.shape), 0, -1)) - CENTER
    return Mask("finding-1", np.linalg.norm(away, axis=-1) < 5, grid)


def finding(number: int = 1, score: float = 0.9) -> Finding:
    x, y, z = CENTER
    return Finding(
        id=number,
        tracking_uid="2.25.1",
        kind="nodule",
        score=score,
        threshold=0.5,
        center_lps_mm=(x, y, z + number - 1),
        box_lps_mm=(x, y, z, x + 1, y + 1, z + 1),
        diameter_mm=10.0,
        key_image=40,
    )


def report(*findings: Finding, limitations: tuple[Reason, ...] = ()) -> Report:
    return entries.report().model_copy(update={"findings": findings, "limitations": limitations})


def scored(*scores: float) -> Scores:
    x, y, z = CENTER
    found = (
        Scored(score=s, center_lps_mm=(x, y + 3.0 * i, z), diameter_mm=5.0 + i)
        for i, s in enumerate(scores)
    )
    return Scores(threshold=0.5, candidates=tuple(found))


def entry(stack: Stack, said: Report | None = None, scores: Scores | None = None) -> Entry:
    return made.made(
        stack,
        lungs(stack),
        {1: body()},
        scores or scored(0.9, 0.4, 0.3, 0.2),
        said or report(finding()),
        person=PERSON,
        said=SAID,
        most_candidates=4,
    )


CHEST = chest()
ENTRY = entry(CHEST)


def at(grid: Grid, lps: tuple[float, float, float]) -> tuple[int, int, int]:
    return plan.triple(np.rint(plan.to_index(grid, lps)))


def test_the_image_is_the_lungs_and_16_mm_around_them_at_2_mm() -> None:
    image = ENTRY.image
    assert image.grid.spacing_mm == (IMAGE_MM,) * 3
    assert image.values.shape == image.lungs.shape == image.covered.shape == image.grid.shape
    low, high = (
        plan.to_lps(image.grid, ends) for ends in ((0, 0, 0), np.subtract(image.grid.shape, 1))
    )
    assert np.allclose(low, (0, 5, 0), atol=3)  # cut by the series along x and z
    assert np.allclose(high, (111, 107, 99), atol=3)


def test_grey_values_are_hu_from_minus_1000_to_400() -> None:
    def hu(lps: tuple[float, float, float]) -> float:
        value = ENTRY.image.values[at(ENTRY.image.grid, lps)]
        return LOW_HU + float(value) * (HIGH_HU - LOW_HU) / 255

    assert hu(CENTER) == pytest.approx(40, abs=15)
    assert hu((30.0, 56.0, 50.0)) == pytest.approx(-850, abs=15)


def test_a_voxel_is_the_mean_of_what_it_holds_so_noise_falls() -> None:
    z, _, _ = places()
    stripes = np.broadcast_to(np.where(np.arange(160) % 2, 200, -200), SHAPE).astype(np.int16)
    image = entry(stacked(stripes, SPACING)).image.values.astype(float)
    assert np.abs(image - 255 * 1000 / 1400).max() < 20, "stripes of one pixel are not aliased"
    thin = np.where(np.arange(80) % 2, 200, -200).astype(np.int16)[:, None, None]
    across = entry(stacked(np.broadcast_to(thin, SHAPE).copy(), SPACING)).image.values.astype(float)
    assert np.abs(across[1:-1] - 255 * 1000 / 1400).max() < 25, "nor slices"
    assert z.shape[0] == SHAPE[0]


def test_the_lungs_are_laid_onto_the_image() -> None:
    at_lps = plan.to_lps(ENTRY.image.grid, np.moveaxis(np.indices(ENTRY.image.grid.shape), 0, -1))
    x, y, z = np.moveaxis(at_lps, -1, 0)
    away = np.sqrt((z - 50) ** 2 / 40**2 + (y - 56) ** 2 / 35**2 + (x - 56) ** 2 / 40**2)
    assert ENTRY.image.lungs[away < 0.95].all()
    assert not ENTRY.image.lungs[away > 1.05].any()


def test_the_padding_around_a_round_field_is_not_covered() -> None:
    stack = chest(round_field=True)
    image = entry(stack).image
    at_lps = plan.to_lps(image.grid, np.moveaxis(np.indices(image.grid.shape), 0, -1))
    away = np.hypot(at_lps[..., 0] - 56, at_lps[..., 1] - 56)
    assert image.covered[away < 52].all()
    assert not image.covered[away > 56].any()
    assert ENTRY.image.covered.all()


def test_where_a_slice_is_missing_is_not_covered() -> None:
    kept = [k for k in range(80) if k not in range(30, 35)]
    holed = replace(CHEST, planes=tuple(CHEST.planes[k] for k in kept), z_mm=CHEST.z_mm[kept])
    image = entry(holed).image
    shown = image.covered.all(axis=(1, 2))
    hole = [at(image.grid, (56.0, 56.0, mm))[0] for mm in (39.5, 40.5)]
    assert not shown[hole].any()
    assert shown.sum() >= len(shown) - 4


def test_cubes_are_of_findings_then_of_candidates_from_half_the_threshold() -> None:
    assert [(one.finding, one.score) for one in ENTRY.cubes] == [(1, 0.9), (None, 0.4), (None, 0.3)]
    assert [one.diameter_mm for one in ENTRY.cubes] == [10.0, 6.0, 7.0]
    assert ENTRY.facts.candidates == scored(0.9, 0.4, 0.3, 0.2).candidates


def test_a_cube_holds_the_hu_and_the_body_around_its_centre() -> None:
    cube = ENTRY.cubes[0]
    assert cube.hu.shape == (CUBE,) * 3
    away = np.linalg.norm(plan.to_lps(cube.grid, np.moveaxis(np.indices(cube.hu.shape), 0, -1))
                          - CENTER, axis=-1)  # fmt: skip
    assert np.median(cube.hu[away < 4]) == pytest.approx(40, abs=5)
    assert np.median(cube.hu[(away > 7) & (away < 12)]) == pytest.approx(-850, abs=5)
    assert cube.body is not None
    assert cube.body[away < 4.4].all()
    assert not cube.body[away > 5.6].any()
    assert ENTRY.cubes[1].body is None


def test_outside_of_the_images_a_cube_is_air() -> None:
    scores = Scores(threshold=0.5, candidates=(Scored(score=0.4, center_lps_mm=(2.0, 56.0, 50.0)),))
    (cube,) = entry(CHEST, report(), scores).cubes
    at_lps = plan.to_lps(cube.grid, np.moveaxis(np.indices(cube.hu.shape), 0, -1))
    assert np.all(cube.hu[at_lps[..., 0] < -1] == -1000)
    assert cube.diameter_mm is None


def test_no_more_cubes_are_kept_than_an_entry_may_have_and_findings_come_first() -> None:
    many = tuple(finding(n, 0.9 - n / 100) for n in range(1, 21))
    kept = entry(CHEST, report(*many), scored(*(0.45 - i / 1000 for i in range(30)))).cubes
    assert len(kept) == MOST_CUBES
    assert [one.finding for one in kept[:21]] == [*range(1, 21), None]


def test_an_entry_that_would_be_too_large_keeps_fewer_cubes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed, "MOST_BYTES", len(packed.pack(ENTRY)) - 1)
    smaller = entry(CHEST)
    assert [one.finding for one in smaller.cubes] == [1, None]
    assert len(packed.pack(smaller)) <= packed.MOST_BYTES


def test_the_facts_are_those_of_headers_and_report() -> None:
    facts = ENTRY.facts
    assert (facts.taken, facts.contrast) == ("20240102030400", True)
    assert (facts.spacing_mm, facts.bundle_digest, facts.threshold) == (SPACING, DIGEST, 0.5)
    assert facts.names.key_images == ((1, "1.2.3.4"),)
    assert facts.pseudonym == ENTRY.report.study.pseudonym
    assert not facts.diseased
    sick = (Reason(code=Code.DIFFUSE_DISEASE, text="x"),)
    assert entry(CHEST, report(finding(), limitations=sick)).facts.diseased


@pytest.mark.parametrize(
    ("scores", "full"),
    [((0.9,), False), ((0.9, 0.4, 0.3, 0.2), False), ((0.9, 0.4, 0.3, 0.25), True)],
)
def test_a_list_is_full_where_its_last_place_still_matters(
    scores: tuple[float, ...], full: bool
) -> None:
    assert entry(CHEST, scores=scored(*scores)).facts.list_full is full


def test_what_differs_between_images_is_unknown() -> None:
    said = {"kernel": "B70f", "manufacturer": "A", "thickness_mm": 1.0}
    planes = [replace(p, header=replace(p.header, **said)) for p in CHEST.planes]
    agreed = entry(replace(CHEST, planes=tuple(planes))).facts
    assert (agreed.kernel, agreed.maker, agreed.thickness_mm) == ("B70f", "A", 1.0)
    planes[3] = replace(planes[3], header=replace(planes[3].header, kernel="B30f"))
    mixed = entry(replace(CHEST, planes=tuple(planes))).facts
    assert (mixed.kernel, mixed.maker) == (None, "A")


def test_the_digest_is_of_the_pixels_alone() -> None:
    other = tuple(
        replace(p, header=replace(p.header, study_uid="9.9", sop_instance_uid=f"9.{k}"), digest="x")
        for k, p in enumerate(CHEST.planes)
    )
    assert made.pixel_digest(replace(CHEST, planes=other)) == ENTRY.facts.pixel_digest
    assert made.pixel_digest(chest(noise_hu=10.01)) != ENTRY.facts.pixel_digest
    assert made.pixel_digest(replace(CHEST, planes=CHEST.planes[1:])) != ENTRY.facts.pixel_digest


def test_it_comes_back_from_its_bytes_and_has_their_digest() -> None:
    back = packed.unpacked(packed.pack(ENTRY))
    assert entries.same(back, ENTRY)
    assert back.digest == ENTRY.digest


def test_the_same_series_makes_the_same_entry() -> None:
    assert entry(chest()).digest == ENTRY.digest


def test_without_lungs_or_a_bundle_there_is_no_entry() -> None:
    empty = replace(lungs(CHEST), voxels=np.zeros(lungs(CHEST).grid.shape, np.bool_))
    with pytest.raises(ValueError, match="empty"):
        made.made(CHEST, empty, {}, scored(), report(), person=PERSON, said=SAID, most_candidates=9)
    bare = report().model_copy(update={"bundle": None})
    with pytest.raises(ValueError, match="bundle"):
        entry(CHEST, bare)
