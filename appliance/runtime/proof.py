"""Whether a bundle computes here what it should, before it serves: what `scanside prove` says.

    golden cases on the CPU       in a process of their own; the result is kept (bundle/gates.py)
    the engine                    where the GPU is to serve: opened, or built first, as `work` does
    golden cases on the engine    where there is one
    the phantom                   through `line.process`, against what the manifest has recorded

Rules
- A bundle is `proved` where all of it passed. Where its manifest has no record of the phantom, or
  one of another phantom than this appliance's, it is `not_proved`: then golden cases alone count,
  and nothing speaks against it. It is `failed` where anything did not pass; the reasons say what.
- A machine whose GPU can serve, and on which this bundle would be served by the CPU, fails it: no
  box falls back to the CPU unsaid. Where no GPU can serve at all, the CPU is what is proved.
- It says nothing of who made the bundle: whoever puts it onto the shelf checks that.
- Nothing is written but results of golden cases and engines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from appliance import line
from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import agreement, golden, trust
from appliance.bundle.gates import Gates
from appliance.bundle.holdings import file_bytes
from appliance.bundle.manifest import Network
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused, ScansideError
from appliance.lines import kinds
from appliance.phantom.version import VERSION
from appliance.records import Result
from appliance.report import BackendRef, BundleRef, Record, Status
from appliance.runtime import trial
from appliance.runtime.gpu import EngineState, GpuEngines
from appliance.runtime.open_bundle import require_memory
from appliance.settings import Settings

BUILD_LOOK_S = 0.5
"""Between two looks at a build; it ends by itself (runtime/engine_build.py, LIMIT_S)."""
Verdict = Literal["proved", "not_proved", "failed"]


class Why(Record):
    """One reason against a proof: a stable code, a sentence, what a person should do now."""

    code: str
    text: str
    remedy: str


class OfPhantom(Record):
    """What was found in the phantom, beside what was recorded."""

    version: int
    recorded: int
    """Findings in the manifest."""
    found: int
    unmatched: int
    """Of both, how many have no partner and should have one, or differ too much from it."""
    worst_center_mm: float
    worst_score: float
    worst_diameter_mm: float
    """The largest differences between partners."""
    passed: bool


class Proof(Record):
    """One bundle on this machine."""

    schema_: Literal["scanside.proof/1"] = Field(default="scanside.proof/1", alias="schema")
    file: str
    """Its name."""
    verdict: Verdict
    bundle: BundleRef | None
    """None where the file is no bundle."""
    reasons: tuple[Why, ...] = ()
    backend: BackendRef | None = None
    """What the phantom ran on, and would serve; None where none could be opened."""
    engine: EngineState | None = None
    """What is to be said of the GPU; None where the settings ask for none."""
    goldens: tuple[golden.GoldenResult, ...] = ()
    """Every golden case on that backend."""
    phantom: OfPhantom | None = None
    seconds: float

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    def one_line(self) -> str:
        """For a terminal."""
        who = self.file if self.bundle is None else f"{self.bundle.name} {self.bundle.version}"
        where = "" if self.backend is None else f" on {self.backend.name} {self.backend.precision}"
        why = "; ".join(f"{one.text} [{one.code}] {one.remedy}" for one in self.reasons)
        facts = f"{len(self.goldens)} golden cases"
        if self.phantom is not None:
            facts += f", {self.phantom.found} findings in the phantom"
        said = self.verdict.replace("_", " ")
        return f"{who}: {said}{where}: {facts}{'; ' if why else ''}{why}"


def prove(
    path: Path,
    settings: Settings,
    say: Callable[[str], object] = lambda _: None,
    *,
    engines: GpuEngines | None = None,
) -> Proof:
    """Prove the bundle in a file. What is wrong with it is never raised: it is a reason. `say`:
    progress; `engines`: of another GPU than this machine's. BackendUnavailable where the settings
    name a backend that is not installed."""
    began = time.monotonic()
    try:
        loaded = trust.check(file_bytes(path))
    except BundleRefused as e:
        return Proof(
            file=path.name, verdict="failed", bundle=None, reasons=(_why(e),), seconds=_since(began)
        )
    proving = _Proving(path, loaded, settings, say, engines)
    try:
        proving.run()
    except ScansideError as e:
        proving.failed(e)
    finally:
        proving.close()
    return proving.proof(_since(began))


class _Proving:
    """One bundle while it is proved."""

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        settings: Settings,
        say: Callable[[str], object],
        engines: GpuEngines | None,
    ) -> None:
        self._path, self._loaded, self._settings, self._say = path, loaded, settings, say
        self._library = choose(settings.work.backend)
        self._engines = engines
        if engines is None and settings.work.backend in ("auto", "gpu"):
            required = settings.work.backend == "gpu"
            self._engines = GpuEngines(
                settings.state, self._library, required=required, builds=True
            )
        self._backend: Backend | None = None
        self._verdict: Verdict = "proved"
        self._reasons: list[Why] = []
        self._gate: golden.Gate | None = None
        self._phantom: OfPhantom | None = None

    def run(self) -> None:
        """The four steps."""
        golden.require_cases(self._loaded)
        require_memory(sum(map(len, self._loaded.networks.values())))
        self._say("golden cases on the CPU")
        threads = self._settings.work.threads
        runner = golden.Runner(
            trial.key(self._library), lambda p, one: trial.run(self._library, threads, p, one)
        )
        gates = Gates(self._settings.state, runner)
        self._gate = gates.result(self._path, self._loaded, again=True)
        self._require(self._gate)
        self._backend = self._on_gpu() or self._on_cpu()
        if self._backend.ref.name == "gpu":
            self._say("golden cases on the engine")
            self._gate = golden.gate(self._loaded, golden.through(self._backend))
            self._require(self._gate)
        self._of_phantom(self._backend)

    def failed(self, error: ScansideError) -> None:
        """It is not proved, by this."""
        self._verdict = "failed"
        self._reasons.append(_why(error))

    def close(self) -> None:
        """Give backend and GPU back."""
        if self._backend is not None:
            self._backend.close()
        if self._engines is not None:
            self._engines.close()

    def proof(self, seconds: float) -> Proof:
        """What is known now."""
        states = {} if self._engines is None else self._engines.states
        return Proof(
            file=self._path.name,
            verdict=self._verdict,
            bundle=self._loaded.ref,
            reasons=tuple(self._reasons),
            backend=None if self._backend is None else self._backend.ref,
            engine=states.get(self._loaded.digest),
            goldens=() if self._gate is None else self._gate.results,
            phantom=self._phantom,
            seconds=seconds,
        )

    def _require(self, gate: golden.Gate) -> None:
        if not gate.passed:
            raise BundleRefused(
                f"golden cases do not pass: {gate.one_line()}",
                remedy="Use another backend ([work] backend), or a bundle made for this one.",
                code="bundle_golden",
            )

    def _on_gpu(self) -> Backend | None:
        """On its engine, which is built first where it is missing; None where no GPU can serve.

        BackendUnavailable where one can and does not serve this bundle."""
        engines = self._engines
        if engines is None or not self._loaded.networks:
            return None
        backend = engines.open(self._loaded, self._path)
        while backend is None and engines.busy:
            built = engines.built()
            if built is not None and engines.prove(built):
                backend = engines.open(self._loaded, self._path)
            state = engines.states.get(self._loaded.digest)
            if state is not None and backend is None and engines.busy:
                self._say(state.text)
                time.sleep(BUILD_LOOK_S)
        if backend is None and engines.usable:
            state = engines.states[self._loaded.digest]
            raise BackendUnavailable(
                f"the GPU of this machine does not serve it: {state.text}",
                code=state.code or "engine_missing",
                remedy=state.remedy or "Run `scanside doctor` and read the log.",
            )
        return backend

    def _on_cpu(self) -> Backend:
        networks: dict[str, Network] = dict(self._loaded.manifest.networks.items())
        threads = self._settings.work.threads
        return open_backend(self._library, networks, self._loaded.networks, threads)

    def _of_phantom(self, backend: Backend) -> None:
        if not self._loaded.manifest.line.takes_images:
            return  # it has golden cases alone
        record = self._loaded.manifest.phantom
        if record is None or record.version != VERSION:
            has = "no record" if record is None else f"a record of version {record.version}"
            text = f"its manifest has {has} of the phantom, whose version here is {VERSION}"
            self._verdict = "not_proved"
            remedy = "Golden cases alone count. `compile pack --phantom` records what is missing."
            self._reasons.append(Why(code="phantom_missing", text=text, remedy=remedy))
            return
        self._say("the phantom")
        result = in_phantom(self._loaded, backend)
        pairs = agreement.paired(record.findings, result.findings, record.tolerances)
        wrong = [pair for pair in pairs if not pair.passed]
        analysed = result.status is Status.ANALYSED
        self._phantom = OfPhantom(
            version=record.version,
            recorded=len(record.findings),
            found=len(result.findings),
            unmatched=len(wrong),
            worst_center_mm=_largest(pair.apart_mm for pair in pairs),
            worst_score=_largest(pair.score_apart for pair in pairs),
            worst_diameter_mm=_largest(pair.diameter_apart_mm for pair in pairs),
            passed=analysed and not wrong,
        )
        if not self._phantom.passed:
            codes = ", ".join(reason.code.value for reason in result.reasons)
            what = f"{len(wrong)} findings differ" if analysed else f"it is not analysed ({codes})"
            why = next((pair.why for pair in wrong if pair.why), "")
            raise BundleRefused(
                f"in the phantom {what} from what was recorded{f': {why}' if why else ''}",
                remedy="It must not serve here. Use the bundle before, and tell its maker.",
                code="bundle_phantom",
            )


def in_phantom(loaded: Loaded, backend: Backend) -> Result:
    """What a bundle says of the phantom of its kind."""
    return line.process(kinds.of(loaded.manifest).example(), loaded.bundle, backend)


def _largest(values: Iterable[float]) -> float:
    return round(max(values, default=0.0), 4)


def _why(error: ScansideError) -> Why:
    return Why(code=error.code, text=error.text, remedy=error.remedy)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)
