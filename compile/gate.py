"""The compiler gate of one bundle: NVIDIA's parser and builder take every network, INT8 and float.

    python -m compile gate BUNDLE [--targets rtx:SM86,rtx:SM89]

Rules.
1. In this order: the linter; for each GPU and each network an engine as `engine` builds it (INT8,
   the rest in float16 where its golden cases allow it), and one of the same network without Q/DQ in
   float32. The first that is refused ends it, by the node's name.
2. Nothing is kept: engines of TensorRT-RTX for a GPU that is not here prove that they build.
3. The time is stated, of all steps together: AIM_S on two cores without a GPU. It is no test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from appliance.bundle.trust import Loaded
from appliance.lines.kinds import profile
from compile import engine, tensorrt
from compile.half import lowered
from compile.unquantized import unquantized

TARGETS = ("rtx:SM86", "rtx:SM89")
AIM_S = 60.0


@dataclass(frozen=True, slots=True)
class Passed:
    """One engine that was built."""

    network: str
    what: str
    """int8+float16, or float32."""
    target: str
    bytes: int
    seconds: float

    def one_line(self) -> str:
        """For a terminal."""
        return (
            f"ok   {self.network:10} {self.what:13} {self.target}: "
            f"{self.bytes} bytes in {self.seconds:.2f} s"
        )


def gate(loaded: Loaded, targets: Sequence[str] = TARGETS) -> Iterator[Passed]:
    """Every engine as it is built. BundleRefused as the linter, `half`, `unquantized` and the
    builder; BackendUnavailable where TensorRT-RTX is missing or does not build for a target."""
    engine.lint_first(loaded)
    wanted = [engine.target(name) for name in targets]
    networks = lowered(loaded)
    for role, network in sorted(loaded.manifest.networks.items()):
        shapes = profile(role, network, loaded.manifest)
        lower = networks[role]
        rest = lower.types if network.precision == "fp32" else f"{network.precision}+{lower.types}"
        files = {rest: lower.data, "float32": unquantized(loaded.networks[role])}
        for what, onnx in files.items():
            for one in wanted:
                began = time.monotonic()
                built = tensorrt.build(
                    one.library, role, network, onnx, shapes, architecture=one.architecture
                )
                took = time.monotonic() - began
                yield Passed(role, what, one.name, len(built.data), took)


def run(loaded: Loaded, targets: Sequence[str], say: Callable[[str], None]) -> float:
    """The whole gate; its seconds (rule 3)."""
    began = time.monotonic()
    count = 0
    for row in gate(loaded, targets):
        say(row.one_line())
        count += 1
    took = time.monotonic() - began
    ref = loaded.ref
    say(
        f"{ref.name} {ref.version}: {len(loaded.networks)} networks linted, {count} engines built "
        f"for {', '.join(targets)} in {took:.1f} s; aim {AIM_S:.0f} s"
    )
    return took
