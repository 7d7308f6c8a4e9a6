"""Versions 2 and 3 of the line of nodules, end to end on a small chest: masses, cubes, measuring,
then bodies of masses, a lung that is missing and lungs that are diseased."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from appliance import line
from appliance.backend import choose
from appliance.backend.open import LOADERS, open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import golden, trust
from appliance.bundle.heads import UsualOutput
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.trust import Bundle
from appliance.lines import budget as admission
from appliance.lines import nodules
from appliance.lines.budget import Budget
from appliance.phantom.chest import Phantom
from appliance.preprocess import plan
from appliance.preprocess.spec import Pad
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Finding, Report, Status
from appliance.store.kept import keep

SPACING = (2.0, 1.6, 1.6)
MASS = (70.0, 4.0, 0.0)
NODULES = {(-68.0, 12.0, 5.0): 6.0, (-80.0, -38.0, -18.0): 4.5, (60.0, -45.0, 12.0): 5.0}
"""LPS mm -> radius."""


def chest(
    spacing: tuple[float, float, float] = SPACING,
    mass: float = 18.0,
    hu: float = 40.0,
    lungs: tuple[int, ...] = (-1, 1),
) -> Phantom:
    """An oval body, two lungs, three balls in them, and a larger one in the left lung. `lungs`: the
    sides of those with air in them, -1 is the right one."""
    shape = tuple(round(mm / step) for mm, step in zip((120, 240, 320), spacing, strict=True))
    z, y, x = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)),
        indexing="ij",
    )
    out = np.full(z.shape, -1000, np.float32)
    out[(x / 150) ** 2 + (y / 110) ** 2 < 1] = 40
    for side in lungs:
        out[((x - 70 * side) / 55) ** 2 + (y / 80) ** 2 + (z / 48) ** 2 < 1] = -850
    for (dx, dy, dz), radius in {MASS: mass, **NODULES}.items():
        away = np.sqrt((x - dx) ** 2 + (y - dy) ** 2 + (z - dz) ** 2)
        share = np.clip((radius - away) / 1.6 + 0.5, 0, 1)
        out += share * ((40 if radius == mass else hu) - out)
    noise = np.random.default_rng(5).integers(-10, 10, out.shape)
    origin = (float(x[0, 0, 0]), float(y[0, 0, 0]), float(z[0, 0, 0]))
    return Phantom((out + noise).astype(np.int16), spacing, origin, ())


@pytest.fixture(scope="module")
def files(dicom: Any) -> Callable[..., list[bytes]]:
    def made(phantom: Phantom, **tags: object) -> list[bytes]:
        uids = {"study_uid": "1.2.7", "series_uid": "1.2.7.1"}
        written: list[bytes] = dicom.all(dicom.series(phantom, **uids, **tags))
        return written

    return made


@pytest.fixture(scope="module")
def backend(second_bytes: bytes) -> Iterator[Backend]:
    """The bundle's networks in onnxruntime, which is always there."""
    loaded = trust.check(second_bytes)
    opened = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 2)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def slices(files: Any) -> list[bytes]:
    made: list[bytes] = files(chest())
    return made


@pytest.fixture(scope="module")
def result(slices: list[bytes], second: Bundle, backend: Backend) -> Result:
    return line.process(slices, second, backend)


def nearest(result: Result, place: tuple[float, float, float]) -> Finding:
    return min(result.findings, key=lambda f: np.linalg.norm(np.subtract(f.center_lps_mm, place)))


def test_the_mass_is_one_finding_and_its_rim_none(result: Result) -> None:
    assert result.status is Status.ANALYSED
    found = nearest(result, MASS)
    away = [np.linalg.norm(np.subtract(f.center_lps_mm, MASS)) for f in result.findings]
    assert sorted(away)[0] < 6
    assert sorted(away)[1] > 20
    assert found.kind == "mass"
    assert found.threshold == 0.6
    assert found.diameter_mm == pytest.approx(36, abs=1.0)


