"""Golden cases: what passes, what does not, and what an .npz may not hold."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.backend.protocol import Backend
from appliance.bundle import archive, golden, trust
from appliance.errors import BundleRefused, Poisoned
from appliance.records import Tensor

Forge = Callable[..., bytes]


@pytest.fixture
def loaded(tiny_bytes: bytes) -> trust.Loaded:
    return trust.check(tiny_bytes)


@pytest.fixture
def infer(loaded: trust.Loaded, networks: Any) -> Any:
    return networks.infer(loaded)


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def test_the_recording_backend_passes(loaded: trust.Loaded, infer: golden.Infer) -> None:
    results = golden.run(loaded, infer)
    assert [(r.network, r.passed) for r in results] == [
        ("segment", True),
        ("propose", True),
        ("classify", True),
    ]
    assert golden.gate(loaded, infer).passed


def test_a_case_beyond_its_tolerance_fails(
    loaded: trust.Loaded, infer: golden.Infer, networks: Any
) -> None:
    networks.error = 5e-3
    gate = golden.gate(loaded, infer)
    assert not gate.passed
    assert gate.results[0].max_abs_diff == pytest.approx(5e-3, rel=0.01)
    assert "allowed 0.001" in gate.one_line()
    networks.error = 5e-4
    assert golden.gate(loaded, infer).passed


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: {},
        lambda arrays: {n: a[..., :1] for n, a in arrays.items()},
        lambda arrays: {n: a * np.float32("nan") for n, a in arrays.items()},
        lambda arrays: {n: a + np.float32("inf") for n, a in arrays.items()},
    ],
)
def test_no_usable_output_fails(
    loaded: trust.Loaded, infer: golden.Infer, spoil: Callable[[Any], Any]
) -> None:
    gate = golden.gate(loaded, lambda role, image: spoil(infer(role, image)))
    assert not gate.passed
    assert gate.results[0].max_abs_diff is None
    assert golden.Gate.model_validate_json(gate.model_dump_json()) == gate


def test_a_network_that_breaks_the_backend_fails(loaded: trust.Loaded) -> None:
    def broken(role: str, image: NDArray[np.float32]) -> golden.Arrays:
        raise Poisoned("not finite", code="backend_failed")

    gate = golden.gate(loaded, broken)
    assert [r.passed for r in gate.results] == [False] * 3
    assert "no usable output" in gate.one_line()


def test_a_network_without_a_case_has_not_passed(forge: Forge, infer: golden.Infer) -> None:
    def drop(manifest: dict[str, Any]) -> None:
        propose, classify = manifest["goldens"][1:]
        manifest["goldens"][2] = propose | {"file": classify["file"]}

    case = archive.read(forge())["golden/propose.npz"]
    loaded = trust.check(forge(drop, put={"golden/classify.npz": case}))
    gate = golden.gate(loaded, infer)
    assert all(r.passed for r in gate.results)
    assert not gate.passed
    with pytest.raises(BundleRefused, match="'classify' has no golden case"):
        golden.require_cases(loaded)


def test_through_a_backend(loaded: trust.Loaded, infer: golden.Infer) -> None:
    class Numpy:
        def infer(self, role: str, image: Tensor) -> Any:
            return infer(role, image.data)

    backend: Backend = Numpy()  # type: ignore[assignment]
    assert golden.gate(loaded, golden.through(backend)).passed


def test_arrays_come_back_in_any_layout() -> None:
    c = np.arange(6, dtype=np.float32).reshape(2, 3)
    back = golden.arrays("x", npz(c=c, f=np.asfortranarray(c), scalar=np.float32(3), none=c[:0]))
    for name in ("c", "f"):
        np.testing.assert_array_equal(back[name], c)
    assert back["scalar"].shape == ()
    assert back["none"].shape == (0, 3)


class Evil:
    def __reduce__(self) -> Any:
        return (Path("pwned").touch, ())


def written(name: str, data: bytes, **options: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as file:
        file.writestr(name, data)
    return out.getvalue()


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npz(input=np.array([Evil()], dtype=object)), "only float32"),
        (npz(input=np.zeros(3)), "only float32"),
        (npz(input=np.zeros(3, dtype=">f4")), "only float32"),
        (written("input.npy", b"cos\nsystem\n"), "not readable"),
        (written("input.npy", header("(99999999999,)")), "cut off"),
        (written("input.npy", header("(-1,)") + b"\0" * 4), "cut off"),
        (written("input.npy", header("(2,)") + b"\0" * 4), "cut off"),
        (written("input.npy", header("('a',)") + b"\0" * 4), "not readable"),
        (written("input.npy", header("(" * 50)), "not readable"),
        (b"", "not readable"),
        (b"PK\x03\x04", "not readable"),
        (npz(**{f"a{i}": np.zeros(1, np.float32) for i in range(17)}), "too large"),
    ],
)
def test_a_hostile_npz_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(BundleRefused, match=said) as caught:
        golden.arrays("golden/x.npz", data)
    assert caught.value.code == "bundle_golden"
    assert not Path("pwned").exists()


def test_a_zip_bomb_is_refused_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "MAX_BYTES", 1_000_000)
    bomb = written("input.npy", b"\0" * 2_000_000, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    with pytest.raises(BundleRefused, match="too large"):
        golden.arrays("x", bomb)


@given(st.data())
def test_only_a_refusal_escapes_a_mutated_npz(data: st.DataObject) -> None:
    bad = bytearray(npz(input=np.ones(3, np.float32), heat=np.ones((2, 2), np.float32)))
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays: dict[str, NDArray[np.float32]] = golden.arrays("x", bytes(bad))
    except BundleRefused:
        return
    assert all(a.dtype == np.float32 for a in arrays.values())


def test_a_case_must_hold_its_input_and_outputs(forge: Forge, infer: golden.Infer) -> None:
    one = np.zeros((1, 1, 16, 16, 16), np.float32)
    for arrays, said in (({"lungs": one}, "'input'"), ({"input": one}, "'lungs'")):
        loaded = trust.check(forge(put={"golden/segment.npz": npz(**arrays)}))
        with pytest.raises(BundleRefused, match=said):
            golden.run(loaded, infer)


def test_of_several_inputs_each_lies_in_a_case_by_its_own_name(loaded: trust.Loaded) -> None:
    one = loaded.manifest.networks["classify"]
    ports = tuple(one.inputs[0].model_copy(update={"name": name}) for name in ("prior", "current"))
    pair = one.model_copy(update={"inputs": ports})
    there = {name: np.zeros((1, 1, 48, 48), np.float32) for name in ("prior", "current", "logit")}
    assert golden.given("case.npz", pair, there).keys() == {"prior", "current"}
    assert golden.given("case.npz", one, {"input": there["prior"]}) is there["prior"]
    for network, lacking in ((pair, {"prior": there["prior"]}), (one, there)):
        with pytest.raises(BundleRefused, match=r"no array '(current|input)'") as caught:
            golden.given("case.npz", network, lacking)
        assert caught.value.code == "bundle_golden"


def test_a_case_of_several_inputs_runs_on_a_backend_by_name(loaded: trust.Loaded) -> None:
    class Adds:
        """A backend whose one output is the sum of its inputs."""

        def infer(self, role: str, image: Tensor | dict[str, Tensor]) -> golden.Arrays:
            assert isinstance(image, dict)
            return {"logit": np.asarray(sum(tensor.data for tensor in image.values()))}

    one = loaded.manifest.networks["classify"]
    ports = tuple(one.inputs[0].model_copy(update={"name": name}) for name in ("prior", "current"))
    networks = {**loaded.manifest.networks, "classify": one.model_copy(update={"inputs": ports})}
    case = next(golden for golden, _ in loaded.goldens if golden.network == "classify")
    two = np.full((3,), 2.0, np.float32)
    pair = replace(
        loaded,
        manifest=loaded.manifest.model_copy(update={"networks": networks}),
        goldens=((case, npz(prior=two, current=two, logit=two + two)),),
    )
    (result,) = golden.run(pair, golden.through(Adds()))
    assert (result.passed, result.max_abs_diff) == (True, 0.0)
