"""What each version of a line may have, and how the ones before it are left alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.bundle import archive, manifest
from appliance.bundle.accepts import Limits
from appliance.bundle.lines import ADDED, ClassifyImage, SegmentProposeClassify
from appliance.errors import BundleRefused
from appliance.interpret.certainty import doubts, open_negatives

Change = Callable[[dict[str, Any]], object]
SICK = {"output": "disease", "diffuse_share": 0.05}
BARE = {"body": None, "one_lung_share": None}


@pytest.fixture
def manifests(tiny_bytes: bytes, second_bytes: bytes, third_bytes: bytes) -> dict[int, bytes]:
    """manifest.json of a bundle of each version."""
    packed = {1: tiny_bytes, 2: second_bytes, 3: third_bytes}
    return {version: archive.read(data)["manifest.json"] for version, data in packed.items()}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_is_read_and_written_with_the_same_bytes(
    manifests: dict[int, bytes], version: int
) -> None:
    read = manifest.read(manifests[version], "0.2.0")
    assert read.line_of(SegmentProposeClassify).version == version
    assert manifest.write(read) == manifests[version]


@pytest.mark.parametrize("version", [1, 2])
def test_no_key_of_version_3_is_written_into_an_earlier_line(
    manifests: dict[int, bytes], version: int
) -> None:
    """An appliance that does not know a key refuses the manifest."""
    assert not set(ADDED[3]) & set(json.loads(manifests[version])["line"])
    assert set(ADDED[3]) <= set(json.loads(manifests[3])["line"])


def test_an_older_appliance_refuses_version_3_in_one_line(manifests: dict[int, bytes]) -> None:
    with pytest.raises(BundleRefused) as caught:
        manifest.read(manifests[3], "0.1.0")
    assert caught.value.code == "bundle_requires"
    assert caught.value.text == (
        "manifest.json; the bundle asks for appliance 0.2.0, this is 0.1.0"
    )
    assert "Update the appliance to 0.2.0" in str(caught.value.remedy)
    for version in (1, 2):
        manifest.read(manifests[version], "0.1.0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(requires_appliance="0.1.9"), "`requires_appliance` is below 0.2.0"),
        (lambda m: m["line"].update(version=2), "version 2 of the line has no 'body'"),
        (lambda m: m["line"].update(version=2, body=None), "version 2 of the line has no 'one_l"),
        (lambda m: m["line"].update(version=1, body=None), "version 1 of the line has no 'cube'"),
        (lambda m: m["line"]["body"].update(output="outline"), "'mass' has no output 'outline'"),
        (lambda m: (m["line"].update(mass=None), m["networks"].pop("mass")), "needs `mass`"),
        (lambda m: m["line"].update(one_lung_share=1.0), "line.one_lung_share"),
        (lambda m: m["line"]["body"].update(threshold=0), "line.body.threshold"),
        (lambda m: m["line"].update(disease=SICK), "'segment' has no output 'disease'"),
        (lambda m: m["line"].update(disease={"output": "lungs"}), "line.disease.diffuse_share"),
        (lambda m: m["line"].update(BARE, version=2, disease=SICK), "version 2 of the line has no"),
        (lambda m: m["line"]["calibration"].update(sure_from=1.5), "line.calibration.sure_from"),
    ],
)
def test_what_version_3_may_not_say_is_refused(
    manifests: dict[int, bytes], change: Change, said: str
) -> None:
    data = json.loads(manifests[3])
    change(data)
    with pytest.raises(BundleRefused) as caught:
        manifest.read(json.dumps(data).encode(), "0.2.0")
    assert caught.value.code == "bundle_manifest"
    assert said in caught.value.text


def test_all_that_version_3_added_is_optional(manifests: dict[int, bytes]) -> None:
    data = json.loads(manifests[3])
    data["line"].update(body=None)
    del data["line"]["one_lung_share"]
    line = manifest.read(json.dumps(data).encode()).line_of(SegmentProposeClassify)
    assert (line.version, line.body, line.one_lung_share, line.disease) == (3, None, None, None)
    assert line.reads()["mass"] == {"heat", "log_diameter"}


def test_limits_are_in_order_and_masses_need_a_network(manifests: dict[int, bytes]) -> None:
    with pytest.raises(ValidationError, match="below `limited`"):
        Limits(full=2.5, limited=5.0, masses=4.0)
    said = json.loads(manifests[2])
    del said["networks"]["mass"]
    said["line"]["mass"] = None
    said["goldens"] = [g for g in said["goldens"] if g["network"] != "mass"]
    with pytest.raises(ValidationError, match="a line that finds masses"):
        manifest.Manifest.model_validate(said)
    said["accepts"]["spacing_mm"]["masses"] = None
    assert manifest.Manifest.model_validate(said).accepts.spacing_mm.most == 5.0


def test_an_earlier_line_says_nothing_of_certainty(manifests: dict[int, bytes]) -> None:
    data = json.loads(manifests[2])
    assert "sure_from" not in data["line"]["calibration"]
    data["line"]["calibration"]["sure_from"] = 0.9
    with pytest.raises(BundleRefused, match="version 2 of the line has no 'sure_from'"):
        manifest.read(json.dumps(data).encode(), "0.2.0")


USUAL = {
    "version": 4,
    "usual_input": [{"figure": "noise_hu", "low": None, "high": 60.0}],
    "usual_output": {"most_findings": 9, "most_share": None, "share_of": 10},
}


def test_version_4_says_what_is_usual_and_versions_before_write_no_key_of_it(
    manifests: dict[int, bytes],
) -> None:
    for version in (1, 2, 3):
        assert not set(ADDED[4]) & set(json.loads(manifests[version])["line"])
    data = json.loads(manifests[3])
    data["line"].update(USUAL)
    read = manifest.read(json.dumps(data).encode(), "0.2.0")
    assert json.loads(manifest.write(read)) == data
    assert "called unusual: noise_hu to 60." in read.line.limits(read.accepts)[-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 3}, "version 3 of the line has no 'usual_input'"),
        ({"usual_input": [{"figure": "noise_hu"}]}, "a limit has an end"),
        ({"usual_input": [{"figure": "noise_hu", "low": 2, "high": 1}]}, "ends before it begins"),
        ({"usual_input": [{"figure": "noise_hu", "low": 2}] * 2}, "two limits of one figure"),
        ({"usual_input": [{"figure": "dose", "low": 2}]}, "line.usual_input.0.figure"),
        ({"usual_output": {"most_share": 1.5}}, "line.usual_output.most_share"),
    ],
)
def test_what_version_4_may_not_say_is_refused(
    manifests: dict[int, bytes], change: dict[str, Any], said: str
) -> None:
    data = json.loads(manifests[3])
    data["line"].update({**USUAL, **change})
    with pytest.raises(BundleRefused) as caught:
        manifest.read(json.dumps(data).encode(), "0.2.0")
    assert said in caught.value.text


BOUNDS = {"alpha": 0.05, "with_from": 0.8, "without_to": 0.4, "n_with": 389, "n_without": 135}


@pytest.fixture
def radiographs(tiny_radiograph_bytes: bytes) -> dict[str, Any]:
    """manifest.json of a bundle of radiographs, of version 1 of its line."""
    found: dict[str, Any] = json.loads(archive.read(tiny_radiograph_bytes)["manifest.json"])
    return found


def test_a_line_of_radiographs_without_bounds_is_written_as_before(
    radiographs: dict[str, Any],
) -> None:
    """An appliance that does not know a key refuses the manifest."""
    read = manifest.read(json.dumps(radiographs).encode(), "0.1.0")
    assert "certainty" not in json.loads(manifest.write(read))["line"]


def test_version_2_of_radiographs_has_bounds_or_none(radiographs: dict[str, Any]) -> None:
    radiographs["requires_appliance"] = "0.2.0"
    for added in ({}, {"certainty": BOUNDS}):
        radiographs["line"].update(version=2, **added)
        read = manifest.read(json.dumps(radiographs).encode(), "0.2.0")
        assert json.loads(manifest.write(read)) == radiographs
    said = read.line.limits(read.accepts)[1]
    assert "0.05 is surely called the other (conformal; 389 images with it, 135 without)" in said


@pytest.mark.parametrize(
    ("with_from", "without_to", "sure"),
    [(0.8, 0.4, (0.8, 0.4)), (0.3, 0.9, (0.9, 0.3)), (0.49, 0.48, (0.5, 0.48))],
)
def test_a_card_says_which_scores_are_sure_as_the_line_judges_them(
    radiographs: dict[str, Any], with_from: float, without_to: float, sure: tuple[float, float]
) -> None:
    """Bounds apart, bounds that overlap, and a threshold (0.5) beside both."""
    radiographs["requires_appliance"] = "0.2.0"
    bounds = {**BOUNDS, "with_from": with_from, "without_to": without_to}
    radiographs["line"].update(version=2, certainty=bounds)
    read = manifest.read(json.dumps(radiographs).encode(), "0.2.0")
    first, last = sure
    assert f"from {first:g} on and below {last:g}:" in read.line.limits(read.accepts)[1]
    line = read.line_of(ClassifyImage)
    assert line.certainty
    assert doubts(first + 0.001, line.certainty) == ()
    assert not open_negatives([("image", last - 0.001)], line.certainty)
    for score in (first - 0.001, last + 0.001):
        if score >= line.threshold:
            assert doubts(score, line.certainty)
        else:
            assert open_negatives([("image", score)], line.certainty)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["line"].update(version=1), "version 1 of the line has no 'certainty'"),
        (lambda m: m.update(requires_appliance="0.1.9"), "`requires_appliance` is below 0.2.0"),
        (lambda m: m["line"]["certainty"].update(alpha=0.5), "line.certainty.alpha"),
        (lambda m: m["line"]["certainty"].update(with_from=1.1), "line.certainty.with_from"),
        (lambda m: m["line"]["certainty"].pop("n_with"), "line.certainty.n_with"),
    ],
)
def test_what_a_line_of_radiographs_may_not_say_is_refused(
    radiographs: dict[str, Any], change: Change, said: str
) -> None:
    radiographs["requires_appliance"] = "0.2.0"
    radiographs["line"].update(version=2, certainty=dict(BOUNDS))
    change(radiographs)
    with pytest.raises(BundleRefused) as caught:
        manifest.read(json.dumps(radiographs).encode(), "0.2.0")
    assert said in caught.value.text


@pytest.fixture
def with_frontal(radiographs: dict[str, Any]) -> dict[str, Any]:
    """The same of version 3, with a network `frontal`."""
    radiographs["requires_appliance"] = "0.2.0"
    head = {"head": "frontal", "version": 1, "output": "logit", "threshold": 0.3}
    radiographs["line"].update(version=3, frontal=head)
    classify = radiographs["networks"]["classify"]
    radiographs["networks"]["frontal"] = {**copy.deepcopy(classify), "file": "frontal.onnx"}
    return radiographs


def test_version_3_of_radiographs_has_a_network_of_frontal_views_or_none(
    with_frontal: dict[str, Any],
) -> None:
    read = manifest.read(json.dumps(with_frontal).encode(), "0.2.0")
    assert json.loads(manifest.write(read)) == with_frontal
    said = " ".join(read.line.limits(read.accepts))
    assert "takes it for no frontal chest radiograph (score below 0.3)" in said
    del with_frontal["line"]["frontal"], with_frontal["networks"]["frontal"]
    read = manifest.read(json.dumps(with_frontal).encode(), "0.2.0")
    assert json.loads(manifest.write(read)) == with_frontal


def test_an_appliance_that_is_older_refuses_it_in_one_line(with_frontal: dict[str, Any]) -> None:
    with_frontal["requires_appliance"] = "0.9.0"
    with pytest.raises(BundleRefused) as caught:
        manifest.read(json.dumps(with_frontal).encode(), "0.2.0")
    assert "the bundle asks for appliance 0.9.0" in caught.value.text
    assert "\n" not in caught.value.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["line"].update(version=2), "version 2 of the line has no 'frontal'"),
        (lambda m: m.update(requires_appliance="0.1.9"), "`requires_appliance` is below 0.2.0"),
        (lambda m: m["line"]["frontal"].update(threshold=1.0), "line.frontal.threshold"),
        (lambda m: m["line"]["frontal"].update(output="odd"), "has no output 'odd'"),
        (lambda m: m["line"]["frontal"].update(head="other"), "unknown head 'other'"),
        (lambda m: m["line"].pop("frontal"), "the line reads no network 'frontal'"),
        (lambda m: m["networks"].pop("frontal"), "the line needs a network 'frontal'"),
        (
            lambda m: m["networks"]["frontal"]["inputs"][0].update(shape=[-1, 1, 32, 32]),
            "network 'frontal' must see what 'classify' sees",
        ),
        (
            lambda m: m["networks"]["frontal"]["preprocess"].pop(1),
            "network 'frontal' must see what 'classify' sees",
        ),
        (
            lambda m: m["networks"]["frontal"]["preprocess"].clear(),
            "network 'frontal' cannot have these ops",
        ),
    ],
)
def test_what_a_network_of_frontal_views_may_not_be_is_refused(
    with_frontal: dict[str, Any], change: Change, said: str
) -> None:
    change(with_frontal)
    with pytest.raises(BundleRefused) as caught:
        manifest.read(json.dumps(with_frontal).encode(), "0.2.0")
    assert said in caught.value.text
