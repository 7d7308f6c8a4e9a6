"""Ellipsoids of known axes, seen by a scanner that lies in any way, come back in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.backend import choose
from appliance.backend.open import LOADERS, open_backend
from appliance.bundle.heads import DENSITIES, MeasureHead
from appliance.bundle.manifest import Network, Port
from appliance.errors import Poisoned
from appliance.interpret import measure
from appliance.preprocess import fast, plan, reference
from appliance.preprocess.spec import Cube, Orient, Rescale, Window
from appliance.records import Geometry, Header, Image, Stack, Vector
from appliance.report import Finding

HEAD = MeasureHead(body="body", density="density")
CUBE = Cube(size=48, spacing_mm=0.8)
OPS = (Rescale(), Orient(), CUBE, Window(low=-1000, high=400))
LUNG, TISSUE = -850.0, 40.0
HALF = ((LUNG + TISSUE) / 2 + 1000) / 1400
HEADER = Header("1", "1.2", "1.3", "1.4")
MIDDLE = np.array([31.0, -44.0, -120.0])
LARGE = (45, 80, 80)
Occupancy = Callable[[np.ndarray], np.ndarray]


def off(*mm: float) -> np.ndarray:
    """A place so far from MIDDLE."""
    return MIDDLE + mm


def ball(center: Sequence[float], *radii: float, turn: np.ndarray | None = None) -> Occupancy:
    """Share of a point's surroundings in an ellipsoid: its radii lie along the rows of `turn`."""
    size = np.array(radii * (3 // len(radii)))
    rows = np.eye(3) if turn is None else turn

    def occupied(lps: np.ndarray) -> np.ndarray:
        at = (lps - np.asarray(center)) @ rows.T
        out = np.linalg.norm(at / size, axis=-1)
        slope = np.maximum(np.linalg.norm(at / size**2, axis=-1), 1e-9)
        return np.clip(0.5 + (1 - out) * out / slope / 0.7, 0, 1)  # edge of 0.7 mm

    return occupied


def scan(
    *bodies: Occupancy,
    axes: np.ndarray | None = None,
    spacing: Vector = (1.25, 0.7, 0.7),
    shape: tuple[int, int, int] = (30, 52, 54),
    hu: float = TISSUE,
    profile_mm: float = 0.0,
) -> Stack:
    """Slices around MIDDLE whose index directions z, y, x are the rows of `axes`."""
    rows = np.eye(3)[::-1] if axes is None else axes
    steps = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    flat = steps[1][:, None, None] * rows[1] + steps[2][None, :, None] * rows[2]
    near = (np.arange(7) - 3) / 7 * profile_mm if profile_mm else np.zeros(1)
    planes = []
    for z in steps[0]:
        share = np.mean(
            [
                np.max([body(MIDDLE + flat + (z + dz) * rows[0]) for body in bodies], axis=0)
                for dz in near
            ],
            axis=0,
        )
        first = MIDDLE + z * rows[0] + steps[1][0] * rows[1] + steps[2][0] * rows[2]
        geometry = Geometry(tuple(first), tuple(rows[2]), tuple(rows[1]), spacing[1:])
        pixels = np.rint(LUNG + share * (hu - LUNG)).astype(np.int16)
        planes.append(fast.plane(Image(HEADER, 0, geometry, pixels, False, ""), []))
    return Stack(tuple(planes), steps[0] - steps[0][0], tuple(rows[0]), spacing)


def finding(center: Sequence[float], diameter: float = 8.0) -> Finding:
    return Finding(
        id=1,
        tracking_uid="",
        kind="nodule",
        score=0.9,
        threshold=0.5,
        center_lps_mm=tuple(center),
        box_lps_mm=(0, 0, 0, 1, 1, 1),
        diameter_mm=diameter,
        key_image=0,
    )


def measured(
    stack: Stack, *found: Finding, level: float = HALF, threshold: float = 0.5
) -> tuple[measure.Body | None, ...]:
    """Body logits 20 * (image - level), as `network` gives them; every finding is solid."""
    cubes = reference.apply_patches(stack, OPS, [f.center_lps_mm for f in found])
    outputs = {"body": 20 * (cubes - np.float32(level)), "density": np.eye(4)[[0] * len(found)]}
    grids = [plan.cube_grid(stack, f.center_lps_mm, CUBE) for f in found]
    head = HEAD.model_copy(update={"threshold": threshold})
    cubes_of = list(zip(found, grids, strict=True))
    return measure.bodies(outputs, cubes_of, found, measure.edges_of(stack), head)


def in_plane(axes: np.ndarray, degrees: float) -> np.ndarray:
    """The directions of a scan, turned in its plane."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([axes[0], c * axes[1] + s * axes[2], -s * axes[1] + c * axes[2]])


def test_an_ellipsoid_has_its_own_axes_volume_and_box_however_it_was_scanned(axes):
    radii, turn = np.array([4.0, 5.0, 8.0]), in_plane(axes, 30)
    center = off(0.3, -0.2, 0.4)
    (body,) = measured(scan(ball(center, *radii, turn=turn), axes=axes), finding(center))
    assert body.long_mm == pytest.approx(16, abs=0.25)
    assert body.short_mm == pytest.approx(10, abs=0.25)
    assert body.mean_mm == pytest.approx(13, abs=0.25)
    assert body.volume_mm3 == pytest.approx(4 / 3 * np.pi * np.prod(radii), rel=0.04)
    half = np.sqrt(((radii[:, None] * turn) ** 2).sum(axis=0))
    assert body.box_lps_mm == pytest.approx([*(center - half), *(center + half)], abs=0.3)
    at = plan.to_lps(body.mask.grid, np.argwhere(body.mask.voxels))
    assert np.linalg.norm((at - center) @ turn.T / radii, axis=1).max() < 1.1
    assert len(at) * 0.8**3 == pytest.approx(body.volume_mm3, rel=0.03)
    assert body.mask.voxels.shape == body.mask.grid.shape
    assert max(body.mask.grid.shape) <= 23


@pytest.mark.parametrize("radius", [2.0, 3.0, 4.5, 8.0, 15.0])
def test_a_ball_of_any_size_is_measured_to_a_fraction_of_a_voxel(radius):
    center = off(0.1, 0.3, -0.2)
    stack = scan(ball(center, radius), shape=LARGE if radius > 10 else (30, 52, 54))
    (body,) = measured(stack, finding(center, 2 * radius))
    assert body.mean_mm == pytest.approx(2 * radius, abs=0.25)
    assert body.long_mm >= body.short_mm
    sphere = (body.volume_mm3 * 6 / np.pi) ** (1 / 3)
    assert sphere == pytest.approx(2 * radius, abs=0.3)


@pytest.mark.parametrize(
    ("spacing", "shape"), [((5.0, 0.7, 0.7), (9, 52, 54)), ((2.5, 0.9, 0.6), (16, 40, 62))]
)
def test_thick_and_uneven_voxels_keep_the_axes_in_the_plane(spacing, shape):
    center = off(0.2, -0.3, 0.6)
    turn = in_plane(np.eye(3)[::-1], 60)
    thick = scan(
        ball(center, 6.0, 4.0, 7.0, turn=turn), spacing=spacing, shape=shape, profile_mm=spacing[0]
    )
    (body,) = measured(thick, finding(center))
    assert body.long_mm == pytest.approx(14, abs=0.8)
    assert body.short_mm == pytest.approx(8, abs=0.8)


def test_a_threshold_other_than_a_half_moves_the_surface():
    stack = scan(ball(MIDDLE, 6.0))
    wide, narrow = (measured(stack, finding(MIDDLE), threshold=t)[0] for t in (0.05, 0.95))
    assert narrow.volume_mm3 < 0.95 * wide.volume_mm3


def test_under_3_mm_nothing_is_measured():
    (body,) = measured(scan(ball(MIDDLE, 1.3)), finding(MIDDLE, 4))
    assert body is None
    (body,) = measured(scan(ball(MIDDLE, 1.7)), finding(MIDDLE, 4))
    assert body.mean_mm == pytest.approx(3.4, abs=0.3)


@pytest.mark.parametrize(("away_mm", "is_measured"), [(5.5, True), (7.0, True), (8.5, False)])
def test_a_body_begins_near_the_place_that_the_detector_named(away_mm, is_measured):
    stack = scan(ball(MIDDLE, 6.0))
    (body,) = measured(stack, finding(off(away_mm, 0, 0)))
    assert (body is not None) == is_measured


def test_of_two_bodies_the_nearest_is_measured():
    small, large = off(0, 5.0, 0), off(0, -9.0, 0)
    stack = scan(ball(small, 3.5), ball(large, 7.0))
    (body,) = measured(stack, finding(off(0, 0.8, 0)))
    assert body.mean_mm == pytest.approx(7, abs=0.3)
    (body,) = measured(stack, finding(off(0, -1.2, 0)))
    assert body.mean_mm == pytest.approx(14, abs=0.3)


def test_two_touching_nodules_share_their_part_along_the_middle():
    one, two = off(-4.5, 0, 0), off(4.5, 0, 0)
    stack = scan(ball(one, 5.0), ball(two, 5.0))
    (whole,) = measured(stack, finding(one, 10))
    assert whole.long_mm == pytest.approx(19, abs=0.5)
    halves = measured(stack, finding(one, 10), finding(two, 10))
    for half, side in zip(halves, (-1, 1), strict=True):
        assert half.mean_mm == pytest.approx((10 + 9.5) / 2, abs=0.4)
        x0, x1 = half.box_lps_mm[0], half.box_lps_mm[3]
        assert (x1 if side < 0 else x0) == pytest.approx(MIDDLE[0], abs=0.45)
    assert sum(h.volume_mm3 for h in halves) == pytest.approx(whole.volume_mm3, rel=0.03)


def test_a_larger_neighbour_has_the_larger_share():
    one, two = off(-6.0, 0, 0), off(4.0, 0, 0)
    stack = scan(ball(one, 7.0), ball(two, 4.0))
    large, small = measured(stack, finding(one, 14), finding(two, 8))
    assert large.mean_mm == pytest.approx(14, abs=0.5)
    assert small.mean_mm == pytest.approx(8, abs=0.5)


def test_what_leaves_its_cube_is_not_measured():
    stack = scan(ball(MIDDLE, 20.0), shape=LARGE)
    assert measured(stack, finding(MIDDLE, 40)) == (None,)
    (body,) = measured(scan(ball(MIDDLE, 17.5), shape=LARGE), finding(MIDDLE, 40))
    assert body.mean_mm == pytest.approx(35, abs=0.3)


@pytest.mark.parametrize(
    ("detected", "is_measured"), [(60, False), (19, True), (6, True), (4.5, False)]
)
def test_a_body_of_another_size_than_was_detected_is_not_the_findings(detected, is_measured):
    """Such as the 10 mm that a network outlines within a mass of 60."""
    (body,) = measured(scan(ball(MIDDLE, 5.0)), finding(MIDDLE, detected))
    assert (body is not None) == is_measured


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_what_the_edge_of_the_images_cuts_off_is_not_measured(axis, sign):
    """The images end 18.55, 17.85 and 18.125 mm from the middle along x, y and z."""
    way = np.eye(3)[axis] * sign
    ends = np.abs(way) @ np.array([18.55, 17.85, 18.125])
    for away_mm, is_measured in ((3.0, False), (5.2, False), (7.5, True)):
        center = MIDDLE + way * (ends - away_mm)
        (body,) = measured(scan(ball(center, 5.0)), finding(center))
        assert (body is not None) == is_measured
    assert body.mean_mm == pytest.approx(10, abs=0.25)


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("radii", [(2.0, 2.0, 2.0), (3.0, 4.5, 7.0), (9.0, 12.0, 15.0)])
def test_of_a_smooth_level_the_figures_are_those_of_the_shape(radii, shift):
    """No scanner, no partial volume: the level is the distance from the surface, in mm. Linear
    between voxels, a small convex body is a little smaller than it is."""
    at = (np.moveaxis(np.indices((48, 48, 48)), 0, -1) - 23.5 + shift) * 0.8
    out = np.linalg.norm(at / radii, axis=-1)
    slope = np.maximum(np.linalg.norm(at / np.square(radii), axis=-1), 1e-9)
    level = ((1 - out) * out / slope).astype(np.float32)
    points = measure.surface(level)
    long_mm, short_mm, tips = measure.axes(points, (0.8, 0.8))
    assert (long_mm, short_mm) == pytest.approx((2 * radii[2], 2 * radii[1]), abs=0.2)
    ends = (tips - 23.5 + shift) * 0.8
    assert np.ptp(ends[:, 0]) == 0, "both axes lie in one axial plane"
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(long_mm, abs=1e-4)
    assert np.linalg.norm(ends[3] - ends[2]) == pytest.approx(short_mm, abs=1e-4)
    assert ends[:2].mean(axis=0) == pytest.approx([0, 0, 0], abs=0.9)
    whole = 4 / 3 * np.pi * np.prod(radii)
    assert (
        (1 - 0.35 / radii[0] ** 2) * whole < measure.volume(level, (0.8, 0.8, 0.8)) < 1.005 * whole
    )


def test_the_short_axis_is_the_longest_chord_across_the_long_one():
    """A rectangle of 4 x 3: its diagonal, and 3.75 across; its extent across would be 4.8."""
    corners = [(0, 0, 0), (0, 0, 4), (0, 3, 4), (0, 3, 0)]
    points = np.array(corners, np.float64)
    none = np.zeros((0, 3))
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        long_mm, short_mm, tips = measure.axes((none, points[order], none), (1.0, 1.0))
        assert (long_mm, short_mm) == pytest.approx((5, 3.75))
        assert np.linalg.norm(tips[3] - tips[2]) == pytest.approx(3.75)
        assert (tips[1] - tips[0]) @ (tips[3] - tips[2]) == pytest.approx(0, abs=1e-5)
    assert measure.axes((none, points, none), (0.8, 0.8))[:2] == pytest.approx((4, 3))


def test_the_ends_of_the_axes_are_kept_in_the_patient():
    (body,) = measured(scan(ball(MIDDLE, 6.0, 4.0, 5.0)), finding(MIDDLE, 14.0))
    assert body is not None
    assert body.mask.axes is not None
    long, short = np.array(body.mask.axes.long_lps_mm), np.array(body.mask.axes.short_lps_mm)
    assert np.linalg.norm(long[1] - long[0]) == pytest.approx(body.long_mm, abs=1e-3)
    assert np.linalg.norm(short[1] - short[0]) == pytest.approx(body.short_mm, abs=1e-3)
    assert long.mean(axis=0) == pytest.approx(MIDDLE, abs=0.5)


def test_a_finding_says_what_was_measured():
    stack = scan(ball(MIDDLE, 6.0, 4.0, 5.0))
    one = finding(MIDDLE, 14.0)
    (body,) = measured(stack, one)
    said = measure.described(one, body, thick=False)
    assert said.measured
    assert said.diameter_mm == said.mean_axis_mm == body.mean_mm == pytest.approx(10, abs=0.2)
    assert (said.long_axis_mm, said.short_axis_mm) == pytest.approx((12, 8), abs=0.2)
    assert said.equivalent_diameter_mm == pytest.approx(2 * (6 * 4 * 5) ** (1 / 3), abs=0.2)
    assert said.volume_mm3 == pytest.approx(4 / 3 * np.pi * 6 * 4 * 5, rel=0.05)
    assert said.density == "solid"
    assert said.center_lps_mm == one.center_lps_mm
    thick = measure.described(one, body, thick=True)
    assert (thick.volume_mm3, thick.equivalent_diameter_mm) == (None, None)
    assert thick.mean_axis_mm == said.mean_axis_mm
    assert measure.described(one, None, thick=False) is one


def test_a_nodule_that_measures_more_than_30_mm_is_a_mass():
    (body,) = measured(scan(ball(MIDDLE, 15.5), shape=LARGE), finding(MIDDLE, 28))
    assert measure.described(finding(MIDDLE, 28), body, thick=False).kind == "mass"
    (body,) = measured(scan(ball(MIDDLE, 14.5), shape=LARGE), finding(MIDDLE, 31))
    assert measure.described(finding(MIDDLE, 31), body, thick=False).kind == "nodule"


@pytest.mark.parametrize(
    ("body", "density"),
    [((1, 1, 48, 48, 48), (1, 4)), ((2, 1, 48, 48, 47), (2, 4)), ((2, 1, 48, 48, 48), (2, 3))],
)
def test_outputs_of_another_shape_fail(body, density):
    stack = scan(ball(MIDDLE, 5.0), shape=(3, 8, 8))
    grid = plan.cube_grid(stack, MIDDLE, CUBE)
    outputs = {"body": np.zeros(body, np.float32), "density": np.zeros(density, np.float32)}
    with pytest.raises(Poisoned) as error:
        measure.bodies(outputs, [(finding(MIDDLE), grid)] * 2, [], measure.edges_of(stack), HEAD)
    assert error.value.code == "backend_failed"


# through a network


CLASSES = {"solid": 40.0, "part_solid": -300.0, "ground_glass": -600.0, "calcified": 350.0}


def network(level: float) -> bytes:
    """body = 20 * (image - level); density = the class whose HU the middle 4^3 are nearest to."""
    middle = np.zeros((1, 1, 48, 48, 48), np.float32)
    middle[..., 22:26, 22:26, 22:26] = 1 / 4**3
    shades = np.array([(CLASSES[name] + 1000) / 1400 for name in DENSITIES])
    weights = {
        "w": np.full((1, 1, 1, 1, 1), 20.0),
        "b": np.array([-20 * level]),
        "middle": middle,
        "shades": 2 * shades[None],
        "squares": -(shades**2),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["body"]),
        helper.make_node("Conv", ["image", "middle"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["shade"], axis=1),
        helper.make_node("Gemm", ["shade", "shades", "squares"], ["density"]),
    ]
    cube = ["n", 1, 48, 48, 48]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", cube), ("body", cube), ("density", ["n", 4]))
    ]
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "measure", ports[:1], ports[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_a_network_measures_balls_of_every_density_on_every_backend(name):
    if not choose.installed(name):
        pytest.skip(f"{name} is not installed")
    cube = (-1, 1, 48, 48, 48)
    entry = Network(
        file="measure.onnx",
        digest="0" * 64,
        precision="fp32",
        inputs=(Port(name="image", shape=cube),),
        outputs=(Port(name="body", shape=cube), Port(name="density", shape=(-1, 4))),
        preprocess=OPS,
    )
    for density, hu in CLASSES.items():
        level = ((LUNG + hu) / 2 + 1000) / 1400
        backend = open_backend(name, {"measure": entry}, {"measure": network(level)}, 1)
        places = [off(-8.0, 0.3, 0), off(9.0, 0, 3.0)]
        stack = scan(*(ball(place, 5.0) for place in places), hu=hu)
        found = [finding(place, 10) for place in places]
        cubes = backend.gather(stack, OPS, places)
        outputs = backend.infer("measure", cubes)
        grids = [plan.cube_grid(stack, place, CUBE) for place in places]
        edges = measure.edges_of(stack)
        bodies = measure.bodies(outputs, list(zip(found, grids, strict=True)), found, edges, HEAD)
        assert [b.density for b in bodies] == [density] * 2
        assert [b.mean_mm for b in bodies] == pytest.approx([10, 10], abs=0.25)
        backend.close()
