"""A source folder becomes a bundle, the same each time, or is refused with what to correct."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from appliance.bundle import archive, trust
from appliance.bundle.lines import SegmentProposeClassify
from appliance.errors import BundleRefused
from appliance.phantom import chest
from appliance.phantom.version import VERSION
from appliance.quality import shapes
from compile.__main__ import main
from compile.pack import factory, pack
from rigs.bundles import signed
from rigs.donated import donated


def change(source: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = source / "source.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def refused(source: Path, code: str = "bundle_source") -> str:
    with pytest.raises(BundleRefused) as caught:
        pack(source)
    assert caught.value.remedy
    assert caught.value.code in {code, "bundle_manifest", "bundle_golden"}
    return caught.value.text


def test_packing_twice_gives_the_same_bytes(tiny_source: Path, tiny_bytes: bytes) -> None:
    assert pack(tiny_source) == tiny_bytes
    assert trust.check(tiny_bytes).signature is None
    assert sorted(archive.read(tiny_bytes)) == list(archive.read(tiny_bytes))


def test_the_command_packs_and_says_the_digest(
    tiny_source: Path, tiny_bytes: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.scanside"
    assert main(["pack", str(tiny_source), "-o", str(out)]) == 0
    assert out.read_bytes() == tiny_bytes
    assert trust.check(tiny_bytes).digest in capsys.readouterr().out
    assert main(["card", str(out)]) == 0
    assert "not for clinical use" in capsys.readouterr().out


def test_a_refusal_is_one_line_and_leaves_no_file(
    tiny_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_source / "segment.onnx").unlink()
    out = tmp_path / "out" / "out.scanside"
    out.parent.mkdir()
    assert main(["pack", str(tiny_source), "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "segment.onnx" in error
    assert not list(out.parent.iterdir())
    assert main(["pack", str(tiny_source / "nowhere"), "-o", str(out)]) == 1
    with pytest.raises(SystemExit) as caught:
        main(["pack"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda m: m["networks"]["segment"].update(digest="0" * 64), "pack fills it in"),
        (lambda m: m["networks"]["segment"].pop("file"), "names no file"),
        (lambda m: m["networks"]["segment"].update(file="../x"), "outside"),
        (lambda m: m["networks"].update(segment=None), "names no file"),
        (lambda m: m.update(networks=[]), "not a manifest"),
        (lambda m: m.update(goldens=m["goldens"][:2]), "'classify' has no golden case"),
        (lambda m: m.pop("title"), "title"),
        (lambda m: m["networks"]["segment"]["inputs"][0].update(name="x"), "has the inputs image"),
        (
            lambda m: m["networks"]["segment"]["inputs"][0].update(shape=[1, 1, -1, -1, 16]),
            "[1, 1, -1, -1, -1]",
        ),
        (lambda m: m["networks"]["classify"]["outputs"][0].update(shape=[-1, 1]), "logit"),
        (lambda m: m["networks"]["classify"]["outputs"][0].update(dtype="float16"), "float16"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(
    tiny_source: Path, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    change(tiny_source, edit)
    assert said in refused(tiny_source)


def model(nodes: list[Any], weights: list[Any] | None = None) -> Any:
    value = helper.make_tensor_value_info
    shape = [1, 1, "z", "y", "x"]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", TensorProto.FLOAT, shape)],
        [value("lungs", TensorProto.FLOAT, shape)],
        weights or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_a_bad_network_is_refused(tiny_source: Path) -> None:
    path = tiny_source / "segment.onnx"
    path.write_bytes(b"\x08\x07junk")
    refused(tiny_source, "bundle_network")
    unknown = model([helper.make_node("Gelu", ["image"], ["lungs"])])  # since opset 20
    path.write_bytes(unknown.SerializeToString())
    assert "not a valid ONNX model" in refused(tiny_source)
    weight = onnx.numpy_helper.from_array(np.ones(1, np.float32), "w")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    weight.ClearField("raw_data")
    outside = model([helper.make_node("Mul", ["image", "w"], ["lungs"])], [weight])
    path.write_bytes(outside.SerializeToString())
    assert "weights lie outside" in refused(tiny_source, "bundle_network")


def test_a_golden_case_of_another_network_is_refused(tiny_source: Path) -> None:
    other = model([helper.make_node("Relu", ["image"], ["lungs"])])
    (tiny_source / "segment.onnx").write_bytes(other.SerializeToString())
    assert "golden cases do not pass" in refused(tiny_source)
    assert pack(tiny_source, goldens=False)


def test_factory_puts_bundles_with_their_digests(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "factory"
    folder.mkdir()
    (folder / "digests.json").write_text(
        '{"other": {"version": "1.0.0", "digest": "%s"}}' % ("0" * 64)
    )
    factory([tiny_bundle], folder)
    table = trust.factory_digests((folder / "digests.json").read_bytes())
    assert table["tiny-nodule"].digest == trust.check(tiny_bundle.read_bytes()).digest
    assert "other" in table
    assert (folder / "bundles/tiny-nodule.scanside").read_bytes() == tiny_bundle.read_bytes()


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phantom in a grid that is made in a second."""
    monkeypatch.setattr(chest, "chest", partial(chest.chest, spacing_mm=(2.5, 3.0, 3.0)))


