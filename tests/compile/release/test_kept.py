"""A channel of forty releases offers a few of them, and forgets none of their names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import pytest

from appliance.errors import ReleaseRefused
from appliance.release.record import DeviceKind, Recall, Recalled, Release, write
from appliance.update.trust import MOST_RELEASES
from compile.release import drafts
from compile.release import recall as recalls
from compile.release.folder import Folder
from compile.release.kept import KEEP, MOST, kept
from compile.release.words import words
from rigs.releasing import Box, Simulated


@pytest.fixture(scope="module")
def pattern() -> Release:
    return Simulated.begun().release()


@pytest.fixture
def repo() -> Simulated:
    """Of which the first release has left the channel."""
    made = Simulated.begun()
    for number in range(KEEP + 1):
        made.ship(version=f"1.0.{number}")
    return made


def numbered(pattern: Release, number: int, **said: object) -> Release:
    wheel = pattern.appliance.wheel.model_copy(update={"digest": f"{number:064x}"})
    own = pattern.appliance.model_copy(update={"version": f"1.0.{number}", "wheel": wheel})
    return pattern.model_copy(update={"number": number, "appliance": own, **said})


def recall_of(repo_release: Release) -> Recall:
    own = repo_release.appliance
    entry = Recalled(
        what="appliance", name="scanside", version=own.version, digest=own.wheel.digest,
        reason="why", at=repo_release.made,
    )  # fmt: skip
    return Recall(number=1, made=repo_release.made, entries=(entry,))


def paths(*numbers: int) -> set[str]:
    return {f"stable/{one}.json" for one in numbers}


def test_the_newest_stay(pattern: Release) -> None:
    all_of_them = [numbered(pattern, one) for one in range(1, 41)]
    assert kept(all_of_them, None) == paths(*range(41 - KEEP, 41))


def test_the_newest_security_release_stays_behind_any_number_of_others(pattern: Release) -> None:
    kinds = {3: "security", 7: "security"}
    made = [numbered(pattern, one, kind=kinds.get(one, "feature")) for one in range(1, 41)]
    assert kept(made, None) == paths(7, *range(41 - KEEP, 41))
    assert kept(made, recall_of(made[6])) == paths(3, *range(41 - KEEP, 41))


def test_where_all_of_the_newest_were_recalled_the_one_before_stays(pattern: Release) -> None:
    made = [numbered(pattern, one) for one in range(1, 11)]
    entries = [one for bad in made[-KEEP:] for one in recall_of(bad).entries]
    recall = Recall(number=1, made=pattern.made, entries=tuple(entries))
    assert kept(made, recall) == paths(*range(10 - KEEP, 11))


def test_a_box_looks_at_as_many_as_ever_stay(pattern: Release) -> None:
    devices = [
        pattern.devices[0].model_copy(update={"kind": kind}) for kind in get_args(DeviceKind)
    ]
    cases = [(kind, one) for kind in ("security", "model", "feature") for one in devices]
    made = [
        numbered(pattern, number, kind=kind, devices=(device,))
        for number, (kind, device) in enumerate(cases, start=1)
    ]
    made += [numbered(pattern, one, devices=(devices[0],)) for one in range(10, 10 + KEEP)]
    assert len(kept(made, None)) == MOST - 1  # the newest feature of one device is a newest, too
    assert MOST <= MOST_RELEASES


def test_a_box_goes_on_from_release_to_release_while_old_ones_leave(
    repo: Simulated, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box", repo.files["metadata/1.root.json"])
    assert set(repo.published.roles["stable"].signed.targets) == paths(*range(2, KEEP + 2))
    for number in range(KEEP + 2, KEEP + 5):
        made = repo.ship(version=f"1.0.{number}")
        assert made.number == number
        assert box.newest(repo.files) == write(made)
    assert repo.faults() == []


def test_a_name_that_left_never_returns_with_other_bytes(repo: Simulated) -> None:
    assert "stable/1.json" not in repo.published.releases
    again = repo.release(channel="canary", version="1.0.0", text="other bytes")
    with pytest.raises(ReleaseRefused) as refused:
        repo.add(again)
    assert refused.value.code == "release_relabelled"
    assert "stable/1.json" in refused.value.text
    repo.add(repo.release(channel="canary", version="1.0.0"))  # the same bytes may


def test_a_repository_without_its_memory_drafts_nothing(repo: Simulated) -> None:
    made = repo.release(version="2.0.0")
    del repo.files["metadata/3.stable.json"]
    with pytest.raises(ReleaseRefused) as refused:
        repo.add(made)
    assert refused.value.code == "release_missing"
    assert "metadata/3.stable.json" in refused.value.text


def test_a_draft_that_drops_what_has_to_stay_is_refused(repo: Simulated) -> None:
    repo.add(repo.release(version="2.0.0"))
    draft = repo.drafts["stable"].metadata()
    del draft.signed.targets["stable/5.json"]
    repo.drafts["stable"] = drafts.Draft("stable", draft.to_bytes())
    repo.sign("stable")
    assert repo.publish().refused == {"stable": "stable/5.json would be gone"}


def test_who_signs_is_told_what_is_offered_no_longer(repo: Simulated) -> None:
    repo.add(repo.release(version="2.0.0"))
    said = words(repo.here, repo.drafts["stable"])
    assert "offered no longer, as newer ones are there: stable/2.json" in said


def test_what_left_is_recalled_by_its_name(repo: Simulated, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "repo")
    folder.make()
    for path, data in repo.files.items():
        folder.write(path, data)
    parser = argparse.ArgumentParser()
    recalls.arguments(parser)
    args = parser.parse_args(["--appliance", "1.0.0", "--reason", "why"])
    args.repo = folder.root
    recalls.run(args, repo.now)
    (entry,) = folder.here(repo.now).recall().entries  # type: ignore[union-attr]
    assert entry.version == "1.0.0"
