"""What serves, what is built and what is said, on a GPU of the host with unruly builders."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import line
from appliance.backend import fatbin, trt_engine
from appliance.bundle import trust
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable
from appliance.host import driver
from appliance.runtime import engine_build, engine_shelf
from appliance.runtime import gpu as runtime_gpu
from appliance.runtime.bundles import OpenBundles
from appliance.runtime.engine_build import Build
from appliance.runtime.gpu import GpuEngines, Machine
from appliance.settings import Settings
from compile import kernels
from rigs.engine_bench import HERE, EngineBench, put

WAIT_S = 60.0


@pytest.fixture(scope="module")
def tiny_loaded(tiny_bytes: bytes) -> Loaded:
    return trust.check(tiny_bytes)


@pytest.fixture
def bench(kernels, tmp_path, tiny_loaded) -> Iterator[EngineBench]:
    made = EngineBench(kernels, tmp_path, tiny_loaded)
    yield made
    for each in made.opened:
        each.close()


def until(done: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def turned(engines: GpuEngines) -> tuple[str, ...]:
    """Follow a build to its end: digests of bundles whose engine is ready."""
    found: list[str] = []
    until(lambda: found.extend(engines.follow_build()) or not engines.busy)
    return tuple(found)


def test_without_an_engine_the_cpu_serves_while_one_is_built_that_then_serves(bench):
    engines = bench.gpu()
    assert bench.open(engines) is None
    assert bench.state_of(engines) == ("building", "")
    assert turned(engines) == (bench.loaded.digest,)
    backend = bench.open(engines)
    assert backend is not None
    assert bench.state_of(engines) == ("ready", "")
    assert backend.ref.name == "gpu"
    backend.close()
    engines.close()
    again = bench.gpu(builds=False)
    backend = bench.open(again)
    assert backend is not None
    assert bench.state_of(again) == ("ready", "")
    backend.close()


BAD_BUILDS = {
    "refuses": ("engine_node", "Conv_7"),
    "traceback": ("engine_build_died", "no such thing"),
    "dies": ("engine_build_died", "SIGABRT"),
    "half": ("engine_build_died", "SIGKILL"),
    "differs": ("engine_build_died", "ended with 1"),
}


@pytest.mark.parametrize("how", BAD_BUILDS)
def test_a_build_that_fails_is_named_and_not_tried_again_on_the_same_machine(bench, how):
    code, words = BAD_BUILDS[how]
    bench.how = how
    engines = bench.gpu()
    assert bench.open(engines) is None
    assert turned(engines) == ()
    row = engines.states[bench.loaded.digest]
    assert (row.state, row.code) == ("fallback", code)
    assert words in row.text
    assert row.remedy
    engines.close()
    bench.how = "passes"
    again = bench.gpu()
    assert bench.open(again) is None
    assert bench.state_of(again) == ("fallback", code)
    assert not again.busy
    bench.here = HERE.model_copy(update={"version": "10.17.0"})
    put(bench.made, bench.loaded, bench.here)
    updated = bench.gpu()
    assert bench.open(updated) is None
    assert turned(updated) == (bench.loaded.digest,)


def test_a_builder_that_says_a_lot_does_not_hang(bench):
    bench.how = "speaks"
    engines = bench.gpu()
    assert bench.open(engines) is None
    assert turned(engines) == (bench.loaded.digest,)


def test_what_was_built_but_computes_something_else_never_serves(bench, tiny_loaded):
    put(bench.made, tiny_loaded, classify=other_network(tiny_loaded))
    engines = bench.gpu()
    assert bench.open(engines) is None
    assert turned(engines) == ()
    assert bench.state_of(engines) == ("fallback", "engine_golden")
    assert "classify" in engines.states[tiny_loaded.digest].text
    assert bench.shelf.ready is None


def other_network(loaded: Loaded) -> bytes:
    """The bundle's classifier with other weights: it loads and runs."""
    import onnx  # noqa: PLC0415
    from onnx import numpy_helper  # noqa: PLC0415

    model = onnx.load_model_from_string(loaded.networks["classify"])
    weights = next(w for w in model.graph.initializer if w.name == "w")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 1.5, "w"))
    return bytes(model.SerializeToString())