@pytest.mark.long
@pytest.mark.usefixtures("coarse")
def test_what_is_found_in_the_phantom_is_recorded_and_packs_to_the_same_bytes(
    tiny_source: Path, tiny_bytes: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.scanside"
    assert main(["pack", str(tiny_source), "--phantom", "-o", str(out)]) == 0
    loaded = trust.check(out.read_bytes())
    record = loaded.manifest.phantom
    assert record is not None
    assert record.version == VERSION
    assert record.findings
    assert all(one.score >= one.threshold for one in record.findings)
    assert pack(tiny_source, phantom=True) == out.read_bytes()
    before = trust.check(tiny_bytes)
    assert b'"phantom"' not in before.manifest_json, "without a record nothing is said of it"
    assert loaded.manifest.model_copy(update={"phantom": None}) == before.manifest


@pytest.mark.usefixtures("coarse")
@pytest.mark.long
def test_a_bundle_is_packed_anew_only_under_another_version_and_without_its_signature(
    tiny_source: Path, tiny_bytes: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, out = tmp_path / "old.scanside", tmp_path / "out.scanside"
    old.write_bytes(signed(pack(tiny_source, phantom=True)))
    assert main(["pack", str(old), "-o", str(out)]) == 1
    assert "[bundle_version_taken] Give what is packed anew" in capsys.readouterr().err
    assert main(["pack", str(old), "--as-version", "1.0.0", "-o", str(out)]) == 1
    assert main(["pack", str(old), "--as-version", "1.0.1", "-o", str(out)]) == 0
    made, before = trust.check(out.read_bytes()), trust.check(tiny_bytes)
    assert made.signature is None
    assert made.manifest == before.manifest.model_copy(update={"version": "1.0.1"})
    assert made.manifest.phantom is None, "what was recorded of another build is not kept"
    assert archive.read(out.read_bytes()).keys() == archive.read(tiny_bytes).keys()
    assert pack(tiny_source, version="1.0.1") == out.read_bytes()


def test_a_bundle_that_does_not_analyse_the_phantom_records_nothing(
    tiny_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chest, "chest", partial(chest.chest, spacing_mm=(20.0, 3.0, 3.0)))
    with pytest.raises(BundleRefused, match="does not analyse the phantom: spacing") as caught:
        pack(tiny_source, phantom=True)
    assert caught.value.code == "bundle_source"


@pytest.mark.usefixtures("coarse")
def test_a_bundle_whose_preprocessing_is_not_faithful_is_refused(
    tiny_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut(manifest: dict[str, Any]) -> None:
        """Its patches show no soft tissue."""
        (window,) = (
            op for op in manifest["networks"]["classify"]["preprocess"] if op["op"] == "window"
        )
        window["high"] = 0.0

    change(tiny_source, cut)
    out = tmp_path / "out.scanside"
    assert main(["pack", str(tiny_source), "--phantom", "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert "classify: contrast (" in error
    assert "0.90 at 10 mm" in error
    assert "[bundle_unfaithful] Correct `preprocess`" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_bundle_carries_shapes_and_says_whose_they_are(
    tiny_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "s.npz", tmp_path / "out.scanside"
    file.write_bytes(shapes.packed(donated()))
    assert main(["pack", str(tiny_source), "--shapes", str(file), "-o", str(out)]) == 0
    loaded = trust.check(out.read_bytes())
    said = loaded.manifest.shapes
    assert said is not None
    assert (said.count, said.source, said.licence) == (4, "balls of a test", "CC0-1.0")
    assert loaded.manifest.requires_appliance == "0.2.0"
    assert loaded.shapes == file.read_bytes()
    again = tmp_path / "again.scanside"
    assert main(["pack", str(out), "--as-version", "9.9.9", "-o", str(again)]) == 0
    assert trust.check(again.read_bytes()).shapes == file.read_bytes(), "packed anew"
    file.write_bytes(b"no shapes")
    assert main(["pack", str(tiny_source), "--shapes", str(file), "-o", str(out)]) == 1
    assert "--shapes" in capsys.readouterr().err


def test_a_bundle_whose_shapes_are_others_is_refused(tiny_source: Path, tmp_path: Path) -> None:
    data = pack(tiny_source, shapes=shapes.packed(donated()))
    entries = archive.read(data)
    entries[shapes.FILE] = entries[shapes.FILE][:-1]
    with pytest.raises(BundleRefused) as caught:
        trust.check(archive.write(entries))
    assert caught.value.code == "bundle_digest"


USUAL = {
    "usual_input": [{"figure": "noise_hu", "low": None, "high": 112.0}],
    "usual_output": {"most_findings": 9, "most_share": 0.24},
}


def test_a_bundle_says_which_images_are_usual(
    tiny_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "usual.json", tmp_path / "out.scanside"
    file.write_text(json.dumps(USUAL))
    assert main(["pack", str(tiny_source), "--usual", str(file), "-o", str(out)]) == 0
    manifest = trust.check(out.read_bytes()).manifest
    line = manifest.line_of(SegmentProposeClassify)
    assert (line.version, manifest.requires_appliance) == (4, "0.2.0")
    assert line.usual_input is not None
    assert [(one.figure, one.high) for one in line.usual_input] == [("noise_hu", 112.0)]
    assert line.usual_output is not None
    assert line.usual_output.most_findings == 9
    assert main(["card", str(out)]) == 0
    assert "112" in capsys.readouterr().out
    again = tmp_path / "again.scanside"
    assert main(["pack", str(out), "--as-version", "9.9.9", "-o", str(again)]) == 0
    assert trust.check(again.read_bytes()).manifest.line == line, "packed anew"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "not JSON"),
        ("[]", "has to say usual_input and usual_output"),
        (json.dumps({**USUAL, "kind": "qa"}), "and no more"),
        (json.dumps({**USUAL, "usual_input": [{"figure": "age"}]}), "usual_input"),
    ],
)
def test_limits_that_are_none_are_refused(tiny_source: Path, given: str, said: str) -> None:
    with pytest.raises(BundleRefused, match=said):
        pack(tiny_source, usual=given.encode())


def test_limits_are_for_the_line_of_lung_nodules_alone(
    tmp_path: Path, tiny_radiograph_bytes: bytes
) -> None:
    bundle = tmp_path / "radiograph.scanside"
    bundle.write_bytes(tiny_radiograph_bytes)
    with pytest.raises(BundleRefused, match="segment-propose-classify-measure"):
        pack(bundle, version="9.9.9", usual=json.dumps(USUAL).encode())
