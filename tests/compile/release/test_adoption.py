"""What publishing and a stick write: whole before and after, never in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import BadVersionNumberError, RepositoryError
from tuf.api.metadata import Metadata

from appliance.errors import ReleaseRefused
from appliance.release.record import Recalled
from compile.release import drafts, roles
from compile.release.adoption import Adoption
from compile.release.published import read
from rigs.releasing import PLACES, Box, Simulated, key


@pytest.fixture
def repo() -> Simulated:
    made = Simulated.begun()
    made.ship()
    return made


def seen(repo: Simulated, files: dict[str, bytes], folder: Path) -> int | None:
    """The release that a box takes which knew the repository before; None where it refuses."""
    box = Box(folder, repo.files["metadata/1.root.json"])
    box.newest(repo.files)
    try:
        release = box.newest(files)
    except RepositoryError:
        return None
    assert release is not None
    return int(json.loads(release)["number"])


def moments(repo: Simulated, found: Adoption) -> list[dict[str, bytes]]:
    """What is served after each of its files."""
    return [repo.files | dict(found.files[:count]) for count in range(len(found.files) + 1)]


def test_whoever_asks_while_it_is_published_sees_the_old_or_the_new(
    repo: Simulated, tmp_path: Path
) -> None:
    repo.add(repo.release(version="0.3.0"))
    repo.sign("stable")
    found = repo.adoption()
    assert found.files[-1][0] == "metadata/timestamp.json"
    views = [seen(repo, f, tmp_path / str(n)) for n, f in enumerate(moments(repo, found))]
    assert views == [1] * (len(views) - 1) + [2]


@pytest.mark.parametrize(
    ("role", "gone", "come"),
    [
        ("root", "anna", "anna2"),
        ("targets", "dora", "dora2"),
        ("stable", "gina", "gina2"),
        ("canary", "jan", "jan2"),
        ("site-north", "kim", "kim2"),
        ("snapshot", "which", "which2"),
        ("timestamp", "when", "when2"),
        ("rollout", "first", "first2"),
    ],
)
def test_a_key_is_exchanged_while_boxes_ask(
    repo: Simulated, tmp_path: Path, role: str, gone: str, come: str
) -> None:
    """The old key is at hand, as when its owner leaves: nobody ever sees less than a whole one."""
    repo.rotate(role, (gone,), (come,))
    staying = {r: [n for n in names if n != gone] for r, names in PLACES.items()}
    for drafted in list(repo.drafts):
        # those who stay sign, so that boxes that know the old root take it too
        names = staying[drafted] if len(staying[drafted]) > 1 else ()
        repo.sign(drafted, *names[:2])
    repo.add(repo.release(version="0.3.0"))
    if role == "stable":
        assert not repo.drafts["stable"].signatures, "the draft has changed"
    repo.sign("stable", "hans", "ines")
    found = repo.adoption()
    views = [seen(repo, f, tmp_path / str(n)) for n, f in enumerate(moments(repo, found))]
    assert set(views) == {1, 2}
    assert views == sorted(views, key=int)
    repo.publish()
    assert repo.faults() == []
    if roles.kind(role).online:
        with pytest.raises(ReleaseRefused, match="is not given"):
            repo.adoption(*[name for name in repo.people if name != come])
    else:
        repo.rotate(role)
        with pytest.raises(ReleaseRefused, match="may not sign"):
            repo.sign(role, gone)


@pytest.mark.parametrize(("role", "lost"), [("timestamp", "when"), ("snapshot", "which")])
def test_a_lost_online_key_costs_a_moment_and_no_box(
    repo: Simulated, tmp_path: Path, role: str, lost: str
) -> None:
    """Without the old key the root comes first: in between a box refuses and keeps what it has."""
    repo.rotate(role, (lost,), (f"{lost}2",))
    repo.sign("root")
    names = [name for name in repo.people if name != lost]
    found = repo.adoption(*names)
    views = [seen(repo, f, tmp_path / str(n)) for n, f in enumerate(moments(repo, found))]
    assert views == [1] * (len(views) - 2) + [None, 1]
    repo.publish(*names)
    assert repo.faults() == []
    repo.add(repo.release(version="0.3.0"))
    repo.sign("stable")
    repo.publish(*names)
    assert seen(repo, repo.files, tmp_path / "after") == 2


def test_two_lost_keys_of_targets_cost_a_moment_too(repo: Simulated, tmp_path: Path) -> None:
    repo.rotate("targets", ("dora", "emil"), ("dora2", "emil2"))
    repo.sign("root")
    repo.sign("targets", "dora2", "emil2")
    found = repo.adoption()
    views = [seen(repo, f, tmp_path / str(n)) for n, f in enumerate(moments(repo, found))]
    assert views[0] == views[-1] == 1
    assert None in views


def test_what_waits_for_a_signature_holds_up_nothing_else(repo: Simulated) -> None:
    repo.rotate("stable", ("gina",), ("gina2",))
    repo.sign("targets")
    repo.add(repo.release("canary", "0.3.0"))
    repo.sign("canary")
    found = repo.publish()
    assert found.adopted == ("canary",)
    assert set(found.waits) == {"targets", "stable"}
    repo.sign("stable", "hans", "ines")
    assert repo.publish().adopted == ("stable", "targets")


def test_a_new_root_waits_for_the_targets_that_it_needs(repo: Simulated) -> None:
    repo.rotate("targets", ("dora", "emil"), ("dora2", "emil2"))
    repo.sign("root")
    found = repo.publish()
    assert found.adopted == ()
    assert set(found.waits) == {"root", "targets"}
    repo.sign("targets", "dora2", "fritz")
    assert repo.publish().adopted == ("root", "targets")


def test_a_new_channel_comes_with_its_first_signature(repo: Simulated, tmp_path: Path) -> None:
    repo.rotate("site-south", (), ("lars",))
    repo.sign("targets")
    assert repo.publish().adopted == ()
    repo.sign("site-south")
    repo.publish()
    repo.add(repo.release("site-south", "0.3.0"))
    repo.sign("site-south")
    repo.publish()
    box = Box(tmp_path, repo.files["metadata/1.root.json"])
    assert box.newest(repo.files, "site-south") is not None


def test_nothing_is_published_before_every_role_has_signed_once() -> None:
    repo = Simulated(people={n: key(n) for names in PLACES.values() for n in names})
    held = {role: [repo.people[n].public_key for n in names] for role, names in PLACES.items()}
    repo.drafts = drafts.first(held, repo.now)
    for role in [one for one in repo.drafts if one != "canary"]:
        repo.sign(role)
    with pytest.raises(ReleaseRefused, match="canary") as refused:
        repo.publish()
    assert refused.value.code == "publish_waits"
    repo.sign("canary")
    assert len(repo.publish().adopted) == 5
    assert repo.faults() == []


def test_without_an_online_key_nothing_is_published(repo: Simulated) -> None:
    for missing, role in (("which", "snapshot"), ("when", "timestamp"), ("first", "rollout")):
        with pytest.raises(ReleaseRefused, match=f"key of {role} is not given"):
            repo.adoption(*[name for name in repo.people if name != missing])


def test_a_box_goes_from_the_network_to_a_stick_and_back(repo: Simulated, tmp_path: Path) -> None:
    box = Box(tmp_path / "box", repo.files["metadata/1.root.json"])
    other = Box(tmp_path / "other", repo.files["metadata/1.root.json"])
    box.newest(repo.files)
    stick = repo.stick(days=90)
    said: Metadata[Any] = Metadata.from_bytes(stick["metadata/timestamp.json"])
    assert said.signed.unrecognized_fields["medium"] == "stick"
    assert (said.signed.expires - repo.now).days == 90
    assert box.newest(stick) is not None
    with pytest.raises(BadVersionNumberError):
        box.newest(repo.files)
    repo.ship(version="0.3.0")
    for one in (box, other):
        release = one.newest(repo.files)
        assert release is not None
        assert json.loads(release)["number"] == 2
    with pytest.raises(BadVersionNumberError):
        box.newest(stick)
    now: Metadata[Any] = Metadata.from_bytes(repo.files["metadata/timestamp.json"])
    assert "medium" not in now.signed.unrecognized_fields
    assert "made" in now.signed.unrecognized_fields


def test_two_sticks_never_have_one_number(repo: Simulated) -> None:
    numbers = []
    for _ in range(3):
        made: Metadata[Any] = Metadata.from_bytes(repo.stick()["metadata/timestamp.json"])
        numbers.append(made.signed.version)
    repo.publish()
    numbers.append(repo.published.timestamp.signed.version)
    assert numbers == sorted(set(numbers))


def test_a_stick_is_read_after_weeks_and_not_after_its_end(repo: Simulated) -> None:
    stick = repo.stick(days=30)
    repo.later(days=29)
    published, faults = read(stick.get, repo.now)
    assert faults == ()
    assert published is not None
    assert published.stick
    repo.later(days=2)
    assert {fault.code for fault in read(stick.get, repo.now)[1]} == {"release_expired"}


def test_a_stick_never_outlasts_a_role_nor_ninety_days(repo: Simulated) -> None:
    for days in (0, 91):
        with pytest.raises(ReleaseRefused, match=f"{days} days"):
            repo.stick(days=days)
    repo.later(days=360)
    repo.clock_is_right = True
    repo.publish()
    with pytest.raises(ReleaseRefused) as refused:
        repo.stick(days=30)
    assert refused.value.code == "stick_outlasts"


def test_a_role_whose_time_is_over_is_said_and_holds_up_nobody(repo: Simulated) -> None:
    repo.later(days=360)
    repo.clock_is_right = True
    for role in ("root", "targets", "stable", "canary"):
        repo.rotate(role)
        repo.sign(role)
    repo.publish()
    repo.later(days=10)
    found = repo.adoption()
    assert len(found.ended) == 1
    assert "site-north" in found.ended[0]


def test_a_recall_is_published_while_a_release_waits(repo: Simulated) -> None:
    digest = repo.published.releases["stable/1.json"].appliance.wheel.digest
    repo.add(repo.release(version="0.3.0"))
    repo.recall(
        Recalled(
            what="appliance", name="scanside", version="0.2.0", digest=digest,
            reason="it loses slices", at=repo.now,
        )
    )  # fmt: skip
    repo.sign("targets")
    assert repo.publish().adopted == ("targets",)
    assert repo.published.recall is not None
    assert repo.published.recall.names(digest) is not None
    assert repo.published.recall.names("0" * 64) is None


def test_a_wrong_clock_signs_no_time_that_boxes_would_remember(repo: Simulated) -> None:
    right = repo.now
    for days in (-1, 31, 365, 26_000):
        repo.now = right
        repo.later(days=days)
        for sign in (repo.adoption, repo.stick):
            with pytest.raises(ReleaseRefused) as refused:
                sign()
            assert refused.value.code == "publish_clock"
    repo.now = right
    repo.later(days=29)
    repo.publish()
    repo.later(days=40)
    repo.clock_is_right = True
    repo.publish()
    assert repo.faults() == []
