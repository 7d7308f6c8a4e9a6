"""The line that compares two exams: what its manifest may say, and that it takes no images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.backend.open import open_backend
from appliance.bundle import archive, golden, manifest, match, trust
from appliance.bundle.card import card
from appliance.bundle.exams import Compare
from appliance.bundle.manifest import Manifest
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused
from appliance.lines import choose, kinds
from appliance.reasons import Code
from appliance.records import Header
from compile import compare
from compile.pack import pack
from rigs import tiny_compare

CT = Header(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    sop_instance_uid="1.2",
    study_uid="1.3",
    series_uid="1.4",
    modality="CT",
    body_part="CHEST",
    patient_age_years=60.0,
)


@dataclass(frozen=True)
class Held:
    manifest: Manifest


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_compare.packed(tmp_path_factory.mktemp("compare") / "source")


@pytest.fixture(scope="module")
def loaded(packed: bytes) -> Loaded:
    return trust.check(packed)


def test_a_manifest_of_two_exams_is_read_and_written_with_the_same_bytes(packed: bytes) -> None:
    said = archive.read(packed)[manifest.MANIFEST]
    read = manifest.read(said, "0.2.0")
    line = read.line_of(Compare)
    assert (line.displace.grid_mm, line.displace.multiple, line.displace.passes) == (8.0, 8, 1)
    assert (line.least_limit_percent, line.least_limit_mm) == (25.0, 1.5)
    assert line.repeatability[0].volume_percent == 12.0
    assert manifest.write(read) == said
    with pytest.raises(BundleRefused, match=r"asks for appliance 0\.2\.0"):
        manifest.read(said, "0.1.0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["networks"]["displace"]["inputs"].pop(), "must have 2 inputs"),
        (lambda m: m["line"]["displace"].update(output="no"), "has no output 'no'"),
        (
            lambda m: m["networks"]["displace"].update(preprocess=[{"op": "rescale"}]),
            "cannot have these ops: ['rescale']",
        ),
        (lambda m: m["line"]["displace"].update(passes=5), "less than or equal to 4"),
        (lambda m: m["line"]["displace"].update(high_hu=-2000.0), "`high_hu` is not above"),
        (
            lambda m: m["line"]["repeatability"][0].update(size_mm=[8.0, 4.0]),
            "`size_mm` ends before it begins",
        ),
        (lambda m: m.update(requires_appliance="0.1.0"), "is below 0.2.0"),
    ],
)
def test_what_it_may_not_say_is_refused_by_name(
    packed: bytes, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    data = json.loads(archive.read(packed)[manifest.MANIFEST])
    change(data)
    with pytest.raises(BundleRefused) as caught:
        manifest.read(json.dumps(data).encode())
    assert said in caught.value.text


def test_no_series_is_for_it_and_nothing_is_said_of_it(loaded: Loaded, tiny_bytes: bytes) -> None:
    nodules, comparing = Held(trust.check(tiny_bytes).manifest), Held(loaded.manifest)
    assert choose.bundles_for(CT, [comparing, nodules]).bundles == (nodules,)
    alone = choose.bundles_for(CT, [comparing])
    assert alone.bundles == ()
    assert [reason.code for reason in alone.reasons] == [Code.NO_BUNDLE]
    assert tiny_compare.NAME not in alone.reasons[0].text
    assert [r.code for r in match.accepts(loaded.manifest, CT)] == [Code.NO_BUNDLE]
    with pytest.raises(TypeError, match="takes no images"):
        kinds.of(loaded.manifest)


def test_golden_cases_feed_both_exams_and_notice_when_they_are_swapped(packed: bytes) -> None:
    loaded = trust.check(packed)
    networks = dict(loaded.manifest.networks.items())
    backend = open_backend("onnxruntime", networks, loaded.networks, 1)
    try:
        assert golden.gate(loaded, golden.through(backend)).passed

        def swapped(role: str, given: golden.Given) -> golden.Arrays:
            assert isinstance(given, dict)
            turned = {"prior": given["current"], "current": given["prior"]}
            return golden.through(backend)(role, turned)

        assert not golden.gate(loaded, swapped).passed
    finally:
        backend.close()


def test_an_engine_of_it_is_built_for_the_boxes_of_lungs(loaded: Loaded) -> None:
    network = loaded.manifest.networks["displace"]
    shapes = kinds.profile("displace", network, loaded.manifest)
    assert set(shapes) == {"prior", "current"}
    least, usual, most = shapes["prior"]
    assert least == (1, 1, 8, 8, 8)
    assert usual == (1, 1, 40, 32, 48)
    assert all(n % 8 == 0 for n in most[2:])
    assert all(a <= b <= c for a, b, c in zip(least, usual, most, strict=True))


def test_both_cpu_backends_agree_on_it_and_no_phantom_is_asked_for(loaded: Loaded) -> None:
    rows = list(compare.compare(loaded, ("onnxruntime", "openvino")))
    assert [type(row) for row in rows] == [compare.OfTensor]
    assert "1 tensors, 0 findings" in compare.judge(rows, ("onnxruntime", "openvino"))


def test_packing_it_with_the_phantom_records_none(tmp_path: Path) -> None:
    folder = tiny_compare.write_source(tmp_path / "source")
    with_phantom = trust.check(pack(folder, phantom=True))
    assert with_phantom.manifest.phantom is None


def test_its_card_says_limits_of_a_change_and_nothing_of_scores(loaded: Loaded) -> None:
    text = card(loaded.manifest, loaded.digest)
    assert "under 25 % of the volume" in text
    assert "score" not in text