def test_the_engine_before_serves_until_the_new_one_has_passed(bench, tiny_loaded):
    bench.serve()
    first = bench.shelf.ready
    assert first is not None
    bench.here = HERE.model_copy(update={"power_mode": "MAXN"})  # an update of the mode
    put(bench.made, tiny_loaded, bench.here, classify=other_network(tiny_loaded))
    engines = bench.gpu()
    backend = bench.open(engines)
    assert backend is not None
    assert engines.busy
    assert turned(engines) == ()
    assert bench.state_of(engines) == ("ready", "")
    assert bench.shelf.ready == first
    assert bench.shelf.failed(bench.here).code == "engine_golden"
    backend.close()
    engines.close()
    (bench.shelf.folder / engine_shelf.FAILED).unlink()
    put(bench.made, tiny_loaded, bench.here)
    engines = bench.gpu()
    backend = bench.open(engines)
    assert turned(engines) == (tiny_loaded.digest,)
    second = bench.shelf.ready
    assert second is not None
    assert second.side != first.side
    assert not (bench.shelf.folder / first.side).exists()
    assert not bench.shelf.stale(bench.here)
    assert backend is not None
    backend.close()


SPOILT = {
    "a truncated engine": ("engine_damaged", lambda f: cut(f / "classify.engine")),
    "an engine that is away": ("engine_damaged", lambda f: (f / "segment.engine").unlink()),
    "a changed manifest": ("engine_damaged", lambda f: respell(f, workspace_bytes=2)),
    "a cut manifest": ("engine_damaged", lambda f: cut(f / "engine.json")),
    "another TensorRT": ("engine_elsewhere", lambda f: respell(f, version="10.3.0")),
    "another architecture": ("engine_elsewhere", lambda f: respell(f, architecture="sm_110")),
    "another GPU": ("engine_elsewhere", lambda f: respell(f, gpu="Thor")),
    "another board": ("engine_elsewhere", lambda f: respell(f, board="Orin Nano")),
    "another bundle": (
        "engine_elsewhere",
        lambda f: respell(f, bundle={"name": "a", "version": "1.0.0", "digest": "0" * 64}),
    ),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def respell(folder: Path, **changes: object) -> None:
    path = folder / "engine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("what", SPOILT)
def test_an_engine_that_does_not_fit_is_named_and_another_one_is_built(bench, what):
    code, spoil = SPOILT[what]
    bench.serve()
    spoil(bench.shelf.folder / bench.shelf.ready.side)
    told = bench.gpu(builds=False)
    assert bench.open(told) is None
    assert bench.state_of(told) == ("fallback", code)
    assert told.states[bench.loaded.digest].remedy
    with pytest.raises(BackendUnavailable) as error:
        bench.open(bench.gpu(required=True))
    assert error.value.code == code
    engines = bench.gpu()
    assert bench.open(engines) is None
    assert bench.state_of(engines) == ("building", code)
    assert engines.busy


def test_an_engine_of_another_onnx_file_or_other_shapes_does_not_fit(tiny_loaded, tmp_path):
    made = put(tmp_path, tiny_loaded)
    of = tiny_loaded.manifest
    assert engine_shelf.misfits(made, tiny_loaded.ref, of, HERE) == ()
    one = made.engines["segment"]
    for change, words in (
        ({"onnx_digest": "1" * 64}, "another ONNX file"),
        ({"profile": {"image": ((1,) * 5,) * 3}}, "other shapes"),
    ):
        other = {**made.engines, "segment": one.model_copy(update=change)}
        changed = made.model_copy(update={"engines": other})
        (said,) = engine_shelf.misfits(changed, tiny_loaded.ref, of, HERE)
        assert words in said
    lacking = made.model_copy(update={"engines": {"segment": one}})
    assert len(engine_shelf.misfits(lacking, tiny_loaded.ref, of, HERE)) == 2


@pytest.mark.parametrize(
    "code",
    [
        "no_gpu",
        "gpu_hidden",
        "driver_old",
        "kernels_missing",
        "fatbin_architecture",
        "memory_short",
    ],
)
def test_what_the_machine_lacks_is_said_once_and_nothing_is_built(bench, code, caplog):
    def lacking() -> Machine:
        bench.looked += 1
        raise BackendUnavailable("it lacks this", code=code, remedy="Get it.")

    engines = bench.gpu(machine=lacking)
    caplog.set_level("INFO")
    assert bench.open(engines) is None
    assert bench.open(engines) is None
    assert bench.state_of(engines) == ("fallback", code)
    assert not engines.busy
    assert bench.looked == 1
    assert [r.message for r in caplog.records].count(
        engines.states[bench.loaded.digest].one_line()
    ) == 1
    with pytest.raises(BackendUnavailable, match="it lacks this"):
        bench.open(bench.gpu(machine=lacking, required=True))


@pytest.mark.parametrize(
    "code",
    ["kernels_missing", "fatbin_broken", "fatbin_architecture", "memory_short", "gpu_failed"],
)
def test_a_gpu_that_cannot_be_opened_is_named_and_its_engine_waits_for_it(bench, code):
    bench.serve()
    ready = bench.shelf.ready

    def closed() -> Machine:
        def device():
            raise BackendUnavailable("it does not open", code=code, remedy="Mend it.")

        return Machine(HERE, device, bench.machine().open)

    engines = bench.gpu(machine=closed)
    assert bench.open(engines) is None
    row = engines.states[bench.loaded.digest]
    assert (row.state, row.code, row.remedy) == ("fallback", code, "Mend it.")
    assert not engines.busy  # another engine would not open it either
    assert bench.shelf.ready == ready
    mended = bench.gpu()
    backend = bench.open(mended)
    assert backend is not None
    assert bench.state_of(mended) == ("ready", "")
    backend.close()


def test_without_kernels_for_this_gpu_nothing_is_built_for_it(monkeypatch, tmp_path):
    orin = driver.Driver(name="Orin", major=8, minor=7, version=12060, integrated=True)
    path = tmp_path / fatbin.NAME
    monkeypatch.setattr(runtime_gpu, "found_gpu", lambda: orin)
    monkeypatch.setattr(trt_engine, "version", lambda: "10.3.0")
    monkeypatch.setitem(fatbin.shipped.__kwdefaults__, "path", path)
    with pytest.raises(BackendUnavailable) as error:
        runtime_gpu.this_machine()
    assert error.value.code == "kernels_missing"
    kernels.place(tmp_path, cubin(90))
    with pytest.raises(BackendUnavailable, match="has no code for sm_87") as error:
        runtime_gpu.this_machine()
    assert error.value.code == "fatbin_architecture"
    kernels.place(tmp_path, cubin(87))
    assert runtime_gpu.this_machine().here.architecture == "sm_87"


def cubin(architecture: int) -> bytes:
    """A fatbin of one architecture with nothing in it (fatbin.py)."""
    entry = struct.pack("<HHIQIIHHI", 2, 0x101, 64, 0, 0, 0, 8, 1, architecture).ljust(64, b"\0")
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entry)) + entry


