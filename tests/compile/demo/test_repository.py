"""The repository of the demo: what it publishes a plain client reads."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.errors import ReleaseRefused
from appliance.update.source import Folder
from appliance.update.trust import Trust
from compile.demo.repository import Repository
from rigs.wheels import requirements, wheel

NOW = datetime.now(timezone.utc)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    made = dict([wheel("liba"), wheel("libb", "2.1")])
    for name, data in made.items():
        (wheels / name).write_bytes(data)
    (tmp_path / "requirements.txt").write_bytes(requirements(made))
    (tmp_path / "sbom.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    one = Repository(tmp_path / "r", tmp_path / "requirements.txt", wheels, python=("3.10", "3.14"))
    one.begin()
    return one


def released(repository: Repository, version: str) -> None:
    name, data = wheel("scanside", version)
    path = repository.folder / name
    path.write_bytes(data)
    repository.release(path, f"version {version}", sbom=repository.folder.parent / "sbom.json")


def read(repository: Repository, folder: Path, served: Path) -> list[str]:
    trust = Trust(folder, repository.first_root.read_bytes(), built=NOW)
    offered = trust.refresh(Folder(served), "stable", NOW)
    recalled = [one.version for one in offered.recall.entries] if offered.recall else []
    return [*(one.appliance.version for one in offered.releases), *(f"-{one}" for one in recalled)]


def test_a_box_reads_releases_and_recalls_from_the_server_and_from_a_stick(
    repository: Repository, tmp_path: Path
) -> None:
    released(repository, "0.2.0")
    released(repository, "0.3.0")
    assert read(repository, tmp_path / "box", repository.served) == ["0.3.0", "0.2.0"]
    repository.recall("0.3.0", "It is bad.")
    assert read(repository, tmp_path / "box", repository.served)[-1] == "-0.3.0"
    released(repository, "0.4.0")
    repository.stick(tmp_path / "stick")
    assert read(repository, tmp_path / "another", tmp_path / "stick") == ["0.4.0", "-0.3.0"]


def test_what_a_verb_refuses_is_an_error_here(repository: Repository) -> None:
    with pytest.raises(ReleaseRefused, match=r"release recall: .*9\.9\.9"):
        repository.recall("9.9.9", "It never was.")
