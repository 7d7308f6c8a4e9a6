"""Every network of the factory bundles becomes an engine by NVIDIA's builder, without a GPU."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from appliance.bundle import trust
from appliance.bundle.manifest import Network, Port
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused
from appliance.preprocess.spec import Pad, Resample
from compile import engine
from compile.__main__ import main
from compile.engine import EngineManifest

REPOSITORY = Path(__file__).parents[2]
BUNDLES = sorted((REPOSITORY / "appliance" / "factory" / "bundles").glob("*.scanside"))
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed (pip install 'scanside[trt-rtx]')",
)


def built(bundle: Path, target: str, out: Path) -> str:
    """Runs the verb as the appliance does, in a process of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "compile", "engine", bundle, "--target", target, "-o", out],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def loaded(bundle: Path) -> Loaded:
    return trust.check(bundle.read_bytes())


FIXED = """
import hashlib, pathlib, sys
import numpy as np
from appliance.bundle import trust
from compile import engine, tensorrt
from compile.unquantized import unquantized
of = trust.check(pathlib.Path(sys.argv[1]).read_bytes())
rtx = tensorrt.load("tensorrt_rtx")
for role, network in of.manifest.networks.items():
    free = engine.profile(role, network, of.manifest)
    usual = {port: (shapes[1],) * 3 for port, shapes in free.items()}
    int8 = of.networks[role]
    for name, onnx in ((n, o) for n in ("sm_86", "sm_89") for o in (int8, unquantized(int8))):
        made = tensorrt.build(rtx, role, network, onnx, usual, architecture=name)
        data = made.data
        if len(network.outputs) > 1:  # the builder lists them in either order
            data = np.bincount(np.frombuffer(data, np.uint8), minlength=256).tobytes()
        print(hashlib.sha256(data).hexdigest())
"""


def test_there_is_a_factory_bundle() -> None:
    assert BUNDLES


