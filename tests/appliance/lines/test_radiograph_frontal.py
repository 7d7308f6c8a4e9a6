"""What is no frontal chest radiograph is not scored, through the whole line, and is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from appliance import line
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import archive, trust
from appliance.bundle.trust import Bundle
from appliance.errors import Poisoned
from appliance.reasons import REMEDIES, Code
from appliance.records import Result, Tensor
from appliance.report import Status
from appliance.watching.quality import RadiographQuality


def bundle_with(packed: bytes, threshold: float) -> bytes:
    """The tiny bundle of radiographs, with its own network in the role `frontal` as well: what is
    darker than this score is none."""
    entries = archive.read(packed)
    manifest = json.loads(entries["manifest.json"])
    manifest["line"].update(version=3, frontal={"output": "logit", "threshold": threshold})
    manifest["networks"]["frontal"] = {**manifest["networks"]["classify"], "file": "frontal.onnx"}
    manifest["requires_appliance"] = "0.2.0"
    entries["frontal.onnx"] = entries["classify.onnx"]
    entries["manifest.json"] = json.dumps(manifest).encode()
    return archive.write(entries)


Analyse = Callable[..., Result]


def opened(packed: bytes) -> Backend:
    loaded = trust.check(packed)
    return open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 1)


@pytest.fixture(scope="module")
def older(tiny_radiograph_bytes: bytes, xray: Any) -> Iterator[Analyse]:
    """Data sets -> Result, of the bundle without the network."""
    bundle, backend = trust.check(tiny_radiograph_bytes).bundle, opened(tiny_radiograph_bytes)
    yield lambda *images: line.process([xray.bytes(i) for i in images], bundle, backend)
    backend.close()


@pytest.fixture(scope="module")
def blank(xray: Any) -> Any:
    """Pixels that the tiny network takes for none."""
    return xray.pixels() // 4


@pytest.fixture(scope="module")
def dim(xray: Any) -> Any:
    """Pixels without a finding that it takes for one."""
    return xray.pixels() // 2


@pytest.fixture(scope="module")
def packed(tiny_radiograph_bytes: bytes, older: Analyse, xray: Any, blank: Any, dim: Any) -> bytes:
    """With a threshold between the scores of both."""
    scores = [older(xray.image(pixels)).scores for pixels in (blank, dim)]
    low, high = (s.candidates[0].score for s in scores if s is not None)
    assert low < high < 0.5
    return bundle_with(tiny_radiograph_bytes, (low + high) / 2)


@pytest.fixture(scope="module")
def bundle(packed: bytes) -> Bundle:
    return trust.check(packed).bundle


@pytest.fixture(scope="module")
def backend(packed: bytes) -> Iterator[Backend]:
    backend = opened(packed)
    yield backend
    backend.close()


@pytest.fixture
def analyse(bundle: Bundle, backend: Backend, xray: Any) -> Analyse:
    """Data sets -> Result."""
    return lambda *images: line.process([xray.bytes(i) for i in images], bundle, backend)


def test_an_image_alone_is_refused_with_its_reason_and_not_scored(
    analyse: Analyse, xray: Any, blank: Any
) -> None:
    result = analyse(xray.image(blank, number=7))
    assert result.status is Status.NOT_ANALYSED
    (reason,) = result.reasons
    assert (reason.code, reason.where) == (Code.NOT_FRONTAL, "image 7")
    assert reason.text.startswith("image 7: it does not look like a frontal chest radiograph (0.")
    assert (result.findings, result.maps, result.scores) == ((), (), None)
    (measured,) = result.quality
    assert isinstance(measured, RadiographQuality), "the watch over the scanner sees it"


def test_beside_another_image_it_is_a_limitation_and_the_other_is_as_if_alone(
    analyse: Analyse, xray: Any, blank: Any
) -> None:
    alone = analyse(xray.image(number=2))
    images = [xray.image(blank, number=1), xray.image(number=2)]
    result = analyse(*images)
    assert result.status is Status.ANALYSED
    (reason,) = result.limitations
    assert (reason.code, reason.where) == (Code.NOT_FRONTAL, "image 1")
    (finding,) = result.findings
    assert finding.key_image == 1, "its place among all images"
    assert replace_key(alone) == replace_key(result)
    assert result.scores == alone.scores
    assert [m.name for m in result.maps] == ["heat-map-1"]
    assert np.array_equal(result.maps[0].values, alone.maps[0].values)
    again = analyse(*images[::-1])
    assert (again.findings, again.limitations) == (result.findings, result.limitations)


def replace_key(result: Result) -> list[Any]:
    """Findings without the place of their image."""
    return [f.model_copy(update={"key_image": 0}) for f in result.findings]


def test_one_without_a_finding_is_kept(analyse: Analyse, xray: Any, dim: Any) -> None:
    result = analyse(xray.image(dim))
    assert (result.status, result.findings, result.limitations) == (Status.ANALYSED, (), ())
    assert result.scores is not None
    assert len(result.scores.candidates) == 1


def test_several_are_one_reason(analyse: Analyse, xray: Any, blank: Any) -> None:
    result = analyse(*[xray.image(blank + n, number=n) for n in (1, 2, 3)])
    (reason,) = result.reasons
    assert reason.text.endswith("(and 2 more like it)")


def test_a_bundle_without_the_network_gives_the_same_report_in_the_same_bytes(
    analyse: Analyse, older: Analyse, xray: Any, dim: Any, seal: Any
) -> None:
    """Of what is frontal, and it scores what is none, as before."""
    for image in (xray.image(), xray.image(dim)):
        before, now = older(image), analyse(image)
        assert seal(replace(now, bundle=before.bundle)).to_json() == seal(before).to_json()
    assert older(xray.image(xray.pixels() // 4)).status is Status.ANALYSED


def test_a_network_that_answers_in_another_shape_is_a_fault_of_the_backend(
    bundle: Bundle, backend: Backend, xray: Any
) -> None:
    class Odd:
        ref = backend.ref

        def infer(self, role: str, image: Tensor) -> dict[str, Any]:
            found = dict(backend.infer(role, image))
            return {**found, "logit": np.zeros(3, np.float32)} if role == "frontal" else found

    odd: Any = Odd()
    with pytest.raises(Poisoned, match="network 'frontal': output 'logit'"):
        line.process([xray.bytes(xray.image())], bundle, odd)


def test_the_remedy_asks_for_a_reader() -> None:
    assert REMEDIES[Code.NOT_FRONTAL].startswith("Read the image by eye: it was not analysed")
