"""Exported networks answer like torch and hold nothing of the machine that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
import training  # noqa: E402
from training.errors import RunError  # noqa: E402
from training.networks import LungNet, PatchNet, ProposeNet  # noqa: E402
from training.ship.onnx_file import exported, parity, require_parity  # noqa: E402


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "side", "other", "outputs"),
    [
        (LungNet((4, 4, 8, 8)), (32, 32, 32), (1, 1, 16, 48, 32), ["lungs"]),
        (ProposeNet((4, 4, 8, 8)), (32, 32, 32), (1, 1, 16, 48, 32), ["heat", "log_diameter"]),
        (PatchNet((4, 4, 8, 8)), (48, 48), (7, 1, 48, 48), ["logit"]),
    ],
)
@pytest.mark.long
def test_exported_networks_answer_like_torch(
    model: torch.nn.Module,
    side: tuple[int, ...],
    other: tuple[int, ...],
    outputs: list[str],
) -> None:
    file = exported(model.eval(), side, outputs)
    image = np.random.default_rng(0).random(other, dtype=np.float32)
    gaps = parity(model, file, image)
    assert max(gaps.values()) < 1e-4
    here = str(Path(training.__file__).parents[1]).encode()
    assert here not in file.SerializeToString(), "stack traces of the exporter are in the file"


@pytest.mark.long
def test_a_file_that_answers_otherwise_than_torch_is_refused() -> None:
    torch.manual_seed(0)
    model, other = PatchNet((4, 4, 8, 8)).eval(), PatchNet((4, 4, 8, 8)).eval()
    image = np.random.default_rng(0).random((2, 1, 48, 48), dtype=np.float32)
    file = exported(model, (48, 48), ["logit"])
    assert max(require_parity(model, file, image).values()) < 1e-4
    torch.nn.init.constant_(other.head.bias, 3.0)
    with pytest.raises(RunError, match="the exported network differs from torch"):
        require_parity(other, file, image)
