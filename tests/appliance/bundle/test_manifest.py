"""What a manifest may say, and how what it may not is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from appliance.bundle import archive, manifest
from appliance.bundle.accepts import NO_SLICES
from appliance.bundle.lines import ClassifyImage, SegmentProposeClassify
from appliance.errors import BundleRefused

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def good(tiny_bytes: bytes) -> bytes:
    return archive.read(tiny_bytes)["manifest.json"]


def refused(good: bytes, change: Change, appliance: str = "0.1.0") -> BundleRefused:
    data = json.loads(good)
    change(data)
    with pytest.raises(BundleRefused) as caught:
        manifest.read(json.dumps(data).encode(), appliance)
    return caught.value


def test_a_good_manifest_is_read_and_written_the_same(good: bytes) -> None:
    assert manifest.write(manifest.read(good, "0.1.0")) == good


def test_equal_manifests_are_written_with_the_same_bytes(good: bytes) -> None:
    data = json.loads(good)
    data["networks"] = dict(reversed(data["networks"].items()))
    assert manifest.write(manifest.read(json.dumps(data).encode())) == good


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["networks"]["segment"]["preprocess"].append({"op": "warp"}), "op 'warp'"),
        (lambda m: m["networks"]["segment"]["preprocess"][0].update(version=2), "version '2'"),
        (lambda m: m["line"]["segment"].update(head="diffuse"), "head 'diffuse'"),
        (lambda m: m["line"]["propose"].update(version=9), "version '9' of line.propose"),
        (lambda m: m["line"].update(kind="ask-an-oracle"), "line kind 'ask-an-oracle'"),
        (lambda m: m["line"].clear() or m["line"].update(kind="new"), "line kind 'new'"),
        (lambda m: m.update(schema="scanside.bundle/2"), "schema 'scanside.bundle/2'"),
        (lambda m: m["networks"].update(airways=m["networks"]["segment"]), "network 'airways'"),
    ],
)
def test_an_unknown_word_is_named_with_the_version_it_needs(
    good: bytes, change: Change, said: str
) -> None:
    error = refused(good, lambda m: (change(m), m.update(requires_appliance="0.9.2")))
    assert error.code == "bundle_unknown"
    assert f"unknown {said}" in error.text
    assert "0.9.2" in error.text
    assert "0.9.2" in error.remedy
    assert "the bundle asks for appliance 0.1.0" in refused(good, change).text


def test_a_newer_appliance_is_asked_for(good: bytes) -> None:
    for change in ({}, {"future": 1}, {"title": 7}):
        error = refused(good, lambda m, c=change: m.update(requires_appliance="0.2.0", **c))
        assert error.code == "bundle_requires"
        assert "0.2.0" in error.remedy
    assert refused(good, lambda m: m.update(future=1)).code == "bundle_manifest"


@pytest.mark.parametrize(
    ("version", "than", "is_older"),
    [("0.9.0", "0.10.0", True), ("1.0.0", "0.99.9", False), ("1.2.3", "1.2.3", False)],
)
def test_versions_compare_by_number(version: str, than: str, is_older: bool) -> None:
    assert manifest.older(version, than) is is_older


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["networks"].pop("classify"), "the line needs a network 'classify'"),
        (lambda m: m["line"]["segment"].update(output="x"), "'segment' has no output 'x'"),
        (
            lambda m: m["networks"]["propose"]["inputs"].append({"name": "b", "shape": [1]}),
            "one input",
        ),
        (
            lambda m: m["networks"]["segment"]["preprocess"].append({"op": "crop", "margin_mm": 1}),
            "cannot have these ops",
        ),
        (lambda m: m["networks"]["classify"]["preprocess"].pop(2), "cannot have these ops"),
        (
            lambda m: m["networks"]["segment"].update(file=m["networks"]["propose"]["file"]),
            "named twice",
        ),
        (lambda m: m["goldens"][0].update(file="manifest.sig"), "may be called manifest.sig"),
        (lambda m: m["goldens"][0].update(network="airways"), "an unknown network: 'airways'"),
        (lambda m: m["goldens"][0].update(file="../x"), "goldens.0.file"),
        (lambda m: m["networks"]["segment"].update(file="/etc/passwd"), "networks.segment.file"),
        (lambda m: m.update(name="../x"), "name"),
        (lambda m: m.update(version="1.0"), "version"),
        (lambda m: m.update(version="٣.0.0"), "version"),
        (lambda m: m["accepts"]["spacing_mm"].update(limited=1.0), "`limited` is below"),
        (lambda m: m["accepts"].update(age_years=[20, 10]), "ends before"),
        (lambda m: m["goldens"][0].update(atol=0), "atol"),
        (lambda m: m.update({"__class__": "os.system"}), "__class__"),
    ],
)
def test_what_does_not_fit_together_is_refused(good: bytes, change: Change, said: str) -> None:
    error = refused(good, change)
    assert error.code == "bundle_manifest"
    assert said in error.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["networks"]["classify"]["preprocess"].pop(0), "cannot have these ops"),
        (
            lambda m: m["networks"]["classify"]["preprocess"].append({"op": "rescale"}),
            "cannot have these ops",
        ),
        (lambda m: m["accepts"].update(age_years=None), "names the age"),
        (lambda m: m["accepts"].update(required=["name"]), "accepts.required.0"),
        (lambda m: m["accepts"].update(min_slices=0), "accepts.min_slices"),
        (lambda m: m["line"].update(activation="x"), "has no output 'x'"),
    ],
)
def test_what_does_not_fit_a_bundle_for_radiographs_is_refused(
    tiny_radiograph_bytes: bytes, change: Change, said: str
) -> None:
    good = archive.read(tiny_radiograph_bytes)["manifest.json"]
    assert said in refused(good, change).text


def test_the_figures_of_slices_may_be_missing_for_single_images_alone(
    good: bytes, tiny_radiograph_bytes: bytes
) -> None:
    single = manifest.read(archive.read(tiny_radiograph_bytes)["manifest.json"])
    assert single.accepts.spacing_mm == NO_SLICES
    assert single.line_of(ClassifyImage).finding == "pneumonia"
    with pytest.raises(TypeError):
        single.line_of(SegmentProposeClassify)
    with pytest.raises(TypeError):
        manifest.read(good).line_of(ClassifyImage)
    for name in ("spacing_mm", "cover_mm"):
        error = refused(good, lambda m, name=name: m["accepts"].pop(name))
        assert f"`accepts.{name}` is missing" in error.text


def test_ops_of_a_radiograph_are_not_for_slices(good: bytes) -> None:
    change = lambda m: m["networks"]["segment"]["preprocess"].append({"op": "display"})  # noqa: E731
    assert "cannot have these ops" in refused(good, change).text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 9999,
        b"9" * 9999,
        b'{"a":NaN}',
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BundleRefused):
        manifest.read(data)


def test_hostile_text_is_shown_short_and_as_ascii(good: bytes) -> None:
    error = refused(good, lambda m: m["line"].update(kind="\x1b[2J" + "é" * 5000))
    assert error.text.isascii()
    assert error.text.isprintable()
    assert len(error.text) < 400


def test_an_oversized_manifest_is_refused() -> None:
    with pytest.raises(BundleRefused, match="larger than"):
        manifest.read(b" " * (manifest.MAX_BYTES + 1))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_only_a_refusal_escapes_a_value_put_anywhere(value: object) -> None:
    try:
        manifest.read(json.dumps({"schema": "scanside.bundle/1", "name": value}).encode())
    except BundleRefused:
        return
    raise AssertionError("it was read")


# A line whose networks have several inputs: what a later version, or another kind, may say.


class OfPairs(ClassifyImage):
    """Its network compares the image with a prior one."""

    @property
    def needs_appliance(self) -> str:
        return "0.9.0"

    def inputs(self, role: str) -> int:
        return 2

    def fed_as(self, role: str) -> str:
        return role


class ManifestOfPairs(manifest.Manifest):
    line: OfPairs


def pairs(bundle: bytes, **changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(archive.read(bundle)["manifest.json"])
    shape = data["networks"]["classify"]["inputs"][0]["shape"]
    data["networks"]["classify"]["inputs"] = [
        {"name": name, "shape": shape} for name in ("prior", "current")
    ]
    return data | {"requires_appliance": "0.9.0"} | changes


def test_a_network_has_as_many_inputs_as_its_line_feeds_it(tiny_radiograph_bytes: bytes) -> None:
    data = pairs(tiny_radiograph_bytes)
    held = ManifestOfPairs.model_validate_json(json.dumps(data))
    assert [port.name for port in held.networks["classify"].inputs] == ["prior", "current"]
    del data["networks"]["classify"]["inputs"][0]
    with pytest.raises(ValidationError, match="'classify' must have 2 inputs"):
        ManifestOfPairs.model_validate_json(json.dumps(data))


def test_a_pair_is_nothing_for_a_line_of_today(tiny_radiograph_bytes: bytes) -> None:
    with pytest.raises(BundleRefused, match="'classify' must have one input"):
        manifest.read(json.dumps(pairs(tiny_radiograph_bytes)).encode(), "0.9.0")


def test_a_newer_line_asks_for_the_appliance_that_knows_it(tiny_radiograph_bytes: bytes) -> None:
    data = pairs(tiny_radiograph_bytes, requires_appliance="0.8.0")
    with pytest.raises(ValidationError, match=r"`requires_appliance` is below 0\.9\.0"):
        ManifestOfPairs.model_validate_json(json.dumps(data))


WAY = {"method": "percentile", "scales_digest": "a" * 64, "images": 16, "images_digest": "b" * 64}


def test_an_int8_network_may_say_how_it_was_quantised(good: bytes) -> None:
    data = json.loads(good)
    assert "quantized" not in data["networks"]["segment"]
    data["networks"]["segment"].update(precision="int8", quantized=WAY)
    with pytest.raises(BundleRefused, match=r"below 0\.2\.0, the first that knows `quantized`"):
        manifest.read(json.dumps(data).encode())
    data["requires_appliance"] = "0.2.0"
    read = manifest.read(json.dumps(data).encode())
    assert json.loads(manifest.write(read)) == data
    data["networks"]["segment"]["precision"] = "fp32"
    with pytest.raises(BundleRefused, match="a network of fp32 was not quantised"):
        manifest.read(json.dumps(data).encode())


def test_an_op_that_softens_asks_for_the_appliance_that_knows_it(good: bytes) -> None:
    data = json.loads(good)
    ops = data["networks"]["propose"]["preprocess"]
    at = next(i for i, op in enumerate(ops) if op["op"] in ("window", "zscore", "pad"))
    ops.insert(at, {"op": "soften", "version": 1, "sd_mm": 0.8})
    with pytest.raises(BundleRefused, match=r"below 0\.2\.0, the first that knows `soften`"):
        manifest.read(json.dumps(data).encode())
    data["requires_appliance"] = "0.2.0"
    read = manifest.read(json.dumps(data).encode())
    assert json.loads(manifest.write(read)) == data
    ops[at]["version"] = 2
    data["requires_appliance"] = "9.0.0"
    with pytest.raises(
        BundleRefused, match=r"unknown version '2' of .*soften.*asks for appliance"
    ) as e:
        manifest.read(json.dumps(data).encode(), "0.2.0")
    assert e.value.code == "bundle_unknown"
    assert "Update the appliance to 9.0.0" in e.value.remedy


SHAPES = {"file": "s.npz", "digest": "0" * 64, "count": 1, "source": "LIDC", "licence": "CC-BY-3.0"}


def test_shapes_are_a_file_of_the_bundle_and_need_an_appliance_that_knows_them(good: bytes) -> None:
    data = {**json.loads(good), "shapes": SHAPES}
    older = refused(good, lambda m: m.update(shapes=SHAPES))
    assert "0.2.0, the first that knows `shapes`" in older.text
    read = manifest.read(json.dumps({**data, "requires_appliance": "0.2.0"}).encode())
    assert ("s.npz", "0" * 64) in read.files()
    assert json.loads(manifest.write(read))["shapes"] == SHAPES
