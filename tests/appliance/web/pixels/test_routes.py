"""The addresses of images: what they say, what they refuse, and what becomes of deleted ones."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import httpx
import numpy as np
import pytest

from appliance.phantom import instances
from appliance.records import HeatMap
from appliance.report import Finding, SeriesKey
from appliance.web.pixels import routes
from rigs import composing, oblique
from rigs.looked_at import LookedAt, served
from rigs.xray import Xray


@pytest.fixture
def state(tmp_path: Path) -> Iterator[LookedAt]:
    made = LookedAt(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def client(state: LookedAt) -> Iterator[httpx.Client]:
    with served(state.application()) as base, httpx.Client(base_url=base, timeout=60) as made:
        yield made


def ct(state: LookedAt, pose: str = "axial") -> str:
    images = oblique.series(oblique.POSES[pose])
    return state.series(images, [composing.FOUND], [composing.body()])


def key_of(pose: str = "axial") -> SeriesKey:
    first = oblique.series(oblique.POSES[pose])[0]
    return SeriesKey(str(first.StudyInstanceUID), str(first.SeriesInstanceUID))


def test_the_images_of_a_series_are_listed_and_fetched_in_the_order_of_the_report(
    state: LookedAt, client: httpx.Client
) -> None:
    address, images = ct(state), oblique.series(oblique.POSES["axial"])
    said = client.get(f"{address}/images").json()
    assert [one["place"]["position"][2] for one in said["images"]] == [
        float(one.ImagePositionPatient[2]) for one in images
    ]
    assert said["no_planes"] is None
    assert [one["name"] for one in said["windows"]] == ["lung", "soft", "bone", "whole"]
    for number in (0, 9, 23):
        found = client.get(f"{address}/image/{number}?of={said['name']}")
        assert found.headers["cache-control"] == "no-store"
        assert found.headers["x-bits"] == "16"
        expected = images[number].pixel_array.astype(np.int16) - 1024
        np.testing.assert_array_equal(np.frombuffer(found.content, "<i2"), expected.ravel())


def test_neighbours_come_in_one_answer_up_to_the_end_of_the_series(
    state: LookedAt, client: httpx.Client
) -> None:
    address, images = ct(state), oblique.series(oblique.POSES["axial"])
    expected = [one.pixel_array.astype(np.int16).ravel() - 1024 for one in images]
    for number, count in ((2, 5), (len(images) - 2, 2), (0, 1)):
        found = client.get(f"{address}/image/{number}?count={count + 3 * (number > 2)}")
        assert found.headers["x-count"] == str(count)
        values = np.frombuffer(found.content, "<i2")
        np.testing.assert_array_equal(values, np.concatenate(expected[number : number + count]))
    assert client.get(f"{address}/image/0?count=-1").status_code == 404


def test_an_answer_ends_before_an_image_that_cannot_be_shown_and_asked_for_alone_it_says_why(
    state: LookedAt, client: httpx.Client
) -> None:
    address, images = ct(state), oblique.series(oblique.POSES["axial"])
    client.get(f"{address}/images")
    state.file(key_of(), str(images[6].SOPInstanceUID)).write_bytes(b"DICM" * 400)
    found = client.get(f"{address}/image/4?count=4")
    assert (found.status_code, found.headers["x-count"]) == (200, "2")
    alone = client.get(f"{address}/image/6?count=4")
    assert alone.status_code == 422
    assert alone.json()["text"]


def test_no_answer_holds_more_than_it_may_however_many_are_asked_for(
    state: LookedAt, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, images = ct(state), oblique.series(oblique.POSES["axial"])
    monkeypatch.setattr(routes, "RUN_BYTES", 3 * images[0].Rows * images[0].Columns * 2)
    found = client.get(f"{address}/image/0?count=9999")
    assert found.headers["x-count"] == "3"


def test_no_uid_and_no_path_is_in_what_is_said(state: LookedAt, client: httpx.Client) -> None:
    address, key = ct(state), key_of()
    for what in ("images", "masks", "image/99", "map/x", "image/0?of=0123456789abcdef"):
        said = client.get(f"{address}/{what}").text
        assert key.study not in said
        assert key.series not in said
        assert "2.25." not in said
        assert str(state.state) not in said


def test_the_findings_come_with_their_outlines(state: LookedAt, client: httpx.Client) -> None:
    address = ct(state)
    listed, said = (client.get(f"{address}/{what}").json() for what in ("images", "masks"))
    assert said["name"] == listed["name"]
    assert not said["damaged"]
    (finding,) = said["findings"]
    assert finding["center"] == list(composing.FOUND.center_lps_mm or ())
    images = oblique.series(oblique.POSES["axial"])
    outline = next(one for one in finding["outlines"] if one["image"] == finding["image"])
    at = np.concatenate([np.asarray(one) for one in outline["polygons"]])
    truth = oblique.centre(images[finding["image"]]) - 0.5
    np.testing.assert_allclose((at.min(axis=0) + at.max(axis=0)) / 2, truth, atol=1)


def test_a_damaged_mask_leaves_the_findings(state: LookedAt, client: httpx.Client) -> None:
    address = ct(state)
    (kept,) = state.state.glob("reports/*/finding-1.npz")
    kept.write_bytes(b"no zip file")
    said = client.get(f"{address}/masks").json()
    assert said["damaged"]
    assert [(one["id"], one["outlines"]) for one in said["findings"]] == [(1, [])]


BAD = (
    "{0}/image/24", "{0}/image/-1", "{0}/image/1e1", "{0}/image/00", "{0}/image/٣",
    "{0}/image/1%00", "{0}/image/..%2f..%2fetc", "{0}/image/999999999999", "{0}/map/finding-1",
    "{0}/map/..%2f1", "{0}/map/%2e%2e", "{0}/map/lungs", "/study/%2e%2e/series/%2e%2e/images",
    "/study/{1}/series/{2}/images", "/study/1.2.3/series/1.2.3.4/images",
    "/study/{1}/series/%00/images", "/study/{1}/series/{3}/images", "/study/{3}/series/{2}/images",
)  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_an_address_of_nothing_is_unknown(state: LookedAt, client: httpx.Client, bad: str) -> None:
    good = ct(state)
    other = state.series([Xray().image()])
    study, key = good.split("/")[2], key_of()
    said = client.get(bad.format(good, study, key.series, other.split("/")[4]))
    assert said.status_code == 404
    assert key.study not in said.text


def test_a_series_of_another_study_is_unknown(state: LookedAt, client: httpx.Client) -> None:
    one, other = ct(state), state.series([Xray().image()])
    mixed = f"{'/'.join(one.split('/')[:4])}/{other.split('/')[4]}"
    assert client.get(f"{other}/images").status_code == 200
    assert client.get(f"{mixed}/images").status_code == 404


def test_images_that_were_deleted_with_the_page_open_are_gone(
    state: LookedAt, client: httpx.Client
) -> None:
    address = ct(state)
    name = client.get(f"{address}/images").json()["name"]
    assert client.get(f"{address}/image/0?of={name}").status_code == 200
    assert state.spool.delete(key_of())
    for what in (f"image/1?of={name}", "images", "masks"):
        said = client.get(f"{address}/{what}")
        assert said.status_code == 410
        assert said.json()["code"] == "images_gone"


def test_one_image_that_is_missing_leaves_the_others(state: LookedAt, client: httpx.Client) -> None:
    address, images = ct(state), oblique.series(oblique.POSES["axial"])
    name = client.get(f"{address}/images").json()["name"]
    state.file(key_of(), str(images[3].SOPInstanceUID)).unlink()
    assert client.get(f"{address}/image/3?of={name}").status_code == 410
    after = client.get(f"{address}/images").json()
    assert len(after["images"]) == 23
    assert after["name"] != name
    assert client.get(f"{address}/image/3?of={after['name']}").status_code == 200


def test_an_image_that_came_meanwhile_and_is_not_of_the_report_changes_nothing(
    state: LookedAt, client: httpx.Client
) -> None:
    address, extra = ct(state), oblique.series(oblique.POSES["axial"])[0]
    before = client.get(f"{address}/images").json()["name"]
    extra.SOPInstanceUID = extra.file_meta.MediaStorageSOPInstanceUID = "2.25.999"
    state.files(key_of(), {"2.25.999": instances.packed(extra)})
    assert client.get(f"{address}/images").json()["name"] == before


def test_an_image_that_cannot_be_decoded_says_why(state: LookedAt, client: httpx.Client) -> None:
    images = oblique.series(oblique.POSES["axial"])
    images[5] = deepcopy(images[5])  # they share what they have in common
    images[5].Rows = 65535
    address = state.series(images, [composing.FOUND], [composing.body()])
    said = client.get(f"{address}/image/5")
    assert said.status_code == 422
    assert said.json()["text"].startswith("image 6: 24576 bytes of pixels")
    assert client.get(f"{address}/image/6").status_code == 200


def test_a_file_that_is_no_image_stands_in_the_list_with_its_reason(
    state: LookedAt, client: httpx.Client
) -> None:
    images, key = oblique.series(oblique.POSES["axial"])[:4], key_of()
    state.files(key, {"2.25.1": b"no image at all"})
    state.files(key, {str(one.SOPInstanceUID): instances.packed(one) for one in images})
    address = state.report(key)
    said = client.get(f"{address}/images").json()
    assert said["no_planes"] == "unread"
    assert [one["place"] is None for one in said["images"]] == [False] * 4 + [True]
    assert "not DICOM" in said["images"][4]["error"]
    assert client.get(f"{address}/image/4").status_code == 422


def test_a_radiograph_has_its_heat_map_on_it(state: LookedAt, client: httpx.Client) -> None:
    image = Xray().image(PatientOrientation=["R", "F"])
    values = np.zeros((6, 5), np.float32)
    values[4, 1] = 2
    to_stored = np.array([[16.0, 0, 7.5], [0, 16.0, 7.5], [0, 0, 1]])
    found = {"id": 1, "tracking_uid": "2.25.1", "kind": "pneumonia", "score": 0.9, "threshold": 0.4}
    finding = Finding.model_validate({**found, "key_image": 0, "heat_map": "map-1"})
    address = state.series([image], [finding], maps=[HeatMap("map-1", values, to_stored)])
    listed = client.get(f"{address}/images").json()
    assert listed["no_planes"] == "radiograph"
    place = listed["images"][0]["place"]
    assert (place["rows"], place["columns"]) == (96, 80)
    (mark,) = client.get(f"{address}/masks").json()["findings"]
    assert mark["map"] == "map-1"
    said = client.get(f"{address}/map/map-1").json()
    assert said["values"].index(1.0) == 4 * 5 + 1
    row, column, _ = np.asarray(said["to_image"]) @ (4, 1, 1)
    assert (row, column) == (71.5, 79 - 23.5)  # it was mirrored: rows ran to the right
    assert client.get(f"{address}/map/map-2").status_code == 404


def test_a_map_that_was_not_kept_is_gone(state: LookedAt, client: httpx.Client) -> None:
    found = {"id": 1, "tracking_uid": "2.25.1", "kind": "pneumonia", "score": 0.9, "threshold": 0.4}
    finding = Finding.model_validate({**found, "key_image": 0, "heat_map": "map-1"})
    address = state.series([Xray().image()], [finding])
    assert client.get(f"{address}/map/map-1").status_code == 410
