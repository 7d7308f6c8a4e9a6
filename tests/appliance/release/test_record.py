"""What a release and a recall may say, and what is refused of them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from appliance.errors import ReleaseRefused
from appliance.release.record import (
    MAX_BYTES,
    Blob,
    Contents,
    Lock,
    Range,
    Recall,
    Recalled,
    Release,
    numbers,
    place,
    read,
    read_release,
    told_twice,
    write,
)

NOW = datetime(2026, 11, 29, tzinfo=timezone.utc)
BLOB = {"digest": "a" * 64, "length": 10, "packed": 12}
WHEEL = {**BLOB, "name": "scanside-0.2.0-py3-none-any.whl"}
BUNDLE = {"name": "lung-nodule", "version": "1.2.0", "digest": "b" * 64, "contents": BLOB}


def said(**changes: Any) -> dict[str, Any]:
    """stable/7.json."""
    return {
        "schema": "scanside.release/1",
        "channel": "stable",
        "number": 7,
        "made": "2026-11-29T00:00:00Z",
        "kind": "feature",
        "intended_use_changes": False,
        "notes": "smaller networks",
        "appliance": {"version": "0.2.0", "wheel": WHEEL},
        "devices": [{"kind": "x86-64", "python": {"at_least": "3.10"}, "lock": BLOB}],
        "bundles": [BUNDLE],
        "sbom": BLOB,
        "vex": BLOB,
        **changes,
    }


def released(**changes: Any) -> Release:
    return Release.model_validate(said(**changes))


def test_what_is_written_reads_back_and_is_short() -> None:
    kinds = ("x86-64", "orin", "thor")
    ranges = {"python": {"at_least": "3.10", "below": "3.14"}, "jetpack": {"at_least": "6.0"}}
    devices = [{"kind": k, "tensorrt": {"at_least": "10.3"}, "lock": BLOB, **ranges} for k in kinds]
    bundles = [{**BUNDLE, "name": f"bundle-{n}"} for n in range(4)]
    release = released(devices=devices, bundles=bundles, notes="n" * 500)
    data = write(release)
    assert read_release(data, "stable/7.json") == release
    assert write(read_release(data, "stable/7.json")) == data
    assert len(data) < MAX_BYTES


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"channel": "rollout"}, "channel"),
        ({"channel": "site-"}, "channel"),
        ({"channel": "site-../etc"}, "channel"),
        ({"number": 0}, "number"),
        ({"number": 10**9}, "number"),
        ({"made": "2026-11-29T00:00:00"}, "made"),
        ({"kind": "surprise"}, "kind"),
        ({"notes": ""}, "notes"),
        ({"devices": []}, "devices"),
        ({"devices": said()["devices"] * 2}, "twice"),
        ({"bundles": [BUNDLE, BUNDLE]}, "twice"),
        ({"deadline": "2027-01-01T00:00:00Z"}, "only a security release"),
        ({"unknown": 1}, "unknown"),
        ({"appliance": {"version": "0.2.0", "wheel": {**WHEEL, "name": "../x.whl"}}}, "name"),
        ({"appliance": {"version": "0.2.0", "wheel": {**WHEEL, "name": "x.tar.gz"}}}, "name"),
        ({"sbom": {**BLOB, "digest": "../../etc/passwd"}}, "digest"),
        ({"sbom": {**BLOB, "length": -1}}, "length"),
        ({"sbom": {**BLOB, "packed": 0}}, "packed"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_release_that_says_something_else_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ReleaseRefused, match=why) as refused:
        read_release(json.dumps(said(**changes)).encode(), "stable/7.json")
    assert refused.value.code == "release_record"


def test_a_release_is_for_the_channel_and_number_of_its_path() -> None:
    data = json.dumps(said()).encode()
    for path in ("canary/7.json", "stable/8.json", "site-north/7.json"):
        with pytest.raises(ReleaseRefused) as refused:
            read_release(data, path)
        assert refused.value.code == "release_elsewhere"


def test_a_release_that_is_too_long_is_not_even_read() -> None:
    data = json.dumps(said()).encode()
    with pytest.raises(ReleaseRefused, match="at most"):
        read_release(data + b" " * MAX_BYTES, "stable/7.json")


@pytest.mark.parametrize(
    "path",
    [
        "stable/0.json", "stable/01.json", "stable/7.json/", "/stable/7.json", "rollout/1.json",
        "stable/../canary/1.json", "stable/7", "site-/1.json", "site-A/1.json", "stable/7.json\n",
        "",
    ],
)  # fmt: skip
def test_a_path_that_is_no_release_is_refused(path: str) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        place(path)
    assert refused.value.code == "release_path"


def test_the_numbers_of_a_channel_are_read_from_its_targets() -> None:
    paths = ["stable/10.json", "stable/9.json", "canary/11.json", "stable/x.json", "stable/2.json"]
    assert numbers(paths, "stable") == [2, 9, 10]
    assert numbers(paths, "site-north") == []


def test_a_name_and_version_with_other_bytes_is_told() -> None:
    other = {**BUNDLE, "digest": "c" * 64}
    again = released(channel="canary", number=3)
    assert told_twice([released(), again]) == []
    (line,) = told_twice([released(), released(number=8, bundles=[other])])
    assert line.startswith("bundle lung-nodule 1.2.0 is cccc")
    wheel = {"version": "0.2.0", "wheel": {**WHEEL, "digest": "d" * 64}}
    (line,) = told_twice([released(), released(number=8, appliance=wheel)])
    assert line.startswith("appliance 0.2.0 is dddd")


@pytest.mark.parametrize(
    "names",
    [
        ["manifest.json", "manifest.json"],
        ["net.onnx", "manifest.json"],
        ["net.onnx"],
        ["../manifest.json", "manifest.json"],
        ["/etc/passwd", "manifest.json"],
        ["a/b/c", "manifest.json"],
        ["golden\\x", "manifest.json"],
    ],
)
def test_files_of_a_bundle_with_other_names_are_refused(names: list[str]) -> None:
    files = [{**BLOB, "name": name} for name in names]
    data = json.dumps({"digest": "a" * 64, "length": 10, "files": files}).encode()
    with pytest.raises(ReleaseRefused):
        read(Contents, data, "contents")


@pytest.mark.parametrize(
    "names", [["b.whl", "a.whl"], ["a.whl", "a.whl"], ["../a.whl"], ["a.tar.gz"], ["a/b.whl"]]
)
def test_wheels_with_other_names_are_refused(names: list[str]) -> None:
    wheels = [{**BLOB, "name": name} for name in names]
    with pytest.raises(ReleaseRefused):
        read(Lock, json.dumps({"requirements": BLOB, "wheels": wheels}).encode(), "lock")


def test_a_range_holds_by_numbers_not_by_letters() -> None:
    some = Range(at_least="3.10", below="3.14")
    assert [one for one in ("3.9", "3.10", "3.13.7", "3.14", "3.14.0") if some.holds(one)] == [
        "3.10",
        "3.13.7",
    ]
    assert Range(at_least="6").holds("6.0")
    assert Range(at_least="6.0").holds("36.4")


def test_a_blob_lies_under_its_digest() -> None:
    assert Blob.model_validate(BLOB).path == f"blobs/aa/{'a' * 64}.zst"


def test_a_recall_names_what_of_a_release_must_not_run() -> None:
    entry = Recalled(
        what="bundle", name="lung-nodule", version="1.2.0", digest="b" * 64, reason="why", at=NOW
    )
    recall = Recall(number=1, made=NOW, entries=(entry,))
    assert read(Recall, write(recall), "recall") == recall
    assert recall.recalled_of(released()) == [entry]
    assert recall.recalled_of(released(bundles=[])) == []
