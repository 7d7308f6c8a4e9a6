"""A new repository, and keys that cannot begin one."""

from __future__ import annotations

from pathlib import Path

import pytest

from compile.release import roles
from compile.release.command import main
from compile.release.folder import Folder
from compile.sign import keygen
from rigs.releasing import NOW, PLACES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a key for each place."""
    monkeypatch.chdir(tmp_path)
    for names in PLACES.values():
        for name in names:
            keygen(Path(f"{name}.key"), "repository", b"four words nobody guesses")
    return tmp_path


def init(**changed: tuple[str, ...]) -> int:
    """With these people in the places that are named, and with a site."""
    words = ["init", "repo"]
    for role in [*roles.TOP, *roles.DELEGATED]:
        names = changed.get(role, PLACES[role])
        words += [f"--{role}", *(f"{name}.repository.pub" for name in names)]
    site = changed.get("site", ("north=kim.repository.pub",))
    return main([*words, "--site", *site], NOW)


def test_everything_waits_for_its_first_signature(folder: Path) -> None:
    assert init() == 0
    here = Folder(folder / "repo").here(NOW)
    assert here.published is None
    assert set(here.drafts) == {"root", "targets", "stable", "canary", "site-north"}
    assert len(here.keys("stable")) == 3
    assert [roles.called(key).split()[0] for key in here.keys("site-north")] == ["kim"]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"root": ("anna", "bert", "anna")}, "root needs 3 different keys, 2 are given"),
        ({"canary": ("when",)}, "one key serves in canary and, online, in timestamp"),
        ({"root": ("anna", "bert", "which")}, "one key serves in root and, online, in snapshot"),
        ({"canary": ("nobody",)}, "nobody.repository.pub: No such file"),
        ({"site": ("North=kim.repository.pub",)}, "'site-North' is no role"),
        ({"site": ("north",)}, "[release_key]"),
    ],
)
def test_keys_that_cannot_begin_a_repository_begin_none(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, tuple[str, ...]],
    why: str,
) -> None:
    assert init(**changed) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert not list((folder / "repo").rglob("metadata.json"))


def test_a_repository_is_begun_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init() == 0
    before = {path: path.read_bytes() for path in (folder / "repo").rglob("*.json")}
    assert init() == 1
    assert "is a repository already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (folder / "repo").rglob("*.json")} == before


@pytest.mark.parametrize("kind", ["root", "targets", "stable"])
def test_too_few_keys_are_wrong_usage(folder: Path, kind: str) -> None:
    with pytest.raises(SystemExit) as ended:
        init(**{kind: ("anna", "bert")})
    assert ended.value.code == 2