def test_a_build_ends_at_once_when_it_is_told_to_and_is_no_failure(bench):
    bench.how = "sleeps"
    engines = bench.gpu()
    bench.open(engines)
    engines.follow_build()
    begun = bench.shelf.next / "begun"
    until(begun.exists)
    child = engines._build[1]._child
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
    engines.close()
    assert child.poll() is not None
    assert bench.shelf.failed(HERE) is None


def test_a_gpu_that_fails_while_an_engine_is_built_does_not_end_the_work(bench):
    bench.how = "refuses"
    engines = bench.gpu()
    bench.open(engines)
    engines.follow_build()
    engines.device_failed(
        bench.loaded.digest, BackendUnavailable("an illegal access", code="backend_failed")
    )
    assert turned(engines) == ()
    assert bench.state_of(engines)[0] == "fallback"
    assert bench.open(engines) is None
    assert bench.state_of(engines) == ("fallback", "backend_failed")


def test_engines_of_bundles_that_are_gone_are_removed(bench, tmp_path):
    bench.serve()
    other = bench.state / "engines" / ("0" * 16)
    put(other / "a", bench.loaded)
    engine_shelf.prune(bench.state, {bench.loaded.digest})
    assert not other.exists()
    assert bench.shelf.serving(bench.loaded, HERE).engines
    engine_shelf.prune(tmp_path / "nowhere", set())


