"""What golden cases do to their process, they do to a child; whoever asked goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.bundle import trust
from appliance.errors import BundleRefused
from appliance.runtime import trial

Forge = Callable[..., bytes]


def tried(path: Path, **how: Any) -> Any:
    loaded = trust.check(path.read_bytes())
    return trial.run("onnxruntime", 1, path, loaded, **how)


def code(path: Path, **how: Any) -> str:
    with pytest.raises(BundleRefused) as caught:
        tried(path, **how)
    assert caught.value.remedy
    return caught.value.code


def test_the_cases_pass_in_a_process_of_their_own(tiny_bundle: Path) -> None:
    turns: list[None] = []
    gate = tried(tiny_bundle, alive=lambda: turns.append(None))
    assert gate.passed
    assert [result.network for result in gate.results] == ["segment", "propose", "classify"]
    assert turns, "whoever waits can say that it lives"


def test_cases_that_do_not_pass_are_a_result(forge: Forge, tmp_path: Path) -> None:
    case = io.BytesIO()
    np.savez(case, input=np.zeros((1, 1, 16, 16, 16), np.float32), lungs=np.zeros(3, np.float32))
    path = tmp_path / "wrong.scanside"
    path.write_bytes(forge(put={"golden/segment.npz": case.getvalue()}))
    assert not tried(path).passed


def test_cases_that_do_not_end_are_a_refusal(endless_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "endless.scanside"
    path.write_bytes(endless_bytes)
    assert code(path, limit_s=3.0) == "bundle_golden_slow"


def test_a_file_that_changed_since_it_was_checked_is_not_run(
    tiny_bundle: Path, forge: Forge
) -> None:
    loaded = trust.check(tiny_bundle.read_bytes())
    tiny_bundle.write_bytes(forge(lambda m: m.update(version="1.1.0")))
    with pytest.raises(BundleRefused, match="changed") as caught:
        trial.run("onnxruntime", 1, tiny_bundle, loaded)
    assert caught.value.code == "bundle_digest"
    tiny_bundle.unlink()
    with pytest.raises(BundleRefused) as caught:
        trial.run("onnxruntime", 1, tiny_bundle, loaded)
    assert caught.value.code == "bundle_unreadable"


@pytest.mark.parametrize(
    ("status", "said", "how"),
    [(-11, b"", "by SIGSEGV"), (-9, b"{}", "by SIGKILL"), (1, b"", "status 1"), (0, b"x", "0")],
)
def test_a_process_that_dies_is_a_refusal(
    tiny_bytes: bytes, status: int, said: bytes, how: str
) -> None:
    with pytest.raises(BundleRefused, match=how) as caught:
        trial._gate(trust.check(tiny_bytes), status, said)
    assert caught.value.code == "bundle_golden_died"


def test_what_a_library_says_before_the_outcome_is_passed_over(tiny_bytes: bytes) -> None:
    outcome = trial.Outcome(code="bundle_golden", text="not so", remedy="do this")
    said = b"a word of a library\n" + outcome.model_dump_json().encode() + b"\n"
    with pytest.raises(BundleRefused, match="not so") as caught:
        trial._gate(trust.check(tiny_bytes), 0, said)
    assert (caught.value.code, caught.value.remedy) == ("bundle_golden", "do this")
    assert json.loads(outcome.model_dump_json())["gate"] is None
