"""Two backends are compared by tensor and by finding, and a difference is an error."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from appliance.bundle import trust
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused, Poisoned
from appliance.host import driver
from appliance.phantom.chest import Phantom
from appliance.phantom.instances import series
from appliance.report import Finding
from compile import compare
from compile.__main__ import main

BOTH = pytest.mark.skipif(
    find_spec("openvino") is None, reason="openvino is not installed: there is one CPU backend"
)


@pytest.fixture(scope="module")
def tiny(tiny_bytes: bytes) -> Loaded:
    return trust.check(tiny_bytes)


class Spoilt:
    """A backend whose outputs are changed on the way."""

    def __init__(self, backend, role: str, change) -> None:
        self._backend, self._role, self._change = backend, role, change
        self.ref, self.prepare, self.gather = backend.ref, backend.prepare, backend.gather

    def infer(self, role, image):
        found = dict(self._backend.infer(role, image))
        return {n: self._change(a) for n, a in found.items()} if role == self._role else found


@pytest.fixture(scope="module")
def chest() -> list[bytes]:
    """An oval body with two lungs and five balls of tissue in them, small enough for a test."""
    z, y, x = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * mm for n, mm in ((24, 5.0), (60, 5.0), (70, 5.0))),
        indexing="ij",
    )
    hu = np.full(z.shape, -1000, np.int16)
    hu[(x / 150) ** 2 + (y / 110) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[((x - 70 * side) / 55) ** 2 + (y / 80) ** 2 + (z / 48) ** 2 < 1] = -800
    for dz, dy, dx in ((0, 0, 60), (10, 20, -60), (-20, -30, 80), (20, 10, 50), (-10, 5, -85)):
        hu[(x - dx) ** 2 + (y - dy) ** 2 + (z - dz) ** 2 < 9**2] = 40
    hu += np.random.default_rng(5).integers(-10, 10, hu.shape).astype(np.int16)
    origin = (float(x[0, 0, 0]), float(y[0, 0, 0]), float(z[0, 0, 0]))
    found = []
    made = Phantom(hu, (5.0, 5.0, 5.0), origin, ())
    for one in series(made, study_uid="1.2.3", series_uid="1.2.3.4"):
        packed = io.BytesIO()
        one.save_as(packed, enforce_file_format=True)
        found.append(packed.getvalue())
    return found


@BOTH
def test_openvino_and_onnxruntime_agree_tensor_by_tensor_and_finding_by_finding(tiny, chest):
    rows = list(compare.compare(tiny, compare.names(None), instances=chest))
    tensors = [row for row in rows if isinstance(row, compare.OfTensor)]
    assert {row.network for row in tensors} == {"segment", "propose", "classify"}
    assert len(rows) > len(tensors)
    assert "agrees with" in compare.judge(rows, ("openvino", "onnxruntime"))


def test_a_tensor_that_differs_is_named_with_its_figures(tiny):
    with compare.opened("onnxruntime", tiny) as good:
        for change, text in (
            (lambda a: a + np.float32(0.01), "max 0.01"),
            (lambda a: np.where(a == a.max(), np.nan, a).astype(np.float32), "max inf"),
            (lambda a: a[..., :1], "max inf"),
        ):
            rows = compare.tensors(tiny, good, Spoilt(good, "propose", change))
            assert [row.passed for row in rows] == [row.network != "propose" for row in rows]
            with pytest.raises(BundleRefused, match=text) as error:
                compare.judge(rows, ("onnxruntime", "gpu"))
            assert error.value.code == "compare_mismatch"
            assert "FAIL propose" in error.value.text


def test_two_backends_that_agree_but_not_with_what_was_recorded_fail(tiny):
    with compare.opened("onnxruntime", tiny) as good:
        moved = Spoilt(good, "classify", lambda a: a + np.float32(1))
        rows = compare.tensors(tiny, moved, moved)
        (row,) = [row for row in rows if not row.passed]
        assert (row.network, row.max_abs) == ("classify", 0)
        assert row.recorded == pytest.approx(1, abs=1e-3)


def test_another_score_or_another_verdict_of_the_line_is_a_difference(tiny, chest):
    with compare.opened("onnxruntime", tiny) as good:
        moved = Spoilt(good, "classify", lambda a: a + np.float32(1.5))
        rows = compare.findings(tiny, good, moved, chest)
        assert any("score differs" in row.why for row in rows)
        blind = Spoilt(good, "segment", lambda a: np.full_like(a, -9))
        (row,) = compare.findings(tiny, good, blind, chest)
        assert (row.first, row.second) == ("analysed", "not_analysed: no_lungs")
        assert not row.passed


def finding(at=(0.0, 0.0, 0.0), score=0.9, diameter: float | None = 8.0, kind="nodule") -> Finding:
    return Finding.model_construct(
        kind=kind, score=score, threshold=0.5, center_lps_mm=at, diameter_mm=diameter
    )


ONE = finding()
MATCHED = [
    ([ONE], [ONE], True),
    ([ONE], [finding((1.4, 0, 0))], True),
    ([ONE], [finding((1.6, 0, 0))], False),
    ([ONE], [finding(score=0.86)], True),
    ([ONE], [finding(score=0.84)], False),
    ([ONE], [finding(diameter=9.0)], True),
    ([ONE], [finding(diameter=9.1)], False),
    ([ONE], [finding(diameter=None)], False),
    ([finding(diameter=30.0)], [finding(diameter=32.9)], True),
    ([ONE], [finding(kind="mass")], False),
    ([ONE], [], False),
    ([], [ONE], False),
    ([finding(score=0.54)], [], True),
    ([], [finding(score=0.56)], False),
    ([finding((0, 0, 0)), finding((3, 0, 0))], [finding((3, 0, 0)), finding((0, 0, 0))], True),
    ([finding((0, 0, 0)), finding((1, 0, 0))], [finding((0, 0, 0))], False),
    ([finding(None, kind="pneumonia")], [finding(None, 0.88, kind="pneumonia")], True),
]


@pytest.mark.parametrize(("first", "second", "same"), MATCHED)
def test_what_counts_as_the_same_finding(first, second, same):
    assert all(row.passed for row in compare.matched(first, second)) is same


def test_a_backend_that_breaks_fails_the_comparison(tiny):
    def breaks(_: np.ndarray) -> np.ndarray:
        raise Poisoned("TensorRT: Error Code 1", code="backend_failed")

    with (
        compare.opened("onnxruntime", tiny) as good,
        pytest.raises(Poisoned, match="Error Code 1"),
    ):
        compare.tensors(tiny, good, Spoilt(good, "propose", breaks))


def test_a_bundle_without_a_case_for_a_network_cannot_be_compared(tiny):
    fewer = tiny.manifest.model_copy(update={"goldens": ()})
    bare = replace(tiny, manifest=fewer, goldens=())
    with compare.opened("onnxruntime", bare) as good, pytest.raises(BundleRefused) as error:
        compare.tensors(bare, good, good)
    assert error.value.code == "bundle_golden"


@pytest.mark.parametrize("text", ["onnxruntime", "onnxruntime,cuda", "a,b,c"])
def test_backends_that_are_none_are_named(text, tiny_bundle, capsys):
    assert main(["compare", str(tiny_bundle), "--backends", text]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "[backends_unknown] Name two of gpu, openvino, onnxruntime" in line


@BOTH
def test_the_verb_prints_each_row_and_the_verdict(tiny_bundle: Path, capsys):
    assert main(["compare", str(tiny_bundle), "--no-findings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "onnxruntime agrees with openvino: 4 tensors, 0 findings"
    assert sum(line.startswith("ok") for line in lines) == 4


def test_the_gpu_without_engines_or_without_a_driver_is_an_error(tiny, tmp_path, monkeypatch):
    with pytest.raises(BackendUnavailable) as error, compare.opened("gpu", tiny):
        pass
    assert error.value.code == "engine_missing"
    monkeypatch.setattr(driver, "NODES", ())
    monkeypatch.setattr(driver, "MODULES", ())
    with pytest.raises(BackendUnavailable) as error, compare.opened("gpu", tiny, tmp_path):
        pass
    assert error.value.code == "no_gpu"
