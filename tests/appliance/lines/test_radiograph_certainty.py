"""Which radiographs are sure, through the whole line; and that older bundles say what they said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from appliance import line
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import archive, trust
from appliance.bundle.trust import Bundle
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import ConformalBounds

SURE = {"alpha": 0.05, "with_from": 0.5, "without_to": 0.5, "n_with": 99, "n_without": 99}
"""Bounds that meet at the threshold: all is sure."""


def bundle_with(packed: bytes, bounds: dict[str, Any] | None) -> Bundle:
    """The tiny bundle of radiographs, with these bounds in a line of version 2."""
    entries = archive.read(packed)
    manifest = json.loads(entries["manifest.json"])
    if bounds is not None:
        manifest["line"].update(version=2, certainty=bounds)
        manifest["requires_appliance"] = "0.2.0"
    entries["manifest.json"] = json.dumps(manifest).encode()
    return trust.check(archive.write(entries)).bundle


@pytest.fixture(scope="module")
def backend(tiny_radiograph_bytes: bytes) -> Iterator[Backend]:
    loaded = trust.check(tiny_radiograph_bytes)
    opened = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 1)
    yield opened
    opened.close()


Analyse = Callable[..., Result]


@pytest.fixture
def analyse(tiny_radiograph_bytes: bytes, backend: Backend, xray: Any) -> Analyse:
    """Bounds and data sets -> Result."""

    def result(bounds: dict[str, Any] | None, *images: Any) -> Result:
        bundle = bundle_with(tiny_radiograph_bytes, bounds)
        return line.process([xray.bytes(image) for image in images], bundle, backend)

    return result


def test_a_finding_is_sure_or_unsure_and_says_why(analyse: Analyse, xray: Any) -> None:
    (sure,) = analyse(SURE, xray.image()).findings
    assert (sure.certainty, sure.unsure_why) == ("sure", ())
    high = round(sure.score, 4) + 0.0002
    (both,) = analyse({**SURE, "without_to": high}, xray.image()).findings
    assert (both.certainty, both.unsure_why) == (
        "unsure",
        ("images without it score as high too often",),
    )
    (seldom,) = analyse({**SURE, "with_from": high}, xray.image()).findings
    assert seldom.unsure_why == ("images with it seldom score as low",)
    assert {one.score for one in (sure, both, seldom)} == {sure.score}, "nothing is dropped"


def test_an_image_without_a_finding_is_sure_or_named_in_a_limitation(
    analyse: Analyse, xray: Any
) -> None:
    dark = xray.image(xray.pixels() // 3, number=4)
    sure = analyse(SURE, dark)
    assert (sure.findings, sure.limitations) == ((), ())
    open_ = analyse({**SURE, "with_from": 0.0}, dark)
    assert open_.findings == ()
    (reason,) = open_.limitations
    assert (reason.code, reason.where) == (Code.UNSURE_NEGATIVE, "image 4")
    assert "images with a finding score as low too often" in reason.text


def test_several_open_images_are_one_limitation_in_any_order(analyse: Analyse, xray: Any) -> None:
    images = [xray.image(xray.pixels(seed=n) // 3, number=n) for n in (1, 2, 3)]
    images.append(xray.image(number=4))
    wide = {**SURE, "with_from": 0.0, "without_to": 0.0}
    (reason,) = analyse(wide, *images).limitations
    assert reason.where == "image 1"
    assert reason.text.endswith("(and 2 more like it)")
    assert analyse(wide, *images[::-1]).limitations == (reason,)


def test_a_bundle_of_before_gives_the_report_that_it_gave_in_the_same_bytes(
    analyse: Analyse, xray: Any, seal: Any
) -> None:
    for image in (xray.image(), xray.image(xray.pixels() // 3)):
        older, newer = analyse(None, image), analyse(SURE, image)
        bare = tuple(
            f.model_copy(update={"certainty": None, "unsure_why": ()}) for f in newer.findings
        )
        as_before = replace(newer, findings=bare, bundle=older.bundle)
        assert seal(as_before).to_json() == seal(older).to_json()
        assert "certainty" not in seal(older).to_json()
        assert older.scores is not None
        assert older.scores.model_dump_json() == (
            older.scores.model_copy(update={"certainty": None}).model_dump_json()
        )
        assert "certainty" not in older.scores.model_dump_json()


def test_the_bounds_are_kept_with_the_scores(analyse: Analyse, xray: Any) -> None:
    scores = analyse(SURE, xray.image()).scores
    assert scores is not None
    assert scores.certainty == ConformalBounds.model_validate(SURE)
