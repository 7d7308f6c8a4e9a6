"""What has passed is kept for its bundle and backend alone, outside the shelf."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.bundle import trust
from appliance.bundle.gates import Gates
from appliance.bundle.shelf import Shelf
from appliance.errors import BundleRefused, StateUnusable
from rigs.cuts import Full

NAME = "tiny-nodule"
Make = Callable[..., Shelf]
Signed = Callable[[str], Path]


@pytest.fixture
def bundle(signed: Signed) -> Path:
    return signed("1.1.0")


def loaded(path: Path) -> trust.Loaded:
    return trust.check(path.read_bytes())


def test_what_passed_is_not_run_again_by_another_process(
    tmp_path: Path, bundle: Path, networks: Any
) -> None:
    for _ in range(2):
        gates = Gates(tmp_path, networks.runner())
        assert gates.result(bundle, loaded(bundle)).passed
    assert networks.opened == 1
    assert Gates(tmp_path, None).verdict(loaded(bundle).digest) == "passed"
    Gates(tmp_path, None).require(bundle, loaded(bundle))


def test_a_result_counts_for_its_bundle_and_backend_alone(
    tmp_path: Path, bundle: Path, signed: Signed, networks: Any
) -> None:
    digest = loaded(bundle).digest
    Gates(tmp_path, networks.runner()).result(bundle, loaded(bundle))
    assert Gates(tmp_path, networks.runner("another")).verdict(digest) == "not run"
    other = loaded(signed("1.2.0")).digest
    assert Gates(tmp_path, networks.runner()).verdict(other) == "not run"
    (kept,) = (tmp_path / "gate").iterdir()
    kept.rename(kept.with_name(kept.name.replace(digest[:16], other[:16])))
    assert Gates(tmp_path, networks.runner()).verdict(other) == "not run", "a file of another one"


@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 300, None])
def test_a_damaged_result_is_made_again(
    tmp_path: Path, bundle: Path, networks: Any, damage: bytes | None
) -> None:
    gates = Gates(tmp_path, networks.runner())
    gates.result(bundle, loaded(bundle))
    (kept,) = (tmp_path / "gate").iterdir()
    good = kept.read_bytes()
    kept.unlink()
    if damage is None:
        kept.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_bytes(good)
    else:
        kept.write_bytes(damage)
    assert gates.verdict(loaded(bundle).digest) == "not run"
    assert gates.result(bundle, loaded(bundle)).passed
    assert networks.opened == 2
    assert not kept.is_symlink()
    assert kept.read_bytes() == good


def test_what_passed_on_a_full_disk_serves_and_runs_again_the_next_time(
    tmp_path: Path, bundle: Path, networks: Any
) -> None:
    gates = Gates(tmp_path, networks.runner(), Full())
    for count in (1, 2):
        gates.require(bundle, loaded(bundle))
        assert networks.opened == count
    with pytest.raises(StateUnusable):
        gates.keep(loaded(bundle).digest, gates.result(bundle, loaded(bundle)))


def test_what_failed_is_refused_and_runs_again(tmp_path: Path, bundle: Path, networks: Any) -> None:
    gates = Gates(tmp_path, networks.runner())
    networks.error = 1.0
    for _ in range(2):
        with pytest.raises(BundleRefused) as caught:
            gates.require(bundle, loaded(bundle))
        assert caught.value.code == "bundle_golden"
    assert gates.verdict(loaded(bundle).digest) == "failed"
    assert networks.opened == 2


def test_the_gate_of_an_earlier_release_is_neither_read_nor_removed(
    make_shelf: Make, bundle: Path, state: Path, networks: Any
) -> None:
    old = state / "bundles" / "gate.json"
    old.parent.mkdir()
    digest = loaded(bundle).digest
    passed = {"passed": True, "results": []}
    old.write_text(json.dumps({digest: {"onnxruntime test fp32": passed}}))
    before = old.read_bytes()
    shelf = make_shelf()
    assert shelf.add(bundle).gate == "passed"
    assert networks.opened == 1, "its cases ran here"
    assert shelf.problems() == ()
    assert old.read_bytes() == before


def test_golden_cases_write_nothing_onto_the_shelf(
    make_shelf: Make, bundle: Path, state: Path, networks: Any
) -> None:
    """So `work`, which runs them, may not write there (scanside-work.service)."""
    make_shelf().add(bundle)
    make_shelf().activate(NAME, "1.1.0")
    before = {path: path.stat().st_mtime_ns for path in (state / "bundles").rglob("*")}
    shelf = make_shelf(runner=networks.runner("new backend"))
    assert shelf.ready(shelf.active()[0]).ref.version == "1.1.0"
    assert networks.opened == 2
    assert {path: path.stat().st_mtime_ns for path in (state / "bundles").rglob("*")} == before