def test_a_build_takes_no_longer_than_it_may(tmp_path):
    build = Build([[sys.executable, "-c", "import time; time.sleep(600)"]], limit_s=0.2)
    until(lambda: build.poll() is not None)
    assert build.poll().code == "engine_build_slow"
    assert not build.running


def test_a_build_ends_with_the_process_that_began_it(tmp_path):
    if len(engine_build.polite(["x"])) < 7:
        pytest.skip("setpriv is not installed (util-linux): a build may outlive its parent")
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        "import sys, time; from appliance.runtime.engine_build import Build; "
        f"build = Build([[sys.executable, '-c', {child!r}]]); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", parent])
    until(lambda: note.exists() and note.read_text())
    starter.send_signal(signal.SIGKILL)
    starter.wait(WAIT_S)
    pid = int(note.read_text())
    until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    """Whether it runs: what ended and was not waited for has no command line (proc(5))."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_new_engine_is_taken_up_and_the_spare_where_the_gpu_fails(bench, ready_site, dicom):
    settings = Settings.model_validate({
        "state": ready_site.settings.state, "work": {"backend": "auto", "threads": 2},
    })  # fmt: skip
    bench.state = settings.state
    bundles = OpenBundles(settings, engines=bench.gpu())
    bench.loaded = bundles.shelf.load(bundles.shelf.active()[0])
    put(bench.made, bench.loaded)
    (before,) = bundles.refresh()
    assert before.backend.ref.name in ("openvino", "onnxruntime")
    until(lambda: bundles.follow_builds() or not bundles.engines.busy)
    (after,) = bundles.refresh()
    assert after.backend.ref.name == "gpu"
    assert after.spare() is before.backend
    owner = after.backend._owner
    owner.call(lambda device: setattr(device.cuda, "fails", "launch"))
    fold = line.begin([after.bundle])
    for one in dicom.all(dicom.chest()):
        fold = line.add(fold, one)
    result = after.finish(fold)
    assert result.status.value == "analysed"
    assert result.backend.name == before.backend.ref.name
    assert result.findings == before.finish(fold).findings
    assert bundles.engines.states[bench.loaded.digest].code == "backend_failed"
    assert after.finish(fold).findings == result.findings  # a series that began with it
    (now,) = bundles.refresh()
    assert now.backend is before.backend
    owner.call(lambda device: setattr(device.cuda, "fails", None))
    bundles.close()


def test_an_engine_that_was_built_is_proved_and_opened_beside_the_work(
    bench, ready_site, monkeypatch
):
    settings = Settings.model_validate({
        "state": ready_site.settings.state, "work": {"backend": "auto", "threads": 2},
    })  # fmt: skip
    bench.state = settings.state
    news, begun, go = threading.Event(), threading.Event(), threading.Event()
    bundles = OpenBundles(settings, engines=bench.gpu(), news=news.set)
    bench.loaded = bundles.shelf.load(bundles.shelf.active()[0])
    put(bench.made, bench.loaded)
    real = GpuEngines._prove

    def held(engines, loaded):
        assert threading.current_thread() is not threading.main_thread()
        begun.set()
        assert go.wait(WAIT_S)
        real(engines, loaded)

    monkeypatch.setattr(GpuEngines, "_prove", held)
    (before,) = bundles.refresh()
    until(lambda: bundles.follow_builds() or begun.is_set())
    for _ in range(3):  # the loop turns while the engine is being opened
        bundles.follow_builds()
        assert bundles.refresh() == (before,)
    go.set()
    assert news.wait(WAIT_S)
    bundles.follow_builds()
    (after,) = bundles.refresh()
    assert after.backend.ref.name == "gpu"
    assert after.spare() is before.backend
    bundles.close()
