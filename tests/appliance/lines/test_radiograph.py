"""The line of radiographs, end to end: from the bytes of images to a report with its heat maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from appliance import line
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import trust
from appliance.bundle.trust import Bundle
from appliance.errors import Poisoned
from appliance.reasons import Code
from appliance.records import Result, Tensor
from appliance.report import NOTICE, Status
from appliance.watching.quality import RadiographQuality

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def bundle(tiny_radiograph_bytes: bytes) -> Bundle:
    return trust.check(tiny_radiograph_bytes).bundle


@pytest.fixture(scope="module")
def backend(tiny_radiograph_bytes: bytes) -> Iterator[Backend]:
    loaded = trust.check(tiny_radiograph_bytes)
    opened = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 1)
    yield opened
    opened.close()


Analyse = Callable[..., Result]


@pytest.fixture
def analyse(bundle: Bundle, backend: Backend, xray: Any) -> Analyse:
    """Data sets -> Result."""

    def result(*images: Any, memory_bytes: int | None = None) -> Result:
        files = [image if isinstance(image, bytes) else xray.bytes(image) for image in images]
        return line.process(files, bundle, backend, memory_bytes)

    return result


@pytest.fixture(scope="module")
def dark(xray: Any) -> Any:
    """Pixels whose score is below the threshold."""
    return xray.pixels() // 3


def codes(result: Result) -> list[Code]:
    return [reason.code for reason in (*result.reasons, *result.limitations)]


def same(a: Result, b: Result) -> bool:
    """Equal in everything, heat maps included."""
    maps = len(a.maps) == len(b.maps) and all(
        m.name == n.name
        and np.array_equal(m.values, n.values)
        and np.array_equal(m.to_stored, n.to_stored)
        for m, n in zip(a.maps, b.maps, strict=True)
    )
    return maps and replace(a, maps=()) == replace(b, maps=())


def test_one_radiograph_gives_a_finding_with_score_and_heat_map(
    analyse: Analyse, xray: Any
) -> None:
    result = analyse(xray.image())
    assert result.status is Status.ANALYSED
    assert codes(result) == []
    (finding,) = result.findings
    (heat,) = result.maps
    assert finding.kind == "pneumonia"
    assert finding.score == pytest.approx(1 / (1 + np.exp(-heat.values.mean())), abs=1e-4)
    assert finding.score >= finding.threshold == 0.5
    assert finding.heat_map == heat.name == "heat-map-1"
    assert (finding.center_lps_mm, finding.box_lps_mm, finding.side) == (None, None, None)
    assert finding.key_image == 0
    assert (result.facts.modality, result.facts.slices) == ("DX", 1)


def test_each_radiograph_is_measured_as_the_network_sees_it(
    analyse: Analyse, xray: Any, dark: Any
) -> None:
    """In the order of `key_image`, whatever came first; a refused one as far as it was seen."""
    bright, other = xray.image(), xray.image(dark, number=2)
    result = analyse(bright, other)
    one, two = result.quality
    assert isinstance(one, RadiographQuality)
    assert isinstance(two, RadiographQuality)
    assert None not in (*one.model_dump().values(), *two.model_dump().values())
    assert (one.mean or 0) > (two.mean or 0)
    assert analyse(other, bright).quality == result.quality
    assert analyse(bright).quality == (one,)
    assert analyse(xray.image(ViewPosition="LL")).quality == (), "no network sees it"


def test_a_dark_one_is_analysed_without_a_finding(analyse: Analyse, xray: Any, dark: Any) -> None:
    result = analyse(xray.image(dark))
    assert result.status is Status.ANALYSED
    assert (result.findings, result.maps) == ((), ())
    assert result.scores
    (scored,) = result.scores.candidates
    assert scored.score < result.scores.threshold == 0.5, "it is kept all the same"
    assert scored.center_lps_mm is None


def test_the_report_is_labelled_with_the_notice_of_the_bundle(
    analyse: Analyse, xray: Any, seal: Any
) -> None:
    assert seal(analyse(xray.image())).notice == f"demonstration, {NOTICE}"
    lateral = analyse(xray.image(ViewPosition="LL"))
    assert seal(lateral).notice == f"demonstration, {NOTICE}"


def test_a_bright_spot_is_hot_where_it_lies_in_the_image_as_it_was_sent(
    analyse: Analyse, xray: Any
) -> None:
    """Also through a border, a turn and pixels twice as high as wide."""
    pixels = np.full((90, 200), 5, np.uint16)
    ramp = np.mgrid[:70, :160][0] * 12 + np.random.default_rng(1).integers(0, 400, (70, 160))
    pixels[10:80, 20:180] = 1400 + ramp
    spot = (52, 120)
    pixels[spot[0] - 2 : spot[0] + 3, spot[1] - 4 : spot[1] + 5] = 4000
    result = analyse(
        xray.image(pixels, PatientOrientation=["R", "H"], ImagerPixelSpacing=[0.4, 0.2])
    )
    (heat,) = result.maps
    hottest = np.unravel_index(int(heat.values.argmax()), heat.values.shape)
    row, column, one = heat.to_stored @ (*hottest, 1)
    assert one == 1
    assert abs(row - spot[0]) < 2.5  # a cell is 2.5 rows high
    assert abs(column - spot[1]) < 5


def test_any_order_of_arrival_and_a_resend_give_the_same_result(
    analyse: Analyse, xray: Any, dark: Any
) -> None:
    images = [
        xray.bytes(xray.image(pixels, number=number))
        for number, pixels in ((1, dark), (2, xray.pixels()), (3, xray.pixels(seed=4)))
    ]
    first = analyse(*images)
    assert [f.key_image for f in first.findings] in ([1, 2], [2, 1])
    assert [f.id for f in first.findings] == [1, 2]
    assert first.findings[0].score >= first.findings[1].score
    assert [m.name for m in first.maps] == ["heat-map-1", "heat-map-2"]
    for order in permutations(images):
        assert same(analyse(*order), first)
    assert same(analyse(*images, images[1]), first)


def test_a_resend_in_another_transfer_syntax_is_the_same_report(
    analyse: Analyse, xray: Any, seal: Any
) -> None:
    coded = xray.bytes(xray.image(), "1.2.840.10008.1.2.4.80")
    assert seal(analyse(coded)).same_as(seal(analyse(xray.image())))


def test_images_that_may_have_lost_detail_are_a_limitation(analyse: Analyse, xray: Any) -> None:
    near = xray.bytes(xray.image(), "1.2.840.10008.1.2.4.81", jls_error=2)
    result = analyse(near)
    assert result.status is Status.ANALYSED
    assert codes(result) == [Code.LOSSY]


@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"PatientAge": "006Y"}, Code.PATIENT_AGE),
        ({"PatientAge": "061M"}, Code.PATIENT_AGE),
        ({"PatientAge": None}, Code.PATIENT_AGE),
        ({"PatientAge": ""}, Code.PATIENT_AGE),
        ({"PatientAge": "4"}, Code.PATIENT_AGE),
        ({"BodyPartExamined": "KNEE"}, Code.BODY_PART),
        ({"BodyPartExamined": None}, Code.BODY_PART),
        ({"PatientAge": "000Y"}, Code.AGE_UNKNOWN),
        ({"PatientAge": "126Y"}, Code.AGE_UNKNOWN),
        ({"PatientBirthDate": "19800101", "StudyDate": "20260105"}, Code.PATIENT_AGE),
        ({"PatientSpeciesDescription": "Canine"}, Code.SPECIES),
        ({"AcquisitionDeviceProcessingDescription": "LATERAL THORAX"}, Code.VIEW_POSITION),
        ({"Modality": "RF"}, Code.MODALITY),
        ({"SOPClassUID": CT_CLASS, "ImageType": ["ORIGINAL", "PRIMARY"]}, Code.MODALITY),
        ({"ViewPosition": "LATERAL"}, Code.VIEW_POSITION),
        ({"NumberOfFrames": 3}, Code.UNSUPPORTED_PIXELS),
        ({"PixelData": b""}, Code.MISSING_PIXELS),
        ({"WindowCenter": 60000, "WindowWidth": 2}, Code.NOTHING_TO_SEE),
        ({"ImageType": ["ORIGINAL", "SECONDARY"]}, Code.SECONDARY_CAPTURE),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, Code.SECONDARY_CAPTURE),
    ],
)
def test_what_it_is_not_meant_for_is_not_analysed_and_says_why(
    analyse: Analyse, xray: Any, tags: dict[str, Any], expected: Code
) -> None:
    result = analyse(xray.image(**tags))
    assert result.status is Status.NOT_ANALYSED
    assert codes(result) == [expected]
    assert result.facts.slices == 1


@pytest.mark.parametrize("age", ["005Y", "060M", "010D", "002W"])
def test_children_up_to_five_are_analysed(analyse: Analyse, xray: Any, age: str) -> None:
    assert analyse(xray.image(PatientAge=age)).status is Status.ANALYSED


@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": "CR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1"},
        {"Modality": "DR"},
        {"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE"]},
        {"ViewPosition": None, "ViewCodeSequence": None},
    ],
)
def test_other_words_for_a_frontal_radiograph_are_understood(
    analyse: Analyse, xray: Any, tags: dict[str, Any]
) -> None:
    assert analyse(xray.image(**tags)).status is Status.ANALYSED


def test_a_lateral_beside_a_frontal_view_is_left_out_and_told(analyse: Analyse, xray: Any) -> None:
    result = analyse(xray.image(number=1, ViewPosition="LL"), xray.image(number=2))
    assert result.status is Status.ANALYSED
    assert codes(result) == [Code.VIEW_POSITION]
    assert result.limitations[0].where == "image 1"
    assert result.facts.slices == 2
    assert [f.key_image for f in result.findings] == [0]
    alone = analyse(xray.image(number=2))
    assert result.findings[0].score == alone.findings[0].score
    assert result.input_digest != alone.input_digest


CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def test_what_is_no_radiograph_is_set_aside_beside_one_that_is(analyse: Analyse, xray: Any) -> None:
    one = xray.image(number=2)
    others = [
        xray.image(number=1, SOPClassUID=CAPTURE, Modality="OT"),
        xray.image(number=3, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22", Modality="SR"),
    ]
    alone = analyse(one)
    for order in permutations([one, *others]):
        result = analyse(*order)
        assert result.status is Status.ANALYSED
        assert codes(result) == [Code.SET_ASIDE_IMAGES, *codes(alone)]
        assert "image 1: it is a secondary capture" in result.limitations[0].text
        assert "2 of 3 images are set aside" in result.limitations[0].text
        assert (result.findings, result.input_digest) == (alone.findings, alone.input_digest)
    assert codes(analyse(*others[:1])) == [Code.SECONDARY_CAPTURE]


def test_a_radiograph_that_cannot_be_read_refuses_whatever_is_beside_it(
    analyse: Analyse, xray: Any
) -> None:
    broken = xray.image(number=2, PixelData=None)
    assert codes(analyse(xray.image(number=1), broken)) == [Code.MISSING_PIXELS]


@pytest.mark.parametrize("said", [{"PatientID": "b"}, {"StudyInstanceUID": "1.2.9"}])
def test_another_patient_or_study_refuses(analyse: Analyse, xray: Any, said: Any) -> None:
    one = xray.image(number=1, PatientID="a")
    for kind in ({}, {"SOPClassUID": CAPTURE, "Modality": "OT"}):
        other = xray.image(number=2, **{"PatientID": "a", **kind, **said})
        assert codes(analyse(one, other)) == [Code.MIXED_SERIES]


def test_one_image_of_an_older_patient_refuses_the_series(analyse: Analyse, xray: Any) -> None:
    result = analyse(xray.image(number=1), xray.image(number=2, PatientAge="040Y"))
    assert result.status is Status.NOT_ANALYSED
    assert codes(result) == [Code.PATIENT_AGE]


def test_two_images_under_one_uid_are_refused(analyse: Analyse, xray: Any, dark: Any) -> None:
    result = analyse(xray.image(), xray.image(dark))
    assert codes(result) == [Code.DUPLICATE_UID]


def test_a_series_for_which_there_is_no_memory_is_refused(analyse: Analyse, xray: Any) -> None:
    assert codes(analyse(xray.image(), memory_bytes=1000)) == [Code.TOO_LARGE]


def test_nothing_readable_says_so(analyse: Analyse) -> None:
    assert codes(analyse(b"no DICOM")) == [Code.UNREADABLE]


@pytest.mark.parametrize("outputs", [{}, {"logit": (2,)}, {"logit": (1,), "activation": (28, 28)}])
def test_an_output_of_another_shape_is_the_backend_s_failure(
    bundle: Bundle, backend: Backend, xray: Any, outputs: dict[str, tuple[int, ...]]
) -> None:
    class Broken:
        """The real backend with other outputs: no network of a valid bundle gives them."""

        ref = backend.ref

        def infer(self, role: str, image: Tensor) -> Any:
            assert role == "classify"
            assert image.shape == (1, 1, 28, 28)
            return {name: np.zeros(shape, np.float32) for name, shape in outputs.items()}

    fold = line.add(line.begin([bundle]), xray.bytes(xray.image()))
    with pytest.raises(Poisoned, match="classify"):
        line.finish(fold, bundle, Broken())  # type: ignore[arg-type]