@needs_rtx
@pytest.mark.parametrize("target", ["rtx:SM89", pytest.param("rtx:SM86", marks=pytest.mark.long)])
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.stem)
def test_a_factory_bundle_builds(
    bundle: Path, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_build(bundle, target, tmp_path, capsys)


@needs_rtx
@pytest.mark.parametrize("target", ["rtx:SM86", "rtx:SM89"])
def test_a_float_bundle_builds(
    target: str, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_build(tiny_bundle, target, tmp_path, capsys)


def check_build(
    bundle: Path, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = built(bundle, target, tmp_path / "once")
    with capsys.disabled():
        sys.stdout.write(f"\ngate: {bundle.stem}: {said.splitlines()[-1].split(': ')[1]}\n")
    warned = [line for line in said.splitlines() if line.startswith("warning")]
    assert all("scales to fp32" in line for line in warned)  # of float16 scales: it widens them
    made = engine.read(tmp_path / "once")
    assert made is not None
    of = loaded(bundle)
    assert made.bundle == of.ref
    assert made.target == target
    assert made.architecture == target.replace("rtx:SM", "sm_")
    assert (made.library, made.typing) == ("tensorrt_rtx", "strong")
    assert (made.gpu, made.board, made.power_mode, made.timing_cache) == (None,) * 4
    assert set(made.engines) == set(of.manifest.networks)
    for role, one in made.engines.items():
        data = (tmp_path / "once" / one.file).read_bytes()
        assert one.onnx_digest == hashlib.sha256(of.networks[role]).hexdigest()
        assert (one.bytes, one.digest) == (len(data), hashlib.sha256(data).hexdigest())
        assert one.profile == engine.profile(role, of.manifest.networks[role], of.manifest)


@pytest.mark.long
@needs_rtx
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.stem)
def test_a_network_of_fixed_shapes_builds_the_same_bytes_in_another_process(bundle: Path) -> None:
    """With free axes the builder numbers its shape variables anew each time; and where a network
    has several outputs, the same bytes may come in another order (docs/compile.md)."""
    once, twice = (
        subprocess.run(
            [sys.executable, "-c", FIXED, bundle],
            capture_output=True,
            text=True,
            timeout=280,
            check=True,
            cwd=REPOSITORY,
        ).stdout
        for _ in range(2)
    )
    assert once == twice
    assert len(once.splitlines()) == 4 * len(loaded(bundle).manifest.networks)  # INT8 and float
    assert len(set(once.splitlines())) >= 2 * len(loaded(bundle).manifest.networks)


@needs_rtx
def test_a_build_replaces_the_one_before_and_a_refused_one_does_not(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "engines"
    of, wanted = loaded(tiny_bundle), engine.target("rtx:SM86")
    engine.build(of, wanted, out)
    before = contents(out)
    wanted = engine.target("rtx:SM89")
    made, _ = engine.build(of, wanted, out)
    after = contents(out)
    assert set(after) == {engine.MANIFEST, *(one.file for one in made.engines.values())}
    assert not {n for n in before if n.endswith(".engine")} & set(after)
    model = onnx.load_model_from_string(of.networks["segment"])
    model.graph.node[1].domain = "nowhere"
    planted = replace(of, networks={**of.networks, "segment": model.SerializeToString()})
    with pytest.raises(BundleRefused) as caught:
        engine.build(planted, wanted, out)
    assert caught.value.code == "lint"
    assert "Relu -> distance" in caught.value.text
    assert contents(out) == after


@needs_rtx
def test_a_gpu_that_tensorrt_rtx_does_not_list_is_refused_by_name(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", str(tiny_bundle), "--target", "rtx:SM87"]) == 1
    line = capsys.readouterr().err
    assert "does not build for sm_87 [backend_unavailable] It builds for " in line


def test_a_target_that_is_none_is_wrong_usage(tiny_bundle: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["engine", str(tiny_bundle), "--target", "cuda"])
    assert caught.value.code == 2


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.stem)
def test_every_golden_case_fits_the_profile_of_its_network(bundle: Path) -> None:
    of = loaded(bundle)
    for golden, data in of.goldens:
        network = next(n for role, n in of.manifest.networks.items() if role == golden.network)
        (shapes,) = engine.profile(golden.network, network, of.manifest).values()
        shape = np.load(io.BytesIO(data))["input"].shape
        assert all(a <= b <= c for a, b, c in zip(shapes[0], shape, shapes[2], strict=True))


def test_profiles_follow_the_op_list(tiny_bundle: Path) -> None:
    manifest = loaded(tiny_bundle).manifest
    found = {r: engine.profile(r, n, manifest)["image"] for r, n in manifest.networks.items()}
    # 500 mm at 3 mm are 167 voxels, 176 with the pad; 420 mm and 2 * 10 mm at 1.25 mm are 352
    assert found["segment"] == ((1, 1, 16, 16, 16), (1, 1, 112, 128, 128), (1, 1, 176, 176, 176))
    assert found["propose"][2] == (1, 1, 320, 272, 352)
    most = manifest.line.propose.top_k * manifest.line.classify.views
    assert found["classify"] == ((1, 1, 48, 48), (most, 1, 48, 48), (most, 1, 48, 48))


def test_a_network_of_radiographs_sees_one_a_run_and_a_golden_case_of_some(
    tiny_radiograph_bytes: bytes,
) -> None:
    of = trust.check(tiny_radiograph_bytes).manifest
    found = engine.profile("classify", of.networks["classify"], of)["image"]
    assert found == ((1, 1, 28, 28), (1, 1, 28, 28), (16, 1, 28, 28))


@pytest.mark.parametrize(
    ("shape", "axis"), [((-1, 1, 32, 32, 32), 0), ((1, -1, 32, 32, 32), 1), ((1, 1, 32, -1), 3)]
)
def test_a_free_axis_that_no_op_bounds_is_refused(
    shape: tuple[int, ...], axis: int, tiny_bundle: Path
) -> None:
    network = Network(
        file="net.onnx",
        digest="0" * 64,
        precision="fp32",
        inputs=(Port(name="image", shape=shape),),
        outputs=(),
        preprocess=(Resample(spacing_mm=(3.0, 3.0, 3.0)), Pad(multiple=16)),
    )
    with pytest.raises(BundleRefused) as caught:
        engine.profile("segment", network, loaded(tiny_bundle).manifest)
    assert caught.value.code == "engine_axes"
    assert f"axis {axis} of 'image'" in caught.value.text


def test_a_timing_cache_serves_again_only_where_its_manifest_vouches_for_it(
    tmp_path: Path,
) -> None:
    cache = b"what the builder timed"
    made = EngineManifest(
        bundle={"name": "tiny", "version": "1.0.0", "digest": "0" * 64},
        target="this",
        library="tensorrt",
        version="10.16.2",
        typing="strong",
        architecture="sm_87",
        gpu="Orin",
        board="a board",
        power_mode="30W",
        workspace_bytes=1,
        timing_cache=hashlib.sha256(cache).hexdigest(),
        engines={},
    )
    assert engine.kept_cache(tmp_path, made) is None
    (tmp_path / engine.MANIFEST).write_text(made.model_dump_json(by_alias=True))
    (tmp_path / engine.CACHE).write_bytes(cache)
    assert engine.read(tmp_path) == made
    assert engine.kept_cache(tmp_path, made) == cache
    assert engine.kept_cache(tmp_path, made.model_copy(update={"version": "11.4.1"})) is None
    assert engine.kept_cache(tmp_path, made.model_copy(update={"gpu": "Thor"})) is None
    (tmp_path / engine.CACHE).write_bytes(cache[:-1])
    assert engine.kept_cache(tmp_path, made) is None
    (tmp_path / engine.MANIFEST).write_text("{")
    assert engine.read(tmp_path) is None