def test_nodules_are_measured_in_millimetres(result: Result) -> None:
    assert [f.id for f in result.findings] == list(range(1, len(result.findings) + 1))
    assert [f.score for f in result.findings] == sorted(
        (f.score for f in result.findings), reverse=True
    )
    for place, radius in NODULES.items():
        found = nearest(result, place)
        assert np.linalg.norm(np.subtract(found.center_lps_mm, place)) < 2.5
        assert found.measured
        assert found.kind == "nodule"
        assert found.threshold == 0.5
        assert found.diameter_mm == found.mean_axis_mm == pytest.approx(2 * radius, abs=0.5)
        assert found.equivalent_diameter_mm == pytest.approx(2 * radius, abs=0.6)
        assert found.density == "solid"
        box = [*(v - radius for v in place), *(v + radius for v in place)]
        assert found.box_lps_mm == pytest.approx(box, abs=0.6)


def test_each_body_has_a_mask_under_the_number_of_its_finding(result: Result) -> None:
    assert result.masks[0].name == "lungs"
    bodies = {mask.name: mask for mask in result.masks[1:]}
    assert set(bodies) == {f"finding-{f.id}" for f in result.findings if f.measured}
    for place, radius in NODULES.items():
        mask = bodies[f"finding-{nearest(result, place).id}"]
        at = plan.to_lps(mask.grid, np.argwhere(mask.voxels))
        assert np.linalg.norm(at - place, axis=1).max() < radius + 0.8
        assert len(at) * 0.8**3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.15)


def test_masks_of_findings_are_kept_beside_the_report(
    result: Result, seal: Any, tmp_path: Any
) -> None:
    folder = keep(tmp_path, seal(result), result, ["1"])
    names = {path.name for path in folder.iterdir()}
    bodies = {f"{m.name}.npz" for m in result.masks[1:]}
    assert names == {"inputs.json", "images.json", "lungs.npz", *bodies}
    mask = result.masks[1]
    with np.load(folder / f"{mask.name}.npz") as kept:
        count = int(np.prod(kept["shape"]))
        voxels = np.unpackbits(kept["voxels"])[:count].reshape(kept["shape"])
        assert np.array_equal(voxels.astype(bool), mask.voxels)
        assert np.array_equal(kept["to_lps"], mask.grid.to_lps)


def test_every_candidate_that_was_scored_is_in_the_result(result: Result) -> None:
    assert result.scores
    assert result.scores.threshold == 0.5
    small = {f.score for f in result.findings if f.threshold == 0.5}
    assert small
    assert small <= {one.score for one in result.scores.candidates}


def test_density_is_the_class_of_the_largest_logit(
    files: Any, second: Bundle, backend: Backend
) -> None:
    pale = line.process(files(chest(hu=-300.0)), second, backend)
    measured = [f for f in pale.findings if f.measured and f.kind == "nodule"]
    assert measured
    assert {f.density for f in measured} == {"ground_glass"}


