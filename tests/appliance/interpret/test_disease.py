"""Disease of the lungs from drawn maps: how many ml on which side, and what is unsure for it."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.bundle.heads import DISEASES, DiseaseHead
from appliance.errors import Poisoned
from appliance.interpret import disease, segment
from appliance.interpret.detect import DOUBTFUL_SCORE
from appliance.preprocess import plan
from appliance.reasons import Code
from appliance.records import Box, Grid, Mask, Stack, Tensor
from appliance.report import Finding

HEAD = DiseaseHead(output="disease", diffuse_share=0.1)
SHAPE = (40, 40, 60)
"""Of 4 mm. Two lungs of 20 x 24 x 16 voxels, 491.5 ml each."""
RIGHT, LEFT = Box((10, 8, 8), (30, 32, 24)), Box((10, 8, 36), (30, 32, 52))
CONSOLIDATED, GLASS, EMPHYSEMA = (DISEASES.index(n) + 1 for n in DISEASES)
ML = 0.064
"""Of a voxel."""


def part(box: Box) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))


@pytest.fixture
def grid(grid_of) -> Grid:
    return grid_of(SHAPE, (4.0, 4.0, 4.0))


def lungs_on(grid: Grid, *boxes: Box) -> Mask:
    voxels = np.zeros(grid.shape, bool)
    for box in boxes or (RIGHT, LEFT):
        voxels[part(box)] = True
    return Mask("lungs", voxels, grid)


def drawn(grid: Grid, *boxes: tuple[int, Box], lungs: Mask | None = None) -> disease.Drawn:
    """Through logits in which each box is of a class and the padding shouts of emphysema."""
    padded = tuple(n + 8 for n in grid.shape)
    logits = np.zeros((1, 4, *padded), np.float32)
    logits[:, EMPHYSEMA] = 9.0
    z, y, x = grid.shape
    logits[0, :, :z, :y, :x] = np.array([1.0, 0, 0, 0])[:, None, None, None]
    for kind, box in boxes:
        logits[(0, kind, *part(box))] = 2.0
    image = Tensor(None, (1, 1, *padded), grid)
    return disease.drawn({"disease": logits}, image, HEAD, lungs or lungs_on(grid))


def at(grid: Grid, *voxel: float) -> tuple[float, float, float]:
    return plan.vector(plan.to_lps(grid, voxel))


def middle(grid: Grid) -> float:
    return float(plan.to_lps(grid, np.subtract(grid.shape, 1) / 2)[0])


def a_finding(grid: Grid, number: int, *voxel: float, **more: object) -> Finding:
    usual = {"kind": "nodule", "score": 0.9, "threshold": 0.5, "diameter_mm": 8.0, "key_image": 0}
    place = {"center_lps_mm": at(grid, *voxel), "box_lps_mm": (0.0,) * 6}
    return Finding(id=number, tracking_uid="", **{**usual, **place, **more})


def limited(said: disease.Drawn, stack: Stack) -> tuple[object, ...]:
    return disease.limitation(said, HEAD, stack, segment.coverage(said.lungs, stack))


def test_ml_are_counted_by_class_and_side_inside_the_lungs_alone(grid) -> None:
    said = drawn(
        grid,
        (CONSOLIDATED, Box((10, 8, 0), (20, 18, 16))),  # half of it right of the lung
        (GLASS, Box((20, 8, 36), (30, 13, 52))),
        (EMPHYSEMA, Box((10, 20, 48), (13, 30, 60))),
    )
    found = disease.figures(said, middle(grid))
    assert found.right.lung_ml == found.left.lung_ml == round(20 * 24 * 16 * ML)
    assert found.right.consolidated_ml == round(10 * 10 * 8 * ML)
    assert found.left.ground_glass_ml == round(10 * 5 * 16 * ML)
    assert found.left.emphysema_ml == round(3 * 10 * 4 * ML)
    zero = (found.right.ground_glass_ml, found.right.emphysema_ml, found.left.consolidated_ml)
    assert zero == (0, 0, 0)
    sick = 10 * 10 * 8 + 10 * 5 * 16 + 3 * 10 * 4
    assert said.share == pytest.approx(sick / (2 * 20 * 24 * 16))


def test_the_side_is_the_patients_however_the_images_lie(grid_of, axes) -> None:
    """A cube of a body, the right lung diseased; which voxels those are depends on the images."""
    grid = grid_of((48, 48, 48), (4.0, 4.0, 4.0), axes=axes)
    places = plan.to_lps(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    away = places - plan.to_lps(grid, np.subtract(grid.shape, 1) / 2)
    inside = (np.abs(away[..., 1]) < 40) & (np.abs(away[..., 2]) < 40)
    right = inside & (away[..., 0] < -10) & (away[..., 0] > -60)
    left = inside & (away[..., 0] > 10) & (away[..., 0] < 60)
    said = disease.Drawn(
        Mask("lungs", right | left, grid), np.where(right, GLASS, 0).astype(np.uint8)
    )
    found = disease.figures(said, middle(grid))
    assert found.right.ground_glass_ml == found.right.lung_ml > 300
    assert found.left.ground_glass_ml == 0
    assert found.left.lung_ml == pytest.approx(found.right.lung_ml, rel=0.1)


def test_the_limitation_stands_from_the_share_on_and_gives_the_figures(grid, stack_of) -> None:
    stack = stack_of(grid)
    whole = Box((10, 8, 8), (30, 14, 24))  # a quarter of the right lung: .125 of both
    (said,) = limited(drawn(grid, (CONSOLIDATED, whole)), stack)
    assert said.code is Code.DIFFUSE_DISEASE
    assert said.disease.right.consolidated_ml == round(20 * 6 * 16 * ML)
    assert said.text == (
        "Disease takes up 12 % of the lungs. In the right lung of 492 ml: 123 ml consolidated, "
        "0 ml ground glass, 0 ml emphysema; left lung of 492 ml: 0 ml consolidated, 0 ml ground "
        "glass, 0 ml emphysema."
    )
    less = Box((10, 8, 8), (29, 12, 24))
    assert limited(drawn(grid, (CONSOLIDATED, less)), stack) == ()
    assert limited(drawn(grid), stack) == ()


def test_what_is_thinner_than_three_voxels_is_a_rim_or_a_vessel_and_counts_as_nothing(grid) -> None:
    """A sheet on the diaphragm and a vessel, each two voxels thick, then the same of three."""
    thin = drawn(
        grid,
        (CONSOLIDATED, Box((10, 8, 8), (12, 32, 24))),
        (EMPHYSEMA, Box((15, 10, 40), (28, 12, 42))),
    )
    assert thin.share == 0
    sheet, vessel = Box((10, 8, 8), (13, 32, 24)), Box((15, 10, 40), (28, 13, 43))
    thick = drawn(grid, (CONSOLIDATED, sheet), (EMPHYSEMA, vessel))
    counts = np.bincount(thick.classes.ravel(), minlength=4)
    assert counts[[CONSOLIDATED, EMPHYSEMA]].tolist() == [3 * 24 * 16, 13 * 3 * 3]


def test_a_voxel_counts_by_all_that_is_diseased_around_it_not_by_its_class_alone(grid) -> None:
    """Two voxels of consolidation on two of ground glass are four voxels of disease."""
    said = drawn(
        grid,
        (CONSOLIDATED, Box((10, 8, 8), (12, 32, 24))),
        (GLASS, Box((12, 8, 8), (14, 32, 24))),
    )
    counts = np.bincount(said.classes.ravel(), minlength=4)
    assert counts[[CONSOLIDATED, GLASS]].tolist() == [2 * 24 * 16] * 2


def test_disease_that_fills_the_grid_to_its_edge_counts_there_by_what_is_beside_it(grid) -> None:
    everywhere = Mask("lungs", np.ones(grid.shape, bool), grid)
    said = drawn(grid, (GLASS, Box((0, 0, 0), SHAPE)), lungs=everywhere)
    assert said.share > 0.99, "all but the edges and corners of the grid"
    sheet = drawn(grid, (GLASS, Box((0, 0, 0), (2, *SHAPE[1:]))), lungs=everywhere)
    assert sheet.share == 0


def test_lungs_that_are_not_there_have_no_share(grid) -> None:
    empty = Mask("lungs", np.zeros(grid.shape, bool), grid)
    assert drawn(grid, lungs=empty).share == 0


def certainty(said: disease.Drawn, *findings: Finding, diffuse: bool = True) -> list[object]:
    judged, _ = disease.judged(findings, said, diffuse=diffuse)
    for before, after in zip(findings, judged, strict=True):
        kept = {"certainty": None, "unsure_why": ()}
        assert after.model_copy(update=kept) == before
    return [(f.certainty, f.unsure_why) for f in judged]


SURE, INSIDE = ("sure", ()), ("unsure", ("inside disease",))
MANY = "one of many ground-glass findings on both sides"


def test_a_finding_inside_disease_is_unsure_and_one_in_healthy_lung_is_sure(grid) -> None:
    said = drawn(grid, (GLASS, Box((10, 8, 8), (30, 20, 24))))
    inside, healthy = a_finding(grid, 1, 20, 13, 16), a_finding(grid, 2, 20, 27, 16)
    assert certainty(said, inside, healthy) == [INSIDE, SURE]


@pytest.mark.parametrize(("high", "large"), [(8, True), (6, False)])
def test_without_the_limitation_a_finding_is_unsure_in_a_lump_of_twenty_ml_alone(
    grid, high: int, large: bool
) -> None:
    """Cubes of 6 or 8 voxels: 13.8 and 32.8 ml."""
    said = drawn(grid, (CONSOLIDATED, Box((12, 12, 10), (12 + high, 12 + high, 10 + high))))
    middle = 12 + (high - 1) / 2
    inside = a_finding(grid, 1, middle, middle, middle - 2)
    assert certainty(said, inside, diffuse=False) == [INSIDE if large else SURE]
    assert certainty(said, inside, diffuse=True) == [INSIDE]


@pytest.mark.parametrize(("away", "said"), [(2, INSIDE), (3, SURE)])
def test_what_frays_at_the_edge_of_a_lump_is_inside_and_what_lies_further_off_is_not(
    grid, away: int, said: object
) -> None:
    """A nodule of 8 mm, 8 or 12 mm in front of a cube of 32.8 ml: grown, its ball has 10 mm."""
    lump = drawn(grid, (CONSOLIDATED, Box((12, 20, 10), (20, 28, 18))))
    assert certainty(lump, a_finding(grid, 1, 16, 20 - away, 14), diffuse=False) == [said]


def test_with_the_limitation_a_quarter_of_opaque_lung_around_a_finding_is_enough(grid) -> None:
    """Two sheets of three voxels, 10.4 ml each: a finding on one, and one between them."""
    said = drawn(
        grid,
        (GLASS, Box((12, 8, 10), (15, 26, 13))),
        (GLASS, Box((12, 8, 17), (15, 26, 20))),
    )
    on, between = a_finding(grid, 1, 13, 16, 11), a_finding(grid, 2, 13, 16, 14.6)
    assert certainty(said, on, between) == [INSIDE, SURE]
    assert certainty(said, on, between, diffuse=False) == [SURE, SURE]


def test_emphysema_makes_no_finding_unsure_and_joins_no_lumps(grid) -> None:
    """A nodule in the middle of it, and one in an opacity of 13.8 ml that it surrounds."""
    whole, lump = Box((10, 8, 8), (30, 32, 24)), Box((12, 12, 10), (18, 18, 16))
    hollow = drawn(grid, (EMPHYSEMA, whole), (CONSOLIDATED, lump))
    dark, opaque = a_finding(grid, 1, 24, 26, 18), a_finding(grid, 2, 14.5, 14.5, 12.5)
    assert certainty(hollow, dark, opaque) == [SURE, INSIDE]
    assert certainty(hollow, dark, opaque, diffuse=False) == [SURE, SURE]


def test_a_nodule_that_is_taken_for_disease_itself_is_sure(grid) -> None:
    said = drawn(grid, (CONSOLIDATED, Box((12, 25, 12), (15, 28, 15))))
    assert certainty(said, a_finding(grid, 1, 13, 26, 13, diameter_mm=12.0)) == [SURE]


@pytest.mark.parametrize("diffuse", [True, False])
def test_a_mass_that_is_the_opaque_part_is_sure_and_one_in_a_larger_part_is_not(
    grid, diffuse: bool
) -> None:
    """Both of 48 mm (58 ml): the part is a cube of 48 mm (111 ml), or twice that."""
    alone, larger = Box((14, 8, 38), (26, 20, 50)), Box((11, 8, 8), (29, 24, 22))
    said = drawn(grid, (CONSOLIDATED, alone), (CONSOLIDATED, larger))
    own = a_finding(grid, 1, 19.5, 13.5, 43.5, diameter_mm=48.0, kind="mass")
    within = a_finding(grid, 2, 19.5, 15.5, 14.5, diameter_mm=48.0, kind="mass")
    assert certainty(said, own, within, diffuse=diffuse) == [SURE, INSIDE]


def test_what_lies_outside_of_the_lungs_or_has_no_diameter_is_judged_all_the_same(grid) -> None:
    said = drawn(grid, (GLASS, Box((0, 0, 0), SHAPE)))
    outside = a_finding(grid, 1, 20, 20, 30, diameter_mm=4.0)
    tiny = a_finding(grid, 2, 20, 20, 16, diameter_mm=None)
    assert certainty(said, outside, tiny) == [SURE, INSIDE]


def glass(grid: Grid, right: int, left: int, **more: object) -> list[Finding]:
    sides = ["right"] * right + ["left"] * left
    return [
        a_finding(grid, i, 20, 20, 16, side=side, **{"density": "ground_glass", **more})
        for i, side in enumerate(sides, start=1)
    ]


@pytest.mark.parametrize(
    ("right", "left", "many"), [(5, 1, True), (3, 3, True), (6, 0, False), (3, 2, False)]
)
def test_more_than_five_ground_glass_findings_on_both_sides_are_multifocal(
    grid, right: int, left: int, many: bool
) -> None:
    solid = a_finding(grid, 9, 20, 20, 40, side="left", density="solid")
    findings, reasons = disease.judged(
        [*glass(grid, right, left), solid], drawn(grid), diffuse=False
    )
    assert [r.code for r in reasons] == [Code.MULTIFOCAL] * many
    assert {f.unsure_why for f in findings[:-1]} == {(MANY,) if many else ()}
    assert findings[-1].certainty == "sure"
    if many:
        assert reasons[0].text == (
            f"{right + left} ground-glass findings: {right} on the right, {left} on the left."
        )


def test_findings_of_another_density_are_no_such_opacities(grid) -> None:
    findings, reasons = disease.judged(
        glass(grid, 4, 4, density="part_solid"), drawn(grid), diffuse=False
    )
    assert reasons == ()
    assert {f.certainty for f in findings} == {"sure"}


def test_both_reasons_may_hold_of_one_finding(grid) -> None:
    said = drawn(grid, (GLASS, RIGHT))
    findings, _ = disease.judged(glass(grid, 5, 2), said, diffuse=True)
    assert {f.unsure_why for f in findings} == {("inside disease", MANY)}


def test_a_finding_of_a_doubtful_score_stays_unsure_and_says_disease_besides(
    grid,
) -> None:
    said = drawn(grid, (GLASS, Box((10, 8, 8), (30, 20, 24))))
    doubtful = {"certainty": "unsure", "unsure_why": (DOUBTFUL_SCORE,)}
    inside, healthy = (
        a_finding(grid, n, 20, y, 16).model_copy(update=doubtful) for n, y in ((1, 13), (2, 27))
    )
    judged, _ = disease.judged([inside, healthy], said, diffuse=True)
    assert [f.unsure_why for f in judged] == [(DOUBTFUL_SCORE, "inside disease"), (DOUBTFUL_SCORE,)]


@pytest.mark.parametrize("shape", [(1, 3, 48, 48, 64), (1, 4, 8, 48, 64), (4, 48, 48, 64)])
def test_outputs_that_are_not_four_classes_of_the_whole_grid_are_refused(grid, shape) -> None:
    image = Tensor(None, (1, 1, 48, 48, 64), grid)
    with pytest.raises(Poisoned) as refused:
        disease.drawn({"disease": np.zeros(shape, np.float32)}, image, HEAD, lungs_on(grid))
    assert refused.value.code == "backend_failed"
