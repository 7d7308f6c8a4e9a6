"""The made-up radiograph and the picture with a heat map over one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import Dataset

from appliance import line
from appliance.backend.open import open_backend
from appliance.bundle import trust
from appliance.demo import drawn, overlay
from appliance.phantom import radiograph
from appliance.phantom.chest import Phantom, chest
from appliance.preprocess import projection
from appliance.report import Status
from appliance.series import radiograph as read
from appliance.store.kept import keep
from rigs.device import Seal
from rigs.xray import Xray


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """Water, with a rod of bone through the front of its left upper part."""
    hu = np.zeros((40, 30, 50), np.int16)
    hu += np.random.default_rng(0).integers(-20, 20, hu.shape).astype(np.int16)
    hu[30:34, :6, 38:42] = 1200
    return Phantom(hu, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), ())


@pytest.fixture(scope="module")
def pixels() -> Any:
    """The demo's phantom, coarse, from the front."""
    return radiograph.projected(chest(spacing_mm=(4.0, 4.0, 4.0)))


def image_of(ds: Dataset, xray: Xray) -> read.Radiograph:
    return read.read(xray.bytes(ds))


def test_the_projection_shows_the_patients_left_on_the_right_and_the_head_on_top(
    phantom: Phantom, xray: Xray
) -> None:
    pixels = radiograph.projected(phantom)
    assert pixels.dtype == np.uint16
    row, column = np.unravel_index(int(np.argmax(cv2.blur(pixels, (9, 9)))), pixels.shape)
    assert row < pixels.shape[0] / 3
    assert column > pixels.shape[1] * 2 / 3


def test_a_consolidation_fills_air_alone_and_fades_out(phantom: Phantom) -> None:
    hu = np.full((40, 30, 50), -850, np.int16)
    hu[:, :, 25:] = 40  # the left half is solid
    hu[:, 10, :] = -200  # a vessel's edge is no air
    lungs = replace(phantom, hu=hu)
    area = radiograph.Consolidation((98.0, 58.0, 78.0), (60.0, 50.0, 50.0), filled=0.5)
    filled = radiograph.consolidated(lungs, (area,))
    changed = filled.hu != hu
    assert not changed[hu >= radiograph.AIR_BELOW].any()
    assert filled.hu[19, 14, 24] == pytest.approx(-410, abs=2)  # half of the way to 30
    assert not changed[19, 14, 8], "further away than its half axis"
    edge = filled.hu[19, 14, 10:25].astype(int)
    assert (np.diff(edge) >= 0).all()
    assert np.abs(np.diff(edge)).max() < 200
    assert (lungs.hu == hu).all(), "the phantom itself is as before"


def test_the_drawn_pneumonia_stays_within_the_body() -> None:
    healthy = chest(spacing_mm=(4.0, 4.0, 4.0))
    changed = radiograph.consolidated(healthy).hu != healthy.hu
    for before, now in zip(healthy.hu, changed, strict=True):
        outside = (before < radiograph.AIR_BELOW).astype(np.uint8)
        cv2.floodFill(outside, None, (0, 0), 2)
        assert not now[outside == 2].any()
    assert changed.mean() > 0.01


def test_the_factory_bundle_calls_the_drawn_pneumonia_and_not_the_healthy_phantom(
    xray: Xray,
) -> None:
    path = Path(trust.__file__).parents[1] / "factory" / "bundles" / "chest-pneumonia.scanside"
    loaded = trust.check(path.read_bytes())
    healthy = chest(spacing_mm=(4.0, 4.0, 4.0))
    pictures = [radiograph.projected(one) for one in (healthy, radiograph.consolidated(healthy))]
    files = [xray.bytes(radiograph.instance(one)) for one in pictures]
    backend = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 1)
    well, ill = (line.process([one], loaded.bundle, backend) for one in files)
    backend.close()
    assert (well.status, well.findings) == (Status.ANALYSED, ())
    (finding,) = ill.findings
    assert finding.kind == "pneumonia"
    assert finding.score > 0.85
    (heat,) = ill.maps
    share = overlay.heat_on(
        image_of(radiograph.instance(pictures[1]), xray), heat.values, heat.to_stored
    )
    half = share.shape[0] // 2
    assert share[half:].mean() > 2 * share[:half].mean(), "the lower zones were filled"


def test_the_same_phantom_gives_the_same_instance(phantom: Phantom, xray: Xray) -> None:
    one, two = (xray.bytes(radiograph.instance(radiograph.projected(phantom))) for _ in range(2))
    assert one == two


def test_its_borders_are_collimated_and_its_tags_name_no_patient(pixels: Any, xray: Xray) -> None:
    ds = radiograph.instance(pixels)
    assert (ds.PatientName, ds.PatientAge, ds.QualityControlSubject) == (
        "PHANTOM^CHILD", "004Y", "YES",
    )  # fmt: skip
    image = image_of(ds, xray)
    field = projection.borders(projection.display(image), image.shown)
    rows, columns = image.stored.shape
    edges = round(rows * radiograph.BORDER), round(columns * radiograph.BORDER)
    assert field is not None
    assert np.allclose(
        field, (edges[0], rows - edges[0], edges[1], columns - edges[1]), atol=2
    )  # the skin line may be as dark as the border


@pytest.mark.parametrize("letters", [["L", "F"], ["H", "R"]])
def test_a_map_is_laid_where_its_evidence_is(xray: Xray, letters: list[str]) -> None:
    image = image_of(xray.image(xray.pixels((160, 120)), PatientOrientation=letters), xray)
    values = np.full((4, 4), -1.0, np.float32)
    values[1, 2] = 3.0
    cell = image.to_stored @ np.array([[160 / 4, 0, 19.5], [0, 120 / 4, 14.5], [0, 0, 1.0]])
    if letters == ["H", "R"]:
        cell = image.to_stored @ np.array([[120 / 4, 0, 14.5], [0, 160 / 4, 19.5], [0, 0, 1.0]])
    share = overlay.heat_on(image, values, cell)
    rows, columns = image.stored.shape
    assert share.shape == (rows, columns)
    hottest = np.unravel_index(int(share.argmax()), share.shape)
    assert abs(hottest[0] - rows * 1.5 / 4) < 2
    assert abs(hottest[1] - columns * 2.5 / 4) < 2
    assert share[-1, 0] == 0


def test_the_demo_writes_a_picture_for_each_finding(
    pixels: Any, xray: Xray, tiny_radiograph_bytes: bytes, tmp_path: Path, seal: Seal
) -> None:
    series = tmp_path / "series"
    series.mkdir()
    for number, name in ((2, "a"), (1, "b")):
        ds = radiograph.instance(pixels, study_uid="1.2", series_uid="1.3", number=number)
        (series / name).write_bytes(xray.bytes(ds))
    loaded = trust.check(tiny_radiograph_bytes)
    backend = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 1)
    files = [path.read_bytes() for path in series.iterdir()]
    result = line.process(files, loaded.bundle, backend)
    backend.close()
    assert result.status is Status.ANALYSED
    report = seal(result)
    keep(tmp_path, report, result, ["1", "2"])
    paths = list(drawn.of_radiographs(report, tmp_path, series, tmp_path))
    assert [path.name for path in paths] == ["heat-map-1.png", "heat-map-2.png"]
    picture = cv2.imread(str(paths[0]))
    assert picture.shape[1] == overlay.WIDTH
    coloured = np.ptp(picture.astype(int), axis=2) > 20
    assert coloured.mean() > 0.05
