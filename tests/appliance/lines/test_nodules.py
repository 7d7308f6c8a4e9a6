"""Version 2 of the line of nodules: masses, cubes and measuring, end to end on a small chest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from appliance import line
from appliance.backend import choose
from appliance.backend.open import LOADERS, open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import golden, trust
from appliance.bundle.accepts import Limits
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Manifest
from appliance.bundle.trust import Bundle
from appliance.lines import budget as admission
from appliance.lines import nodules
from appliance.lines.budget import Budget
from appliance.phantom.chest import Phantom
from appliance.preprocess import plan
from appliance.preprocess.spec import Pad
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Finding, Status
from appliance.store.kept import keep

SPACING = (2.0, 1.6, 1.6)
MASS = (70.0, 4.0, 0.0)
NODULES = {(-68.0, 12.0, 5.0): 6.0, (-80.0, -38.0, -18.0): 4.5, (60.0, -45.0, 12.0): 5.0}
"""LPS mm -> radius."""


def chest(
    spacing: tuple[float, float, float] = SPACING, mass: float = 18.0, hu: float = 40.0
) -> Phantom:
    """An oval body, two lungs, three balls in them, and a larger one in the left lung."""
    shape = tuple(round(mm / step) for mm, step in zip((120, 240, 320), spacing, strict=True))
    z, y, x = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)),
        indexing="ij",
    )
    out = np.full(z.shape, -1000, np.float32)
    out[(x / 150) ** 2 + (y / 110) ** 2 < 1] = 40
    for side in (-1, 1):
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
    assert names == {"inputs.json", "lungs.npz", *(f"{m.name}.npz" for m in result.masks[1:])}
    mask = result.masks[1]
    with np.load(folder / f"{mask.name}.npz") as kept:
        count = int(np.prod(kept["shape"]))
        voxels = np.unpackbits(kept["voxels"])[:count].reshape(kept["shape"])
        assert np.array_equal(voxels.astype(bool), mask.voxels)
        assert np.array_equal(kept["to_lps"], mask.grid.to_lps)


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


def test_limits_are_in_order_and_masses_need_a_network(second: Bundle) -> None:
    with pytest.raises(ValidationError, match="below `limited`"):
        Limits(full=2.5, limited=5.0, masses=4.0)
    said = json.loads(second.manifest.model_dump_json(by_alias=True))
    del said["networks"]["mass"]
    said["line"]["mass"] = None
    said["goldens"] = [g for g in said["goldens"] if g["network"] != "mass"]
    with pytest.raises(ValidationError, match="a line that finds masses"):
        Manifest.model_validate(said)
    said["accepts"]["spacing_mm"]["masses"] = None
    assert Manifest.model_validate(said).accepts.spacing_mm.most == 5.0


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
