"""One contract for every kind of line: an example of our phantom from its bytes to findings."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import line
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import archive, golden, trust
from appliance.bundle.lines import ClassifyImage, SegmentProposeClassify
from appliance.bundle.manifest import Manifest
from appliance.bundle.trust import Loaded
from appliance.bundle.water import WaterPhantom
from appliance.lines import kinds
from appliance.lines.kind import Kind
from appliance.records import Result
from appliance.report import PLACE_OF, Coverage, Status

ROOT = Path(__file__).resolve().parents[3]
COARSE = (5.0, 3.5, 3.5)
TINY = {
    SegmentProposeClassify: "tiny_bytes",
    ClassifyImage: "tiny_radiograph_bytes",
    WaterPhantom: "water_qa_bytes",
}
"""The model of a kind -> the fixture with the bytes of its tiny bundle."""


@dataclass(frozen=True)
class Case:
    """A kind, two bundles of it that differ in what they do with an image, and an example."""

    kind: Kind[Any, Any]
    loaded: Loaded
    other: Loaded
    example: tuple[bytes, ...]


def changed(bundle: bytes) -> bytes:
    """The same bundle under another name, whose networks, if any, see images of another size or
    shade."""
    entries = archive.read(bundle)
    manifest = json.loads(entries["manifest.json"])
    manifest["name"] += "-other"
    for network in manifest["networks"].values():
        for op in network["preprocess"]:
            if op["op"] == "resample":
                op["spacing_mm"] = [mm * 1.2 for mm in op["spacing_mm"]]
        if all(op["op"] != "resample" for op in network["preprocess"]):
            network["preprocess"].append({"op": "zscore", "mean": 0.1, "std": 1.1})
    return archive.write(entries | {"manifest.json": json.dumps(manifest).encode()})


@pytest.fixture(scope="module", params=kinds.KINDS, ids=lambda kind: type(kind).__name__)
def case(request: pytest.FixtureRequest) -> Case:
    kind: Kind[Any, Any] = request.param
    data: bytes = request.getfixturevalue(TINY[kind.model])  # type: ignore[index]
    return Case(
        kind, trust.check(data), trust.check(changed(data)), kind.example(spacing_mm=COARSE)
    )


@contextmanager
def running(loaded: Loaded) -> Iterator[Backend]:
    opened = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 2)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def backend(case: Case) -> Iterator[Backend]:
    with running(case.loaded) as opened:
        yield opened


@pytest.fixture(scope="module")
def alone(case: Case, backend: Backend) -> Result:
    """What the bundle says of the example."""
    return line.process(case.example, case.loaded.bundle, backend)


def same(a: Result, b: Result) -> bool:
    """Equal in everything, masks and heat maps included."""
    masks = [(m.name, m.voxels.tobytes(), m.grid.shape) for m in a.masks]
    maps = [(m.name, m.values.tobytes(), m.to_stored.tobytes()) for m in a.maps]
    bare = replace(a, masks=(), maps=()) == replace(b, masks=(), maps=())
    return (
        bare
        and masks == [(m.name, m.voxels.tobytes(), m.grid.shape) for m in b.masks]
        and maps == [(m.name, m.values.tobytes(), m.to_stored.tobytes()) for m in b.maps]
    )


def folded(bundles: Sequence[Loaded], files: Sequence[bytes]) -> line.Fold:
    fold = line.begin([loaded.bundle for loaded in bundles])
    for file in files:
        fold = line.add(fold, file)
    return fold


def test_an_example_of_the_phantom_is_analysed_with_findings_of_its_kinds(
    case: Case, alone: Result
) -> None:
    assert alone.status is Status.ANALYSED
    assert bool(alone.findings) == bool(case.loaded.manifest.line.finds)
    assert {finding.kind for finding in alone.findings} <= set(case.loaded.manifest.line.finds)
    assert alone.facts.slices == len(case.example)


def test_a_kind_reports_findings_that_a_report_knows(case: Case) -> None:
    assert set(case.loaded.manifest.line.finds) <= set(PLACE_OF)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_order_of_arrival_changes_nothing(
    data: st.DataObject, case: Case, backend: Backend, alone: Result
) -> None:
    files = data.draw(st.permutations(case.example))
    assert same(line.process(files, case.loaded.bundle, backend), alone)


def test_bundles_that_share_a_fold_say_what_each_says_alone(
    case: Case, backend: Backend, alone: Result
) -> None:
    shared = folded([case.loaded, case.other], case.example)
    with running(case.other) as second:
        other = line.process(case.example, case.other.bundle, second)
        assert same(line.finish(shared, case.loaded.bundle, backend), alone)
        assert same(line.finish(shared, case.other.bundle, second), other)
    assert other.status is Status.ANALYSED
    if case.loaded.manifest.networks:
        assert [f.score for f in other.findings] != [f.score for f in alone.findings]
    else:
        assert other.water == alone.water is not None


def test_what_is_shared_is_held_once(case: Case) -> None:
    shared = folded([case.loaded, case.other], case.example)
    one, two = (folded([loaded], case.example).held for loaded in (case.loaded, case.other))
    assert [share.held for share in shared.shares] == [one, two]
    assert max(one, two) <= shared.held <= one + two


def test_a_part_of_the_series_is_another_input(case: Case, alone: Result) -> None:
    early = folded([case.loaded], case.example[: len(case.example) // 2])
    assert early.shares[0].digest != alone.input_digest
    whole = early
    for file in case.example[len(case.example) // 2 :]:
        whole = line.add(whole, file)
    assert whole.shares[0].digest == alone.input_digest


def test_an_outline_is_made_once(case: Case) -> None:
    share = folded([case.loaded], case.example).shares[0]
    assert share.outline is share.outline
    assert share.outline.subject is not None
    assert share.outline.uniform


def test_something_may_be_said_early_once_the_organ_ends_inside_the_images(case: Case) -> None:
    whole = case.kind.ends_inside(Coverage(lungs="covered"))
    cut = case.kind.ends_inside(Coverage(lungs="cut_feet"))
    assert (whole, cut) in {(True, False), (None, None)}, "it has an organ, or it has none"


def test_its_profile_holds_its_golden_cases(case: Case) -> None:
    for of, data in case.loaded.goldens:
        network = next(n for r, n in case.loaded.manifest.networks.items() if r == of.network)
        shapes = case.kind.profile(of.network, network, case.loaded.manifest)
        image = golden.arrays(of.file, data)[golden.INPUT]
        ((least, _, most),) = shapes.values()
        assert all(a <= b <= c for a, b, c in zip(least, image.shape, most, strict=True))


def test_images_that_were_cut_for_it_get_scores(case: Case, backend: Backend) -> None:
    if not case.loaded.manifest.networks:
        with pytest.raises(ValueError, match="scores nothing"):
            case.kind.scores(np.zeros((1, 8, 8), np.uint8), case.loaded.manifest, backend)
        return
    y, x = case.loaded.manifest.networks["classify"].inputs[0].shape[-2:]
    images = np.random.default_rng(1).integers(0, 255, (5, y, x)).astype(np.uint8)
    scores, least = case.kind.scores(images, case.loaded.manifest, backend)
    assert scores.shape == (5,)
    assert np.all((scores > 0) & (scores < 1))
    assert 0 < least < 1
    with pytest.raises(ValueError, match="sees"):
        case.kind.scores(images[:, : y // 2], case.loaded.manifest, backend)


def test_a_usual_series_takes_memory_or_next_to_none(case: Case) -> None:
    assert 0 <= case.kind.usual_bytes(case.loaded.manifest) < 1 << 34


def test_every_candidate_is_reported_by_the_line_without_a_threshold(
    case: Case, backend: Backend, alone: Result
) -> None:
    lenient = case.loaded.manifest.line.every_finding()
    manifest: Manifest = case.loaded.manifest.model_copy(update={"line": lenient})
    every = line.process(case.example, replace(case.loaded.bundle, manifest=manifest), backend)
    assert lenient.least_score == 0 or not lenient.finds
    assert len(every.findings) >= len(alone.findings)


# No other file asks which kind a bundle has.

NAMES = {kind.model.__name__ for kind in kinds.KINDS}
VALUES = {kind.model.model_fields["kind"].default for kind in kinds.KINDS}  # type: ignore[attr-defined]
MAY = ("appliance/bundle/lines.py", "appliance/lines/")


def files() -> list[Path]:
    folders = [ROOT / name for name in ("appliance", "compile", "bench")]
    found = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    # the judge of bundles, wherever it lies in training
    found += sorted((ROOT / "training").rglob("evaluate.py"))
    return [p for p in found if not p.relative_to(ROOT).as_posix().startswith(MAY)]


def questions(source: str) -> Iterator[int]:
    """Lines that ask which kind a line has: by its class, by its name, or by the word `kind`."""
    for node in ast.walk(ast.parse(source)):
        called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if called in {"isinstance", "issubclass", "type"}:
            named = {getattr(n, "id", "") for n in ast.walk(node)}
            if named & NAMES:
                yield node.lineno
        if isinstance(node, ast.MatchClass) and getattr(node.cls, "id", "") in NAMES:
            yield node.lineno
        if isinstance(node, ast.Compare):
            for part in (node.left, *node.comparators):
                words = {n.value for n in ast.walk(part) if isinstance(n, ast.Constant)}
                classes = {n.id for n in ast.walk(part) if isinstance(n, ast.Name)} & NAMES
                of_line = ast.unparse(part).endswith("line.kind")
                if classes or of_line or words & VALUES:
                    yield node.lineno


def test_the_search_for_questions_finds_them() -> None:
    for asked in (
        "isinstance(bundle.manifest.line, ClassifyImage)",
        "type(line) is ClassifyImage",
        "manifest.line.kind == 'classify'",
        "manifest.line.kind in seen",
        "kind in ('classify', 'x')",
        "match line:\n    case ClassifyImage(): pass",
    ):
        assert list(questions(asked)), asked
    assert not list(questions("manifest.line_of(ClassifyImage).threshold"))


def test_no_other_file_asks_which_kind_a_bundle_has() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files()
        for number in questions(path.read_text())
    ]
    assert found == []
    assert len(files()) > 100


def test_every_kind_has_a_row_of_its_own() -> None:
    models = [kind.model for kind in kinds.KINDS]
    assert len(set(models)) == len(models)
    assert set(models) == set(TINY)
