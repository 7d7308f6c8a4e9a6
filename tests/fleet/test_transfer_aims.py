"""What a change costs on the line, by the access log of a real nginx: the stage `update` fetches
the factory's lung bundle, and then one of which one network, or one threshold, is another.

What is counted are the bytes of all bodies, metadata and lists included. A box that has the bundle
before on its shelf has its files; the wheels and their lock are those of before. The channel has
had forty releases by then.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.bundle import archive, golden, trust
from appliance.bundle.manifest import MANIFEST, digest
from appliance.release import blobs
from appliance.release.record import Release
from appliance.settings import Settings
from appliance.update.facts import Told
from appliance.update.fetch import Fetching
from appliance.update.plan import Facts, Named
from compile.pack import onnxruntime_infer
from rigs.bundles import signed
from rigs.nginx import Nginx, Sent, nginx
from rigs.releasing import Simulated
from rigs.serving import lay

FACTORY = Path(__file__).parents[2] / "appliance" / "factory" / "bundles" / "lung-nodule.scanside"
CHANGED = "classify"
"""The network that is another one in the next version."""
RELEASES = 40
Files = dict[str, bytes]


@dataclass
class Box:
    """Who fetches: it holds what it fetched, as `apply` would have put it on the shelf."""

    fetching: Fetching
    repo: Simulated
    server: Nginx
    holds: Files = field(default_factory=dict)
    highest: int = 0
    asked: int = 0
    runs: Named = field(
        default_factory=lambda: Named(name="scanside", version="0.0.1", digest="a" * 64)
    )

    def takes(self, release: Release) -> list[Sent]:
        """Every answer of the server until all of the release is here."""
        lay(self.fetching.folder.parent / "web", self.repo.files)
        self.asked += 1
        facts = Facts(
            at=self.repo.now, channel="stable", site="north", kind="x86-64", python="3.11",
            appliance=self.runs, slot=1, by_hand=True, free_mb=1000.0, highest=self.highest,
            in_window=True, idle=True, between_series=True,
        )  # fmt: skip
        told = Told(
            asked=self.asked,
            built=self.repo.now,
            facts=facts,
            have=tuple(sorted({digest(data) for data in self.holds.values()})),
        )
        found = self.fetching.look(told, self.repo.now, self.fetching.source(self.server.url))
        assert found.release == release.path, found
        own = release.appliance
        self.runs = Named(name="scanside", version=own.version, digest=own.wheel.digest)
        self.highest = release.number
        return self.server.sent()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    repo = Simulated.begun()
    for _ in range(RELEASES):
        repo.ship()
    said: dict[str, Any] = {
        "state": tmp_path / "state",
        "update": {
            "root": tmp_path / "root",
            "downloads": tmp_path / "downloads",
            "most_kb_s": 1e6,
        },
        "retain": {"reserve_mb": 0},
    }
    lay(tmp_path / "web", repo.files)
    with nginx(tmp_path / "web", tmp_path / "nginx") as server:
        first = repo.files["metadata/1.root.json"]
        yield Box(Fetching(Settings.model_validate(said), first), repo, server)


def shipped(repo: Simulated, files: Mapping[str, bytes]) -> Release:
    """A release of the same appliance with the bundle of these files."""
    made = repo.add(repo.release(bundles=(signed(archive.write(dict(files))),)))
    repo.sign("stable")
    repo.publish()
    return made


def another(files: Files, version: str, change: dict[str, bytes] | None = None) -> Files:
    """The next version of a bundle, some of whose files are others; checked as a device does."""
    manifest = json.loads(files[MANIFEST])
    manifest["version"] = version
    made = {**files, **(change or {})}
    for part in (*manifest["networks"].values(), *manifest["goldens"]):
        part["digest"] = digest(made[part["file"]])
    made[MANIFEST] = json.dumps(manifest).encode()
    trust.check(archive.write(made))
    return made


def retrained(files: Files) -> Files:
    """One network with other weights in every layer, and its golden case."""
    import onnx  # noqa: PLC0415 - what packs a bundle has it
    import onnxruntime  # noqa: PLC0415
    from onnx import numpy_helper  # noqa: PLC0415

    manifest = json.loads(files[MANIFEST])
    name = manifest["networks"][CHANGED]["file"]
    model = onnx.load_from_string(files[name])
    rng = np.random.default_rng(17)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype in (np.float16, np.float32) and values.size > 1:
            scale = 1 + 0.001 * rng.standard_normal(values.shape)
            new = numpy_helper.from_array((values * scale).astype(values.dtype), tensor.name)
            tensor.CopyFrom(new)
    network = model.SerializeToString()
    (case,) = [one["file"] for one in manifest["goldens"] if one["network"] == CHANGED]
    held = dict(np.load(io.BytesIO(files[case])))
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    given = {n: held["input" if len(names) == 1 and n not in held else n] for n in names}
    for output, value in zip(session.get_outputs(), session.run(None, given), strict=True):
        assert output.name in held
        held[output.name] = value
    packed = io.BytesIO()
    np.savez_compressed(packed, **held)
    return {name: network, case: packed.getvalue()}


def with_threshold(files: Files, value: float) -> Files:
    """Only the first threshold of the manifest is another."""
    manifest = json.loads(files[MANIFEST])
    changed: list[float] = []

    def walk(part: Any) -> Any:
        if isinstance(part, list):
            return [walk(one) for one in part]
        if not isinstance(part, dict):
            return part
        made = {}
        for name, one in part.items():
            if name == "threshold" and isinstance(one, float) and not changed:
                changed.append(one)
                made[name] = value
            else:
                made[name] = walk(one)
        return made

    made = walk(manifest)
    assert changed
    assert changed[0] != value
    return {**files, MANIFEST: json.dumps(made).encode()}


def packed(files: Mapping[str, bytes]) -> int:
    """Their size as zstd."""
    return sum(len(blobs.pack(data)[1]) for data in files.values())


def said(what: str, sent: list[Sent], changed: int) -> str:
    total = sum(one.body for one in sent)
    return (
        f"{what}: {total} bytes in {len(sent)} answers; {changed} of what changed; "
        f"{total / changed:.3f} times"
    )


def new_of(after: Files, before: Files) -> Files:
    return {name: data for name, data in after.items() if before.get(name) != data}


@pytest.mark.long
def test_a_network_costs_little_more_than_its_files_and_a_threshold_ten_kilobytes(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    first = archive.read(FACTORY.read_bytes())
    everything = box.takes(shipped(box.repo, first))
    box.holds = first
    lines = [said("the bundle", everything, packed(first))]

    second = another(first, "90.0.0", retrained(first))
    result = golden.gate(loaded := trust.check(archive.write(second)), onnxruntime_infer(loaded))
    assert result.passed, result.one_line()
    changed = new_of(second, first)
    assert len(changed) == 3, sorted(changed)
    network = box.takes(shipped(box.repo, second))
    box.holds = second
    lines.append(said("one network", network, packed(changed)))

    assert box.highest == RELEASES + 2
    third = another(with_threshold(second, 0.61), "90.0.1")
    changed = new_of(third, second)
    assert set(changed) == {MANIFEST}
    threshold = box.takes(shipped(box.repo, third))
    lines.append(said("one threshold", threshold, packed(changed)))
    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201 - the figures are what this is run for
    assert all(one.status in (200, 206, 404) for one in (*network, *threshold))
    assert sum(one.body for one in network) <= 1.05 * packed(new_of(second, first))
    assert sum(one.body for one in threshold) <= 10_000
