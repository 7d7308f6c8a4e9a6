"""The parts list of a release."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from appliance.bundle import trust
from appliance.errors import BundleRefused
from compile import sbom
from compile.__main__ import main
from rigs.donated import with_shapes

WHEN = datetime(2026, 1, 2, tzinfo=timezone.utc)


def test_every_library_that_the_wheel_needs_is_listed_with_its_version() -> None:
    names = {one.metadata["Name"].lower().replace("_", "-"): one for one in sbom.needed()}
    wheel = sbom.importlib.metadata.distribution("scanside")
    direct = [r for r in map(Requirement, wheel.requires or ()) if not r.marker]
    assert {r.name for r in direct} <= set(names)
    assert "typing-extensions" in names  # of pydantic, not our own
    assert "torch" not in names  # training is not in the wheel
    with_extra = {one.metadata["Name"] for one in sbom.needed(["openvino"])}
    assert "openvino" in with_extra
    assert "openvino" not in names


def test_the_list_is_valid_cyclonedx_and_the_same_bytes_again(tiny_bundle: Path) -> None:
    loaded = trust.check(tiny_bundle.read_bytes())
    text = sbom.sbom(WHEN, [loaded], kernels=b"not code")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert sbom.sbom(WHEN, [loaded], kernels=b"not code") == text
    parts = {part["bom-ref"]: part for part in json.loads(text)["components"]}
    model = parts[f"bundle:{loaded.digest}"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": loaded.digest}]
    assert any(part["type"] == "file" for part in parts.values())
    assert parts[next(ref for ref in parts if ref.startswith("pkg:pypi/numpy@"))]["licenses"]


def test_shapes_that_a_bundle_carries_are_listed_with_their_licence(tiny_bytes: bytes) -> None:
    loaded = trust.check(with_shapes(tiny_bytes))
    parts = {part["bom-ref"]: part for part in json.loads(sbom.sbom(WHEN, [loaded]))["components"]}
    said = {p["name"]: p["value"] for p in parts[f"bundle:{loaded.digest}"]["properties"]}
    shapes = loaded.manifest.shapes
    assert shapes is not None
    assert said[f"scanside:data:{shapes.source}"] == f"CC0-1.0 {shapes.digest}"


def test_a_library_that_is_missing_is_an_error_not_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    there = sbom.importlib.metadata.distribution

    def without(name: str) -> object:
        if name == "pydicom":
            raise sbom.importlib.metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(sbom.importlib.metadata, "distribution", without)
    with pytest.raises(BundleRefused, match="pydicom is needed") as refused:
        sbom.needed()
    assert refused.value.code == "sbom_missing"


def test_the_date_comes_from_the_environment_or_is_now(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    out = tmp_path / "sbom.json"
    assert main(["sbom", str(tiny_bundle), "-o", str(out)]) == 0
    assert json.loads(out.read_text())["metadata"]["timestamp"].startswith("1970-01-02T00:00:00")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert main(["sbom", str(tiny_bundle), "-o", str(out)]) == 1
