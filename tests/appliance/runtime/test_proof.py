"""What proves a bundle, and what speaks against it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.bundle import archive, trust
from appliance.bundle.gates import Gates
from appliance.phantom import chest
from appliance.phantom.version import VERSION
from appliance.runtime import proof
from appliance.settings import Settings
from compile.pack import pack
from rigs.engine_bench import EngineBench, put

COARSE = (2.5, 3.0, 3.0)
Forge = Callable[..., bytes]


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phantom in a grid that is made in a second."""
    monkeypatch.setattr(chest, "chest", partial(chest.chest, spacing_mm=COARSE))


@pytest.fixture(scope="module")
def recorded_bytes(tiny_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tiny bundle with what it finds in the phantom."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.scanside"
    path.write_bytes(tiny_bytes)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chest, "chest", partial(chest.chest, spacing_mm=COARSE))
        return pack(path, version="1.0.1", phantom=True)


@pytest.fixture
def recorded(recorded_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "recorded.scanside"
    path.write_bytes(recorded_bytes)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    work = {"backend": "onnxruntime", "threads": 2}
    return Settings.model_validate({"state": tmp_path / "state", "work": work})


def changed(path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    entries = archive.read(path.read_bytes())
    manifest = json.loads(entries["manifest.json"])
    edit(manifest)
    out = path.with_name("changed.scanside")
    out.write_bytes(archive.write(entries | {"manifest.json": json.dumps(manifest).encode()}))
    return out


def codes(found: proof.Proof) -> list[str]:
    assert all(one.remedy for one in found.reasons)
    return [one.code for one in found.reasons]


def test_a_bundle_that_finds_what_was_recorded_is_proved(
    recorded: Path, settings: Settings
) -> None:
    steps: list[str] = []
    found = proof.prove(recorded, settings, steps.append)
    assert found.verdict == "proved"
    assert found.reasons == ()
    assert found.bundle == trust.check(recorded.read_bytes()).ref
    assert found.backend is not None
    assert found.backend.name == "onnxruntime"
    assert found.engine is None, "the settings ask for no GPU"
    assert [case.network for case in found.goldens] == ["segment", "propose", "classify"]
    assert all(case.passed for case in found.goldens)
    assert found.phantom is not None
    assert found.phantom.recorded == found.phantom.found > 0
    assert (found.phantom.unmatched, found.phantom.version) == (0, VERSION)
    assert steps == ["golden cases on the CPU", "the phantom"]
    assert found.seconds > 0
    assert "proved on onnxruntime fp32: 3 golden cases" in found.one_line()
    assert proof.Proof.model_validate_json(found.model_dump_json(by_alias=True)) == found


def test_the_result_of_golden_cases_is_kept_for_who_activates_it(
    recorded: Path, settings: Settings
) -> None:
    found = proof.prove(recorded, settings)
    assert found.bundle is not None
    assert Gates(settings.state, None).verdict(found.bundle.digest) == "passed"


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "a finding is missing": lambda m: m["phantom"]["findings"].append(
        m["phantom"]["findings"][0] | {"center_lps_mm": [0.0, 0.0, 500.0], "score": 0.99}
    ),
    "a finding is new": lambda m: (
        m["phantom"]["findings"].sort(key=lambda f: f["score"]) or m["phantom"]["findings"].pop()
    ),
    "a score has moved": lambda m: m["phantom"]["findings"][0].update(
        score=abs(m["phantom"]["findings"][0]["score"] - 0.2)
    ),
}


@pytest.mark.parametrize("edit", WRONG.values(), ids=WRONG)
def test_a_bundle_that_finds_something_else_fails_and_says_so(
    recorded: Path, settings: Settings, edit: Callable[[dict[str, Any]], object]
) -> None:
    found = proof.prove(changed(recorded, edit), settings)
    assert found.verdict == "failed"
    assert codes(found) == ["bundle_phantom"]
    assert found.phantom is not None
    assert found.phantom.unmatched >= 1


@pytest.mark.parametrize("version", [None, VERSION + 1])
def test_without_a_record_of_this_phantom_golden_cases_alone_count(
    recorded: Path, settings: Settings, version: int | None
) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        if version is None:
            del manifest["phantom"]
        else:
            manifest["phantom"]["version"] = version

    found = proof.prove(changed(recorded, edit), settings)
    assert found.verdict == "not_proved"
    assert codes(found) == ["phantom_missing"]
    assert len(found.goldens) == 3
    assert found.phantom is None
    assert "not proved" in found.one_line()


def test_golden_cases_that_do_not_pass_fail_it_before_the_phantom(
    forge: Forge, settings: Settings, tmp_path: Path
) -> None:
    case = io.BytesIO()
    np.savez(case, input=np.zeros((1, 1, 16, 16, 16), np.float32), lungs=np.zeros(3, np.float32))
    path = tmp_path / "wrong.scanside"
    path.write_bytes(forge(put={"golden/segment.npz": case.getvalue()}))
    found = proof.prove(path, settings)
    assert found.verdict == "failed"
    assert codes(found) == ["bundle_golden"]
    assert [case.passed for case in found.goldens] == [False, True, True]
    assert found.phantom is None
    assert found.backend is None


def test_what_is_no_bundle_fails_with_its_reason(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "cut.scanside"
    path.write_bytes(b"cut off")
    found = proof.prove(path, settings)
    assert (found.verdict, found.bundle) == ("failed", None)
    assert codes(found) == ["bundle_archive"]
    assert codes(proof.prove(tmp_path / "nowhere", settings)) == ["bundle_unreadable"]


@pytest.fixture
def bench(kernels: Path, tmp_path: Path, tiny_bytes: bytes) -> Iterator[EngineBench]:
    """A machine with a GPU of the host. Its bundle has no record of the phantom."""
    made = EngineBench(kernels, tmp_path, trust.check(tiny_bytes))
    (tmp_path / "tiny.scanside").write_bytes(tiny_bytes)
    yield made
    for each in made.opened:
        each.close()


def on_gpu(bench: EngineBench, settings: Settings) -> proof.Proof:
    return proof.prove(bench.folder / "tiny.scanside", settings, engines=bench.gpu())


def test_on_a_gpu_the_engine_is_built_first_and_golden_cases_run_on_it(
    bench: EngineBench, settings: Settings
) -> None:
    found = on_gpu(bench, settings)
    assert found.verdict == "not_proved"
    assert found.backend is not None
    assert found.backend.name == "gpu"
    assert found.engine is not None
    assert found.engine.state == "ready"
    assert len(found.goldens) == 3
    ready = bench.shelf.ready
    assert ready is not None, "`work` opens what was built here"
    assert on_gpu(bench, settings).backend == found.backend
    assert bench.shelf.ready == ready, "it is not built twice"


@pytest.mark.parametrize("how", ["refuses", "dies", "differs"])
def test_where_the_gpu_would_not_serve_it_the_bundle_fails_although_the_cpu_could(
    bench: EngineBench, settings: Settings, how: str
) -> None:
    bench.how = how
    found = on_gpu(bench, settings)
    assert found.verdict == "failed"
    assert found.engine is not None
    assert found.engine.state == "fallback"
    assert codes(found) == [found.engine.code]
    assert found.reasons[0].text.startswith("the GPU of this machine does not serve it: ")


def test_an_engine_that_computes_something_else_fails_it(
    bench: EngineBench, settings: Settings
) -> None:
    from onnx import load_model_from_string, numpy_helper  # noqa: PLC0415 - as the rigs

    model = load_model_from_string(bench.loaded.networks["classify"])
    weights = next(w for w in model.graph.initializer if w.name == "w")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 1.5, "w"))
    put(bench.made, bench.loaded, classify=bytes(model.SerializeToString()))
    found = on_gpu(bench, settings)
    assert found.verdict == "failed"
    assert codes(found) == ["engine_golden"]
