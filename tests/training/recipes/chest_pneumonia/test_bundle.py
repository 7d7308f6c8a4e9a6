"""What the bundle of radiographs says of itself, and how it is measured."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from appliance.bundle.lines import ClassifyImage
from appliance.bundle.manifest import Manifest, read
from training import evaluate
from training.recipes.chest_pneumonia import bundle

HEADS = {"scale": 2.0, "bias": -1.0, "threshold": 0.7}
PROVENANCE = {"sources": [], "seed": 1, "code_digest": "0" * 64, "made": "2026-01-01"}


def manifest() -> Manifest:
    described = bundle.described(HEADS, PROVENANCE, [], "0.1.0")
    described["networks"]["classify"]["digest"] = "0" * 64
    return read(json.dumps(described).encode())


def brightness(image: Any) -> dict[str, Any]:
    """The logit is how bright the image is."""
    return {"logit": (image.mean((1, 2, 3)) - 0.5) * 4}


def opened() -> evaluate.Opened:
    whole = manifest()
    backend = CpuBackend("onnxruntime", dict(whole.networks.items()), {"classify": brightness})
    return evaluate.Opened(SimpleNamespace(manifest=whole), backend)  # type: ignore[arg-type]


def test_it_is_a_demonstration_for_small_children_whose_age_is_said() -> None:
    told = manifest()
    assert told.accepts.age_years == (1.0, 5.0)
    assert set(told.accepts.required) == {"age", "body_part"}
    assert "demonstration" in told.title.lower()
    assert told.notice == "demonstration, research use, not for clinical use"
    assert told.provenance.never_tested


def test_the_line_has_the_figures_that_were_fitted() -> None:
    line = manifest().line_of(ClassifyImage)
    assert (line.scale, line.bias, line.threshold) == (2.0, -1.0, 0.7)
    assert line.reads() == {"classify": {"logit", "activation"}}


def test_radiographs_are_called_by_the_bundles_own_score_and_threshold() -> None:
    images = np.stack([np.full((28, 28), v, np.uint8) for v in (0, 100, 255, 204)])
    found = evaluate.of_images(opened(), images, np.array([[0], [0], [1], [1]], np.uint8))
    # logits -2, -0.43, 2, 1.2: scores 0.007, 0.134, 0.953, 0.802
    assert found["per_image"] == pytest.approx([0.0067, 0.1344, 0.9526, 0.8022], abs=1e-3)
    assert (found["auc"], found["acc"], found["threshold"]) == (1, 1, 0.7)
    strict = evaluate.of_scores([0, 0, 1, 1], np.array(found["per_image"]), 0.9)
    assert strict["sensitivity"] == 0.5


def test_images_of_another_size_are_refused_in_one_line() -> None:
    with pytest.raises(SystemExit, match="sees"):
        evaluate.of_images(opened(), np.zeros((2, 64, 64), np.uint8), [0, 1])
