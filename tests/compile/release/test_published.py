"""Whatever the keyholders themselves sign, reading it ends with a list of what is wrong."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical

from appliance.release.record import Recalled
from compile.release.check import shown
from compile.release.published import read
from rigs.releasing import Simulated

STRANGE = (None, -1, "", [], {}, "../x\x1b", 10**12)
Path_ = tuple[Any, ...]


@pytest.fixture(scope="module")
def repo() -> Simulated:
    """With a release and a recall."""
    made = Simulated.begun()
    made.ship()
    made.recall(
        Recalled(
            what="bundle", name="lung-nodule", version="1.0.0", digest="a" * 64, reason="why",
            at=made.now,
        )
    )  # fmt: skip
    made.sign("targets")
    made.publish()
    return made


def places(said: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Every value of a JSON text, by its way."""
    if isinstance(said, dict | list):
        for key in said if isinstance(said, dict) else range(len(said)):
            yield from places(said[key], (*at, key))
    if at:
        yield at


def changed(said: Any, at: Path_, value: Any) -> Any:
    made = copy.deepcopy(said)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return made


def signed(repo: Simulated, said: Any) -> bytes:
    """By everybody."""
    data = encode_canonical(said).encode()
    by = [
        {"keyid": one.public_key.keyid, "sig": one.sign(data).signature}
        for one in repo.people.values()
    ]
    return json.dumps({"signatures": by, "signed": said}).encode()


def named(line: dict[str, Any], data: bytes) -> None:
    line |= {"length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}


def published(repo: Simulated, role: str, said: Any) -> dict[str, bytes]:
    """The repository with this instead of what a role says, named and signed as it should be."""
    timestamp = json.loads(repo.files["metadata/timestamp.json"])["signed"]
    snapshot_path = f"metadata/{repo.published.snapshot.signed.version}.snapshot.json"
    snapshot = json.loads(repo.files[snapshot_path])["signed"]
    if role in ("root", "timestamp"):
        path = "metadata/1.root.json" if role == "root" else "metadata/timestamp.json"
        return {**repo.files, path: signed(repo, said)}
    files = dict(repo.files)
    if role == "snapshot":
        files[snapshot_path] = signed(repo, said)
    else:
        path = f"metadata/{snapshot['meta'][f'{role}.json']['version']}.{role}.json"
        files[path] = signed(repo, said)
        named(snapshot["meta"][f"{role}.json"], files[path])
        files[snapshot_path] = signed(repo, snapshot)
    named(timestamp["meta"]["snapshot.json"], files[snapshot_path])
    files["metadata/timestamp.json"] = signed(repo, timestamp)
    return files


def said_by(repo: Simulated, role: str) -> Any:
    of = {"timestamp": repo.published.timestamp, "snapshot": repo.published.snapshot}.get(role)
    found = repo.here.of(role) if of is None else of
    assert found is not None
    return found.signed.to_dict()


@pytest.mark.parametrize(
    "role",
    [
        "timestamp",
        *(
            pytest.param(one, marks=pytest.mark.long)
            for one in ("root", "targets", "stable", "snapshot")
        ),
    ],
)
def test_nothing_that_a_role_says_breaks_who_reads_it(repo: Simulated, role: str) -> None:
    said = said_by(repo, role)
    assert read(published(repo, role, said).get, repo.now)[1] == ()
    refused = 0
    for at in places(said):
        for value in STRANGE:
            try:
                files = published(repo, role, changed(said, at, value))
            except (TypeError, KeyError):
                continue  # nobody can sign or name that
            found, faults = read(files.get, repo.now)
            lines = [fault.one_line() for fault in faults] + (list(shown(found)) if found else [])
            assert all(line.isprintable() for line in lines), (at, value)
            refused += bool(faults)
    assert refused > 20
