"""display, collimation, square: against pydicom and dcmtk, by hand, and what changes nothing."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from appliance.errors import BundleRefused
from appliance.preprocess import projection
from appliance.preprocess.spec import Collimation, Display, Pad, Square, Window, ZScore
from appliance.records import Linear, Lut, Radiograph, VoiWindow
from appliance.series import radiograph
from rigs.xray import Xray

OPS = (Display(), Collimation(), Square(size=28))
CURVE = np.rint(4095 * np.linspace(0, 1, 4096) ** 2).astype(int)
VOI = [{"LUTDescriptor": [4096, 0, 12], "LUTData": CURVE}]
MODALITY = [{"LUTDescriptor": [4096, 0, 16], "ModalityLUTType": "US", "LUTData": 16 * CURVE}]
NO_WINDOW = {"WindowCenter": None, "WindowWidth": None}
DISPLAYS: dict[str, dict[str, Any]] = {
    "a linear window": {},
    "the first of two windows": {"WindowCenter": [1500, 900], "WindowWidth": [2000, 100]},
    "a linear exact window": {"VOILUTFunction": "LINEAR_EXACT", "WindowWidth": 2000},
    "a sigmoid": {"VOILUTFunction": "SIGMOID", "WindowWidth": 1500},
    "a VOI LUT": {**NO_WINDOW, "VOILUTSequence": VOI},
    "a rescale": {"RescaleSlope": 2, "RescaleIntercept": -500, "WindowCenter": 3000},
    "a modality LUT": {
        "RescaleSlope": None, "RescaleIntercept": None, "RescaleType": None,
        "ModalityLUTSequence": MODALITY, "WindowCenter": 20000, "WindowWidth": 40000,
    },
}  # fmt: skip


def read(xray: Xray, pixels: Any = None, **tags: Any) -> Radiograph:
    return radiograph.read(xray.bytes(xray.image(pixels, **tags)))


def seen(xray: Xray, pixels: Any = None, **tags: Any) -> projection.Seen:
    found = projection.tensor(read(xray, pixels, **tags), OPS)
    assert isinstance(found, projection.Seen), found
    return found


# display


@pytest.mark.filterwarnings("ignore:Applying a VOI LUT on a float")
@pytest.mark.parametrize("name", DISPLAYS)
def test_display_is_what_pydicom_makes_of_it(xray: Xray, name: str) -> None:
    data = xray.bytes(xray.image(**DISPLAYS[name]))
    ds = dcmread(DicomBytesIO(data))
    values = apply_modality_lut(ds.pixel_array, ds)
    shown = np.asarray(apply_voi_lut(values, ds), np.float64)
    low, high = 0.0, 4095.0
    if name == "a rescale":
        low, high = -500.0, 2 * 4095 - 500.0
    elif name == "a modality LUT":
        high = 65535.0
    mine = projection.display(radiograph.read(data))
    assert np.abs(mine - (shown - low) / (high - low)).max() < 1e-4


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("name", sorted(set(DISPLAYS) - {"a linear exact window"}))
def test_display_is_what_dcmtk_makes_of_it(
    xray: Xray, name: str, photometric: str, tmp_path: Path
) -> None:
    """dcm2pnm has no option for LINEAR_EXACT."""
    program = shutil.which("dcm2pnm", path="/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("dcm2pnm is not installed")
    shape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    tags = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    data = xray.bytes(xray.image(**DISPLAYS[name], **tags))
    (tmp_path / "in.dcm").write_bytes(data)
    how = ["+Wl", "1"] if name == "a VOI LUT" else ["+Wi", "1"]
    if name == "a sigmoid":
        how += ["+Wfs"]
    command = [program, "+opw", *how, str(tmp_path / "in.dcm"), str(tmp_path / "out.pgm")]
    subprocess.run(command, check=True, timeout=30)
    theirs = cv2.imread(str(tmp_path / "out.pgm"), cv2.IMREAD_UNCHANGED) / 65535
    assert np.abs(projection.display(radiograph.read(data)) - theirs).max() < 2e-3


def test_monochrome1_and_2_give_a_network_the_same(xray: Xray) -> None:
    pixels = xray.pixels()
    plain = seen(xray, pixels, WindowCenter=1900.5)
    turned = seen(
        xray,
        4095 - pixels,
        WindowCenter=4095 - 1900.5 + 1,  # a window of 12 bits, seen from its other end
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE",
    )
    assert np.abs(plain.values - turned.values).max() < 1e-5


def test_signed_and_unsigned_8_and_16_bits_give_a_network_the_same(xray: Xray) -> None:
    coarse = (xray.pixels() // 16).astype(np.uint8)
    window = {"WindowCenter": 120, "WindowWidth": 200}
    first = seen(xray, coarse, **window)
    shifted = (coarse.astype(np.int16) - 100, {"WindowCenter": 20, "WindowWidth": 200})
    rescaled = (coarse.astype(np.int16) - 100, {**window, "RescaleIntercept": 100})
    for pixels, tags in ((coarse.astype(np.uint16), window), shifted, rescaled):
        assert np.array_equal(seen(xray, pixels, **tags).values, first.values)


def test_a_window_and_the_table_of_it_give_a_network_the_same(xray: Xray) -> None:
    of = VoiWindow(1900, 3200)
    table = np.rint(65535 * projection.voi(np.arange(4096.0), of)).astype(int)
    sequence = [{"LUTDescriptor": [4096, 0, 16], "LUTData": table}]
    plain, tabled = seen(xray), seen(xray, **NO_WINDOW, VOILUTSequence=sequence)
    assert np.abs(plain.values - tabled.values).max() < 1e-4


def test_formulas_by_hand() -> None:
    x = np.array([0.0, 1, 2, 3, 4])
    assert projection.voi(x, VoiWindow(2, 4, "LINEAR_EXACT")).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert projection.voi(x, VoiWindow(2.5, 3)).tolist() == [0, 0, 0.5, 1, 1]
    assert projection.voi(x, VoiWindow(2.5, 1)).tolist() == [0, 0, 0, 1, 1]
    sigmoid = projection.voi(x, VoiWindow(2, 4, "SIGMOID"))
    assert np.allclose(sigmoid, 1 / (1 + np.exp(-(x - 2))))
    assert projection.voi(x, Lut(1, 8, (0, 51, 255))).tolist() == [0, 0, 0.2, 1, 1]
    assert projection.modality(x, Linear(2, -1)).tolist() == [-1, 1, 3, 5, 7]


def test_without_a_window_the_anatomy_alone_says_what_is_shown(xray: Xray) -> None:
    """A white border and one burnt-out letter in it change nothing."""
    inner = xray.pixels((96, 80))
    framed = np.full((140, 120), 4095, np.uint16)
    framed[20:116, 20:100] = inner
    low, high = np.percentile(inner, (1, 99))
    image = read(xray, framed, **NO_WINDOW)
    grey = projection.display(image)[20:116, 20:100]
    expected = np.clip((inner - low) / (high - low), 0, 1)
    assert np.abs(grey - expected).max() < 0.01


# collimation


@pytest.mark.parametrize("border", [0, 20, 4000])
def test_borders_are_peeled_whatever_their_grey_and_a_letter_in_them(
    xray: Xray, border: int
) -> None:
    inner = xray.pixels((96, 80))
    framed = np.full((160, 140), border, np.uint16)
    framed[30:126, 40:120] = inner
    framed[8:14, 4:9] = 2000  # a lead letter
    assert projection.borders(projection.display(read(xray, framed)), np.ones_like(framed, bool)) \
        == (30, 126, 40, 120)  # fmt: skip
    assert np.array_equal(seen(xray, framed).values, seen(xray, inner).values)


def test_a_black_frame_around_a_white_border_is_peeled_too(xray: Xray) -> None:
    framed = np.full((180, 160), 0, np.uint16)
    framed[20:150, 30:140] = 4000
    framed[40:136, 50:130] = xray.pixels((96, 80))
    assert np.array_equal(seen(xray, framed).values, seen(xray).values)


def test_without_the_op_borders_stay(xray: Xray) -> None:
    framed = np.zeros((160, 144), np.uint16)
    framed[32:128, 32:112] = xray.pixels((96, 80))
    found = projection.tensor(read(xray, framed), (Display(), Square(size=28)))
    assert isinstance(found, projection.Seen)
    assert (found.top, found.left, found.height, found.width) == (8, 0, 144, 144)


def test_shutter_collimator_and_padding_cut_as_a_border_does(xray: Xray) -> None:
    inner = xray.pixels((96, 80))
    noise = np.random.default_rng(9).integers(0, 4095, (160, 140)).astype(np.uint16)
    noise[30:126, 40:120] = inner
    edges = {"UpperHorizontalEdge": 31, "LowerHorizontalEdge": 126, "LeftVerticalEdge": 41,
             "RightVerticalEdge": 120}  # fmt: skip
    expected = seen(xray, inner).values
    for name in ("Shutter", "Collimator"):
        tags = {f"{name}{edge}": at for edge, at in edges.items()}
        found = seen(xray, noise, **tags, **{f"{name}Shape": "RECTANGULAR"})
        assert np.array_equal(found.values, expected)
    padded = np.full((160, 140), 4095, np.uint16)
    padded[30:126, 40:120] = inner
    assert np.array_equal(seen(xray, padded, PixelPaddingValue=4095).values, expected)


def test_what_a_shutter_hides_inside_the_field_is_dark(xray: Xray) -> None:
    circle = {"CenterOfCircularShutter": [48, 40], "RadiusOfCircularShutter": 39}
    found = seen(xray, ShutterShape="CIRCULAR", **circle).values[0, 0]
    plain = seen(xray).values[0, 0]
    assert found[0, 0] == found[-1, 0] == found[0, -1] == 0
    assert plain[0, 0] > 0.2
    assert np.abs(found[10:18, 10:18] - plain[10:18, 10:18]).max() < 0.1  # another field, a little


@pytest.mark.parametrize(
    ("pixels", "tags", "said"),
    [
        (np.full((96, 80), 900, np.uint16), {}, "one grey"),
        (None, {"WindowCenter": 60000, "WindowWidth": 10}, "one grey"),
        (np.zeros((400, 400), np.uint16), {}, "one grey"),
    ],
)
def test_an_image_that_shows_nothing_says_so(
    xray: Xray, pixels: Any, tags: dict[str, Any], said: str
) -> None:
    found = projection.tensor(read(xray, pixels, **tags), OPS)
    assert isinstance(found, str)
    assert said in found


def test_an_image_without_contrast_says_so_even_with_its_borders(xray: Xray) -> None:
    wide = read(xray, WindowCenter=1900, WindowWidth=80000)
    found = projection.tensor(wide, (Display(), Square(size=28)))
    assert found == "it shows nothing: its window or table leaves it without contrast"


def test_a_field_that_is_too_small_to_be_a_chest_says_so(xray: Xray) -> None:
    framed = np.zeros((400, 400), np.uint16)
    framed[200:240, 200:240] = xray.pixels((40, 40))
    found = projection.tensor(read(xray, framed), OPS)
    assert found == "its field is 40 x 40 pixels; at least 50 x 50 are needed"


# square


def test_a_square_is_the_mean_over_exact_areas() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 6) / 12
    found = projection.square(values, (0, 2, 0, 6), 1.0, 2)
    assert np.allclose(found.values[0, 0], values[:, 2:4])
    wide = projection.square(values, (0, 2, 0, 6), 1.5, 2)  # pixels half as high again as wide
    assert (wide.top, wide.left, wide.height, wide.width) == (0, 1.5, 2, 3)
    assert np.allclose(wide.values[0, 0, 0], [(values[0, 1] / 2 + values[0, 2]) / 1.5,
                                              (values[0, 3] + values[0, 4] / 2) / 1.5])  # fmt: skip


def test_a_square_is_near_to_what_opencv_averages(xray: Xray) -> None:
    values = np.random.default_rng(2).random((301, 211), dtype=np.float32)
    mine = projection.square(values, (0, 301, 0, 211), 1.0, 28).values[0, 0]
    theirs = cv2.resize(values[45:256], (28, 28), interpolation=cv2.INTER_AREA)
    assert np.abs(mine - theirs).max() < 2e-3


def test_zscore_comes_last(xray: Xray) -> None:
    image = read(xray)
    plain = projection.tensor(image, OPS)
    scaled = projection.tensor(image, (*OPS, ZScore(mean=0.5, std=0.25)))
    assert isinstance(plain, projection.Seen)
    assert isinstance(scaled, projection.Seen)
    assert np.allclose(scaled.values, (plain.values - 0.5) / 0.25)


@pytest.mark.parametrize(
    "ops",
    [
        (),
        (Display(),),
        (Collimation(), Display(), Square(size=28)),
        (Display(), Square(size=28), Collimation()),
        (Display(), Square(size=28), Window(low=0, high=1)),
        (Display(), Square(size=28), Pad(multiple=2)),
    ],
)
def test_an_op_list_out_of_order_is_refused_by_name(ops: Any) -> None:
    with pytest.raises(BundleRefused, match="cannot be read for a radiograph"):
        projection.steps(ops)


def test_a_greyscale_without_a_voi_has_no_table(xray: Xray) -> None:
    image = read(xray)
    with pytest.raises(ValueError, match="VOI"):
        projection.table(replace(image.grey, voi=None), image.stored.dtype)
