"""The verb: one record a bundle, and an exit code that counts failures alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.errors import BundleRefused
from appliance.settings import Settings
from appliance.verbs import prove


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    work = {"backend": "onnxruntime", "threads": 2}
    return Settings.model_validate({"state": tmp_path / "state", "work": work})


def test_each_bundle_of_a_folder_has_its_record_and_one_that_fails_fails_the_verb(
    settings: Settings, tiny_bytes: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundles"
    folder.mkdir()
    (folder / "b.scanside").write_bytes(tiny_bytes)
    assert prove.main([folder], settings, as_json=True) == 0
    said = capsys.readouterr()
    (record,) = map(json.loads, said.out.splitlines())
    assert record["schema"] == "scanside.proof/1"
    assert record["verdict"] == "not_proved"
    assert "b.scanside: golden cases on the CPU" in said.err
    (folder / "a.scanside").write_bytes(tiny_bytes[:-600])
    assert prove.main([folder], settings, as_json=True) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["file"], r["verdict"]) for r in records] == [
        ("a.scanside", "failed"),
        ("b.scanside", "not_proved"),
    ]
    assert prove.main([folder / "b.scanside"], settings, as_json=False) == 0
    assert capsys.readouterr().out.startswith("tiny-nodule 1.0.0: not proved on onnxruntime fp32")


def test_a_folder_without_a_bundle_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BundleRefused) as caught:
        prove.main([tmp_path], settings, as_json=True)
    assert caught.value.code == "bundle_not_found"
