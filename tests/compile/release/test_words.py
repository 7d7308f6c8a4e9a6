"""All that a person answers for is said, and nothing of it can write to the terminal by itself."""

from __future__ import annotations

import pytest
from securesystemslib.signer import SSlibKey

from appliance.release.record import Range, Recalled
from compile.release import roles
from compile.release.words import release_words, words
from rigs.releasing import Simulated


@pytest.fixture
def repo() -> Simulated:
    made = Simulated.begun()
    made.ship()
    return made


def said(repo: Simulated, role: str) -> list[str]:
    return words(repo.here, repo.drafts[role])


def test_every_digest_of_a_release_is_said(repo: Simulated) -> None:
    release = repo.add(repo.release(version="0.3.0"))
    text = "\n".join(said(repo, "stable"))
    for blob in (release.appliance.wheel, release.devices[0].lock, release.sbom, release.vex):
        assert blob.digest in text
    assert "release stable/2.json" in text
    assert "stable/1.json" not in text, "that was signed before"


def test_who_has_signed_and_how_many_are_missing_is_said(repo: Simulated) -> None:
    repo.add(repo.release(version="0.3.0"))
    assert said(repo, "stable")[-1] == "signed by nobody yet; 2 more needed"
    repo.sign("stable", "hans")
    last = said(repo, "stable")[-1]
    assert last.startswith("signed by hans (")
    assert last.endswith("; 1 more needed")


def test_who_comes_and_who_goes_is_said_at_the_role(repo: Simulated) -> None:
    repo.rotate("stable", ("gina",), ("lena",))
    lines = said(repo, "targets")
    at = next(n for n, line in enumerate(lines) if line.startswith("stable: 2 of "))
    assert "lena" in lines[at]
    assert "gina" not in lines[at]
    assert lines[at + 1].startswith("  comes: lena (")
    assert "; goes: gina (" in lines[at + 1]
    assert sum("comes:" in line for line in lines) == 1


def test_a_role_that_is_only_valid_for_longer_says_so(repo: Simulated) -> None:
    repo.rotate("canary")
    assert "nothing changes: it is only valid for longer" in said(repo, "canary")
    repo.rotate("targets")
    assert "nothing changes: it is only valid for longer" in said(repo, "targets")


def test_only_what_is_recalled_anew_is_said(repo: Simulated) -> None:
    def entry(version: str, digest: str) -> Recalled:
        return Recalled(
            what="bundle", name="lung-nodule", version=version, digest=digest * 64,
            reason="it is wrong", at=repo.now,
        )  # fmt: skip

    repo.recall(entry("1.0.0", "a"))
    repo.sign("targets")
    repo.publish()
    repo.recall(entry("1.1.0", "b"))
    recalled = [line for line in said(repo, "targets") if line.startswith("RECALLS")]
    assert recalled == [f"RECALLS bundle lung-nodule 1.1.0 {'b' * 64}"]


def test_nothing_that_is_signed_can_write_to_the_terminal_by_itself(repo: Simulated) -> None:
    release = repo.release(version="0.3.0").model_copy(
        update={"notes": "fine\x1b[2J\rsigned\n", "made": repo.now}
    )
    assert all(line.isprintable() for line in release_words(release))
    gina = repo.people["gina"].public_key
    evil = SSlibKey(gina.keyid, gina.keytype, gina.scheme, gina.keyval, {roles.NAME: "\x1b[2J"})
    assert roles.called(evil) == f"? ({gina.keyid[:8]})"
    assert Range(at_least="3.10").words() == "from 3.10"