class Watched:
    """A backend that notes what it is asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.asked = backend, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def prepare(self, stack: Any, ops: Any, crop: Any) -> Any:
        self.asked.append("prepare")
        return self._backend.prepare(stack, ops, crop)

    def gather(self, stack: Any, ops: Any, centers: Any, views: Any = 1) -> Any:
        self.asked.append(f"gather {len(centers)}")
        return self._backend.gather(stack, ops, centers, views)

    def infer(self, role: str, image: Any) -> Mapping[str, Any]:
        self.asked.append(role)
        return self._backend.infer(role, image)

    def begin(self, role: str, image: Any) -> Any:
        outputs = self.infer(role, image)
        return lambda: outputs


def test_lungs_and_masses_share_what_was_prepared(
    slices: list[bytes], second: Bundle, backend: Backend, result: Result
) -> None:
    watched = Watched(backend)
    assert line.process(slices, second, watched).findings == result.findings
    assert watched.asked[:5] == ["prepare", "segment", "mass", "prepare", "propose"]
    measured = [a for a in watched.asked if a.startswith("gather")][2:]
    assert sum(int(a.split()[1]) for a in measured) == len(result.findings)
    assert measured[0] == f"gather {nodules.MEASURED_AT_ONCE}"
    ops = second.manifest.networks["mass"].preprocess
    networks = dict(second.manifest.networks)
    networks["mass"] = networks["mass"].model_copy(
        update={"preprocess": (*ops[:-1], Pad(multiple=32))}
    )
    other = replace(second, manifest=second.manifest.model_copy(update={"networks": networks}))
    watched.asked.clear()
    line.process(slices, other, watched)
    assert watched.asked[:4] == ["prepare", "segment", "prepare", "mass"]


def changed(bundle: Bundle, **line: Any) -> Bundle:
    """The bundle with another line."""
    lines = bundle.manifest.line_of(SegmentProposeClassify).model_copy(update=line)
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"line": lines}))


def test_many_findings_are_measured_a_few_at_a_time_with_the_same_figures(
    slices: list[bytes], second: Bundle, backend: Backend, result: Result, monkeypatch: Any
) -> None:
    monkeypatch.setattr(nodules, "MEASURED_AT_ONCE", 2)
    watched = Watched(backend)
    assert line.process(slices, second, watched).findings == result.findings
    assert watched.asked.count("measure") == -(-len(result.findings) // 2)


def test_without_masses_the_rim_of_one_is_full_of_nodules(
    slices: list[bytes], second: Bundle, backend: Backend
) -> None:
    rim = line.process(slices, changed(second, mass=None), backend)
    away = [np.linalg.norm(np.subtract(f.center_lps_mm, MASS)) for f in rim.findings]
    assert sum(a < 20 for a in away) > 1


def test_a_cube_moves_the_score(
    slices: list[bytes], second: Bundle, backend: Backend, result: Result
) -> None:
    calibration = second.manifest.line_of(SegmentProposeClassify).calibration.model_copy(
        update={"cube": 0.0}
    )
    plain = line.process(slices, changed(second, calibration=calibration), backend)
    for place in NODULES:
        assert nearest(result, place).score > nearest(plain, place).score
    assert nearest(result, MASS).score == nearest(plain, MASS).score


def test_version_2_with_nothing_added_is_version_1(
    slices: list[bytes], second: Bundle, tiny: Bundle, tiny_backend: Backend
) -> None:
    bare = changed(second, cube=None, mass=None, measure=None)
    one, two = (line.process(slices, bundle, tiny_backend) for bundle in (tiny, bare))
    assert one.findings
    assert one.findings == two.findings
    assert not any(f.measured for f in one.findings)
    assert [m.name for m in two.masks] == ["lungs"]


THICK = (4.0, 1.6, 1.6)


def test_a_thick_series_has_axes_but_no_volume_and_nothing_small(
    files: Any, second: Bundle, backend: Backend
) -> None:
    thick = line.process(files(chest(THICK)), second, backend)
    assert Code.SPACING_LIMITED in {r.code for r in thick.limitations}
    sizes = [f.diameter_mm for f in thick.findings]
    assert min(s for s in sizes if s is not None) >= 8
    found = nearest(thick, (-68.0, 12.0, 5.0))
    assert found.measured
    assert found.mean_axis_mm == pytest.approx(12, abs=1.0)
    assert (found.volume_mm3, found.equivalent_diameter_mm) == (None, None)
    names = [m.name for m in thick.masks[1:]]
    assert names == [f"finding-{f.id}" for f in thick.findings if f.measured]


def test_what_measures_small_is_not_reported_of_a_thick_series(
    files: Any, second: Bundle, backend: Backend
) -> None:
    """The detector says 8 mm of everything; with a limit of 11 mm only what measures as much."""
    limits = second.manifest.accepts.spacing_mm.model_copy(update={"limited_min_diameter_mm": 11.0})
    accepts = second.manifest.accepts.model_copy(update={"spacing_mm": limits})
    strict = replace(second, manifest=second.manifest.model_copy(update={"accepts": accepts}))
    thick = line.process(files(chest(THICK)), strict, backend)
    near = [
        np.linalg.norm(np.subtract(nearest(thick, place).center_lps_mm, place)) < 4
        for place in NODULES
    ]
    assert near == [True, False, False]


WIDE = (7.5, 1.6, 1.6)


def test_wide_slices_are_searched_for_masses_alone(
    files: Any, second: Bundle, backend: Backend
) -> None:
    watched = Watched(backend)
    wide = line.process(files(chest(WIDE)), second, watched)
    codes = {r.code for r in wide.limitations}
    assert wide.status is Status.ANALYSED
    assert Code.MASSES_ONLY in codes
    assert Code.SPACING_LIMITED not in codes
    (one,) = wide.findings
    assert np.linalg.norm(np.subtract(one.center_lps_mm, MASS)) < 8
    assert one.volume_mm3 is None
    assert "propose" not in watched.asked


def test_wide_slices_are_refused_where_masses_are_not_looked_for(
    files: Any, tiny: Bundle, tiny_backend: Backend, second: Bundle, backend: Backend
) -> None:
    wide = files(chest(WIDE))
    assert Code.SPACING_TOO_WIDE in {r.code for r in line.process(wide, tiny, tiny_backend).reasons}
    wider = files(chest((12.0, 1.6, 1.6)), SliceThickness="5")
    reasons = {r.code for r in line.process(wider, second, backend).reasons}
    assert reasons == {Code.SPACING_TOO_WIDE}


def test_what_the_added_networks_need_is_asked_for_before_they_run(
    slices: list[bytes], second: Bundle, backend: Backend
) -> None:
    fold = line.begin([second])
    for file in slices:
        fold = line.add(fold, file)
    stack = fold.shares[0].outline.subject
    ops = second.manifest.networks["segment"].preprocess
    whole = plan.voxels(stack, ops, None)
    cubes = 24 * 32**3 + nodules.MEASURED_AT_ONCE * 48**3
    need = fold.held + (2 * whole + cubes) * admission.BYTES_INFERRED
    need += whole * admission.BYTES_LABELLED
    watched = Watched(backend)
    refused = nodules.analyse(stack, second.manifest, watched, Budget(fold.held, need - 1))
    assert refused.too_wide
    assert watched.asked == []
    later = nodules.analyse(stack, second.manifest, watched, Budget(fold.held, need))
    assert later.too_wide
    assert watched.asked == ["prepare", "segment", "mass"]


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_every_backend_passes_the_golden_cases_and_measures_the_same(
    name: str, slices: list[bytes], second: Bundle, second_bytes: bytes, result: Result
) -> None:
    if not choose.installed(name):
        pytest.skip(f"{name} is not installed")
    loaded = trust.check(second_bytes)
    other = open_backend(name, dict(loaded.manifest.networks), loaded.networks, 2)
    gate = golden.gate(loaded, golden.through(other))
    assert gate.passed
    assert {r.network for r in gate.results} == set(second.manifest.networks)
    again = line.process(slices, second, other)
    other.close()
    assert len(again.findings) == len(result.findings)
    for one, two in zip(again.findings, result.findings, strict=True):
        assert one.center_lps_mm == pytest.approx(two.center_lps_mm, abs=0.05)
        assert one.diameter_mm == pytest.approx(two.diameter_mm, abs=0.11)
        assert one.measured == two.measured
        assert (one.volume_mm3 or 0.0) == pytest.approx(two.volume_mm3 or 0.0, rel=0.01)
        assert one.density == two.density


def test_a_golden_case_of_another_network_does_not_pass(second_bytes: bytes) -> None:
    loaded = trust.check(second_bytes)

    def infer(role: str, image: Any) -> dict[str, Any]:
        recorded = {g.network: golden.arrays(g.file, data) for g, data in loaded.goldens}[role]
        return {n: a + (role == "measure" and n == "body") for n, a in recorded.items()}

    gate = golden.gate(loaded, infer)
    assert not gate.passed
    assert [r.network for r in gate.results if not r.passed] == ["measure"]


# version 3


@pytest.fixture(scope="module")
def drawing(third_bytes: bytes) -> Iterator[Backend]:
    """The networks of version 3 in onnxruntime."""
    loaded = trust.check(third_bytes)
    opened = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 2)
    yield opened
    opened.close()


@pytest.mark.parametrize(("radius", "spacing"), [(18.0, SPACING), (30.0, SPACING), (30.0, WIDE)])
def test_a_mass_has_the_size_of_its_body_and_no_cube_measures_it(
    files: Any, third: Bundle, drawing: Backend, radius: float, spacing: Any
) -> None:
    """The detector says 36 mm of every mass, and a cube is 38 mm wide."""
    watched = Watched(drawing)
    result = line.process(files(chest(spacing, mass=radius)), third, watched)
    found = nearest(result, MASS)
    thick = spacing == WIDE
    assert found.kind == "mass"
    assert found.measured
    assert found.threshold == 0.6
    assert found.mean_axis_mm == pytest.approx(2 * radius, abs=1.5)
    assert found.long_axis_mm is not None
    assert found.long_axis_mm >= found.mean_axis_mm >= (found.short_axis_mm or 99)
    if thick:
        assert found.volume_mm3 is None
    else:
        assert found.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.06)
    box = [*(v - radius for v in MASS), *(v + radius for v in MASS)]
    assert found.box_lps_mm == pytest.approx(box, abs=spacing[0] / 2 + 1)
    assert found.density is None
    away = [np.linalg.norm(np.subtract(f.center_lps_mm, MASS)) for f in result.findings]
    assert sum(a < radius + 3 for a in away) == 1, "what lies in the mass is part of it"
    (mask,) = (m for m in result.masks if m.name == f"finding-{found.id}")
    assert mask.grid.spacing_mm == (3.0, 3.0, 3.0)
    cubes = [int(a.split()[1]) for a in watched.asked if a.startswith("gather")]
    in_cubes = [f for f in result.findings if f.density is not None]
    assert sum(cubes[2:]) == len(in_cubes)


def test_nodules_are_measured_in_cubes_as_in_version_2(
    slices: list[bytes], third: Bundle, drawing: Backend, result: Result
) -> None:
    drawn = line.process(slices, third, drawing)
    for place in NODULES:
        one, two = (nearest(r, place) for r in (result, drawn))
        assert two.measured
        assert two.model_copy(update={"id": one.id}) == one


def test_what_is_not_measured_though_it_is_drawn_is_named_with_the_reason(
    slices: list[bytes], third: Bundle, drawing: Backend
) -> None:
    """Here the wall of the chest is drawn as well; it leaves the images."""
    result = line.process(slices, third, drawing)
    said = [r for r in result.limitations if r.code is Code.SIZE_ESTIMATED]
    named = {int(r.text.split()[1].rstrip(":")) for r in said}
    at_wall = {f.id for f in result.findings if not f.measured}
    assert named
    assert named <= at_wall
    assert all("because its outline reaches the edge of the images" in r.text for r in said)


def test_a_mass_that_is_not_drawn_keeps_the_detectors_diameter(
    slices: list[bytes], third: Bundle, drawing: Backend
) -> None:
    class Blank(Watched):
        def infer(self, role: str, image: Any) -> Mapping[str, Any]:
            outputs = super().infer(role, image)
            return {n: np.full_like(v, -9) if n == "body" else v for n, v in outputs.items()}

    plain = line.process(slices, changed(third, measure=None), Blank(drawing))
    result = line.process(slices, third, Blank(drawing))
    for one in (plain, result):
        found = nearest(one, MASS)
        assert (found.kind, found.measured, found.diameter_mm) == ("mass", False, 36.0)
        (said,) = (r for r in one.limitations if r.code is Code.SIZE_ESTIMATED)
        assert said.text.startswith(f"finding {found.id}: its size is an estimate, because")
        assert "drew no outline" in said.text
        assert said.where == f"z {found.center_lps_mm[2]:.1f} mm"


def test_a_mass_below_its_threshold_is_measured_by_its_body_where_a_nodule_is_found_in_it(
    files: Any, third: Bundle, drawing: Backend
) -> None:
    head = third.manifest.line_of(SegmentProposeClassify).mass
    deaf = changed(third, mass=head.model_copy(update={"threshold": 1.0}))
    result = line.process(files(chest(mass=26.0)), deaf, drawing)
    inside = [
        f
        for f in result.findings
        if np.linalg.norm(np.subtract(f.center_lps_mm, MASS)) < 29 and f.measured
    ]
    (found,) = inside
    assert found.threshold == 0.5
    assert found.kind == "mass"
    assert found.diameter_mm == pytest.approx(52, abs=1.5)


@pytest.mark.parametrize(("there", "missing"), [(-1, "left"), (1, "right")])
def test_a_missing_lung_is_named_by_its_side_in_version_3_alone(
    files: Any, third: Bundle, drawing: Backend, second: Bundle, there: int, missing: str
) -> None:
    sent = files(chest(lungs=(there,)))
    result = line.process(sent, third, drawing)
    (said,) = (r for r in result.limitations if r.code is Code.ONE_LUNG)
    assert said.text.startswith(f"The {missing} lung is missing or opaque")
    assert result.facts.coverage.sides == "one"
    (before,) = (
        r for r in line.process(sent, second, drawing).limitations if r.code is Code.ONE_LUNG
    )
    assert before.text == "Only one lung was found."


def test_two_lungs_are_no_limitation(slices: list[bytes], third: Bundle, drawing: Backend) -> None:
    result = line.process(slices, third, drawing)
    assert Code.ONE_LUNG not in {r.code for r in result.limitations}
    assert result.facts.coverage.sides == "both"


def test_more_findings_than_are_usual_are_a_limitation_and_all_of_them_stay(
    slices: list[bytes], third: Bundle, drawing: Backend
) -> None:
    plain = line.process(slices, third, drawing)
    few = changed(third, version=4, usual_output=UsualOutput(most_findings=1))
    result = line.process(slices, few, drawing)
    assert result.findings == plain.findings
    assert result.limitations[:-1] == plain.limitations
    assert result.limitations[-1].code is Code.UNUSUAL_OUTPUT


def test_version_3_with_nothing_added_is_version_2(
    slices: list[bytes], third: Bundle, second: Bundle, drawing: Backend, seal: Any
) -> None:
    bare = changed(third, body=None, one_lung_share=None)
    reports = [seal(line.process(slices, one, drawing)) for one in (bare, second)]
    bare_of = {"bundle": None, "report_id": UUID(int=0), "findings": ()}
    three, two = (r.model_copy(update=bare_of).model_dump_json() for r in reports)
    assert three == two
    three, two = (
        str([f.model_copy(update={"tracking_uid": ""}).model_dump_json() for f in r.findings])
        for r in reports
    )
    assert three == two


BEFORE = json.loads((Path(__file__).parent / "reports_before_version_3.json").read_text())
"""Of bundles of versions 1 and 2, made where there was no version 3 yet; the six best findings."""


def close(value: Any) -> Any:
    """The same with every figure to what is printed of it: processors differ in the last digits."""
    if isinstance(value, dict):
        return {name: close(one) for name, one in value.items()}
    if isinstance(value, list):
        return [close(one) for one in value]
    return pytest.approx(value, abs=0.11, rel=1e-3) if isinstance(value, float) else value


@pytest.mark.parametrize("name", BEFORE)
def test_versions_1_and_2_give_the_reports_that_they_gave(
    name: str, files: Any, tiny_bytes: bytes, second_bytes: bytes, seal: Any
) -> None:
    loaded = trust.check({"1": tiny_bytes, "2": second_bytes}[name[0]])
    backend = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 2)
    sent = files(chest(THICK if "thick" in name else SPACING))
    report = json.loads(seal(line.process(sent, loaded.bundle, backend)).model_dump_json())
    backend.close()
    wanted = dict(BEFORE[name])
    assert len(report["findings"]) == wanted.pop("count")
    for found in report["findings"]:
        del found["tracking_uid"]  # derived from the bundle's digest, that is from the ONNX files
    said = {**{key: report[key] for key in wanted}, "findings": report["findings"][:6]}
    assert said == close(wanted)


def test_bodies_are_labelled_and_that_is_asked_for_before_they_are(
    slices: list[bytes], third: Bundle, drawing: Backend
) -> None:
    fold = line.begin([third])
    for file in slices:
        fold = line.add(fold, file)
    stack = fold.shares[0].outline.subject
    whole = plan.voxels(stack, third.manifest.networks["segment"].preprocess, None)
    cubes = 24 * 32**3 + nodules.MEASURED_AT_ONCE * 48**3
    need = fold.held + (2 * whole + cubes) * admission.BYTES_INFERRED
    need += 2 * whole * admission.BYTES_LABELLED
    watched = Watched(drawing)
    assert nodules.analyse(stack, third.manifest, watched, Budget(fold.held, need - 1)).too_wide
    assert watched.asked == []
    nodules.analyse(stack, third.manifest, watched, Budget(fold.held, need))
    assert watched.asked == ["prepare", "segment", "mass"]


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_every_backend_draws_the_same_bodies(
    name: str, slices: list[bytes], third: Bundle, third_bytes: bytes, drawing: Backend
) -> None:
    if not choose.installed(name):
        pytest.skip(f"{name} is not installed")
    loaded = trust.check(third_bytes)
    other = open_backend(name, dict(loaded.manifest.networks), loaded.networks, 2)
    assert golden.gate(loaded, golden.through(other)).passed
    one, two = (nearest(line.process(slices, third, b), MASS) for b in (drawing, other))
    other.close()
    assert one.mean_axis_mm == pytest.approx(two.mean_axis_mm, abs=0.11)
    assert one.volume_mm3 == pytest.approx(two.volume_mm3, rel=0.01)
    assert one.box_lps_mm == pytest.approx(two.box_lps_mm, abs=0.1)


# version 3, disease


@pytest.fixture(scope="module")
def judging(sick_bytes: bytes) -> Iterator[Backend]:
    """Its networks in onnxruntime."""
    loaded = trust.check(sick_bytes)
    opened = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 2)
    yield opened
    opened.close()


def hazy(share: float, *spacing: tuple[float, float, float]) -> Phantom:
    """The chest with ground glass in the back of its right lung, over `share` of its depth."""
    phantom = chest(*spacing)
    _, y, x = (
        (np.arange(n) - (n - 1) / 2) * s
        for n, s in zip(phantom.hu.shape, phantom.spacing_mm, strict=True)
    )
    behind = (y[None, :, None] > 80 - 160 * share) & (x[None, None, :] < 0)
    hu = np.where(behind & (phantom.hu < -700) & (phantom.hu > -950), -650, phantom.hu)
    return replace(phantom, hu=hu.astype(np.int16))


def test_disease_is_a_limitation_with_figures_and_findings_inside_are_unsure(
    files: Any, sick: Bundle, judging: Backend, third: Bundle, seal: Any
) -> None:
    sent = files(hazy(0.5))
    result = line.process(sent, sick, judging)
    (said,) = (r for r in result.limitations if r.code is Code.DIFFUSE_DISEASE)
    lung_ml = 4 / 3 * np.pi * 55 * 80 * 48 / 1000
    assert said.disease is not None
    assert said.disease.right.lung_ml == pytest.approx(lung_ml, rel=0.06)
    assert said.disease.right.ground_glass_ml == pytest.approx(lung_ml / 2, rel=0.1)
    assert said.disease.left.ground_glass_ml < 60, "the rim alone, where a voxel is half wall"
    doubts = {place: nearest(result, place).unsure_why for place in NODULES}
    behind, *others = NODULES
    assert doubts == {behind: ("inside disease",), **dict.fromkeys(others, ())}
    plain = line.process(sent, third, judging)
    for before, after in zip(plain.findings, result.findings, strict=True):
        assert before.certainty is None
        assert after.certainty in ("sure", "unsure")
        assert after.model_copy(update={"certainty": None, "unsure_why": ()}) == before
    report = seal(result)
    assert Report.model_validate_json(report.to_json()) == report
    assert "certainty" not in seal(plain).to_json()


def test_little_disease_is_no_limitation_and_nothing_is_said_of_it_where_only_masses_are_sought(
    files: Any, sick: Bundle, judging: Backend
) -> None:
    for phantom, said in ((hazy(0.0), "sure"), (hazy(0.15), "sure"), (hazy(0.5, WIDE), None)):
        result = line.process(files(phantom), sick, judging)
        assert not {Code.DIFFUSE_DISEASE, Code.MULTIFOCAL} & {r.code for r in result.limitations}
        assert {f.certainty for f in result.findings} == {said}


def test_a_bundle_of_version_3_without_the_head_says_nothing_of_disease(
    files: Any, sick: Bundle, judging: Backend, third: Bundle, drawing: Backend, seal: Any
) -> None:
    sent = files(hazy(0.5))
    bare = seal(line.process(sent, changed(sick, disease=None), judging))
    before = seal(line.process(sent, third, drawing))
    same = {"bundle": None, "report_id": UUID(int=0), "findings": ()}
    one, two = (r.model_copy(update=same).model_dump_json() for r in (bare, before))
    assert one == two
    assert all(f.certainty is None for f in bare.findings)


def test_classes_of_disease_are_asked_for_in_memory_before_they_are_made(
    slices: list[bytes], sick: Bundle, judging: Backend
) -> None:
    fold = line.begin([sick])
    for file in slices:
        fold = line.add(fold, file)
    stack = fold.shares[0].outline.subject
    whole = plan.voxels(stack, sick.manifest.networks["segment"].preprocess, None)
    cubes = 24 * 32**3 + nodules.MEASURED_AT_ONCE * 48**3
    need = fold.held + (2 * whole + cubes) * admission.BYTES_INFERRED
    need += 3 * whole * admission.BYTES_LABELLED
    watched = Watched(judging)
    assert nodules.analyse(stack, sick.manifest, watched, Budget(fold.held, need - 1)).too_wide
    assert watched.asked == []
    nodules.analyse(stack, sick.manifest, watched, Budget(fold.held, need))
    assert watched.asked == ["prepare", "segment", "mass"]


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_every_backend_says_the_same_of_disease(
    name: str, files: Any, sick: Bundle, sick_bytes: bytes, judging: Backend
) -> None:
    if not choose.installed(name):
        pytest.skip(f"{name} is not installed")
    loaded = trust.check(sick_bytes)
    other = open_backend(name, dict(loaded.manifest.networks), loaded.networks, 2)
    assert golden.gate(loaded, golden.through(other)).passed
    sent = files(hazy(0.5))
    one, two = (
        [r.text for r in line.process(sent, sick, b).limitations if r.disease is not None]
        for b in (judging, other)
    )
    other.close()
    assert one == two != []
