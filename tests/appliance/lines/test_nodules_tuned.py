"""A tuning on the line of nodules: what it changes, what it leaves alone, and when it applies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from appliance import line
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import trust
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.trust import Bundle
from appliance.lines import nodules
from appliance.lines.kind import Context
from appliance.phantom.chest import Phantom
from appliance.preprocess.spec import Op, Soften
from appliance.quality import series, tuning
from appliance.records import Result
from appliance.report import Finding, Status
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning

SPACING = (2.0, 1.6, 1.6)
NODULES = {(-68.0, 12.0, 5.0): 6.0, (-80.0, -38.0, -18.0): 4.5, (60.0, -45.0, 12.0): 5.0}
"""LPS mm -> radius."""
MASS = (70.0, 4.0, 0.0)
SCANNER = Scanner(maker="a maker", kernel="sharp")


def chest(grain: float) -> Phantom:
    """An oval body, two lungs, three balls and a mass; noise of SD 12 HU, of which so much of each
    pixel is its neighbours'."""
    shape = tuple(round(mm / step) for mm, step in zip((120, 240, 320), SPACING, strict=True))
    z, y, x = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, SPACING, strict=True)),
        indexing="ij",
    )
    out = np.full(z.shape, -1000, np.float32)
    out[(x / 150) ** 2 + (y / 110) ** 2 < 1] = 40
    for side in (-1, 1):
        out[((x - 70 * side) / 55) ** 2 + (y / 80) ** 2 + (z / 48) ** 2 < 1] = -850
    for (dx, dy, dz), radius in {MASS: 18.0, **NODULES}.items():
        away = np.sqrt((x - dx) ** 2 + (y - dy) ** 2 + (z - dz) ** 2)
        out += np.clip((radius - away) / 1.6 + 0.5, 0, 1) * (40 - out)
    noise = np.random.default_rng(5).normal(size=out.shape)
    for axis in (1, 2):
        noise = noise + grain * (np.roll(noise, 1, axis) + np.roll(noise, -1, axis))
    out += 12 * noise / noise.std()
    origin = (float(x[0, 0, 0]), float(y[0, 0, 0]), float(z[0, 0, 0]))
    return Phantom(np.rint(out).astype(np.int16), SPACING, origin, ())


class Noted:
    """A backend that notes which ops it is asked for."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.ops: list[tuple[Op, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def prepare(self, stack: Any, ops: Sequence[Op], crop: Any) -> Any:
        self.ops.append(tuple(ops))
        return self.backend.prepare(stack, ops, crop)

    def gather(self, stack: Any, ops: Sequence[Op], centers: Any, views: Any = 1) -> Any:
        self.ops.append(tuple(ops))
        return self.backend.gather(stack, ops, centers, views)


@pytest.fixture(scope="module")
def backend(second_bytes: bytes) -> Iterator[Backend]:
    loaded = trust.check(second_bytes)
    opened = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 2)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def folds(dicom: Any, second: Bundle) -> dict[str, line.Fold]:
    """The same chest in sharp noise and in soft noise."""
    made = {}
    for name, grain in (("sharp", 0.0), ("soft", 0.6)):
        fold = line.begin((second,))
        for data in dicom.all(dicom.series(chest(grain), study_uid="1.2.7", series_uid="1.2.8")):
            fold = line.add(fold, data)
        made[name] = fold
    return made


def texture(fold: line.Fold, bundle: Bundle) -> float:
    subject = fold.share(bundle).outline.subject
    assert subject is not None
    measured = series.measured(subject.planes)
    assert measured is not None
    assert measured.texture_per_mm is not None
    return measured.texture_per_mm


@pytest.fixture(scope="module")
def accepted(folds: dict[str, line.Fold], second: Bundle) -> Tuning:
    """Of the sharp chest, beside the soft one."""
    return tuning.made(
        SCANNER,
        0.6,
        usual_per_mm=texture(folds["soft"], second),
        seen_per_mm=texture(folds["sharp"], second),
    )


def finished(fold: line.Fold, bundle: Bundle, backend: Any, *tunings: Tuning) -> Result:
    result = line.finish(fold, bundle, backend, Context(tunings=tunings))
    assert result.status is Status.ANALYSED
    return result


def nearest(result: Result, place: tuple[float, float, float]) -> Finding:
    return min(result.findings, key=lambda f: np.linalg.norm(np.subtract(f.place_lps_mm, place)))


def test_detection_alone_is_softened(
    folds: dict[str, line.Fold], second: Bundle, backend: Backend, accepted: Tuning
) -> None:
    noted = Noted(backend)
    result = finished(folds["sharp"], second, noted, accepted)
    assert result.tuning == accepted.digest
    networks = second.manifest.networks
    softer = tuning.tuned(second.manifest, 0.6).networks
    assert set(networks) == {"segment", "mass", "propose", "classify", "cube", "measure"}
    seen = set(noted.ops)
    for role, network in networks.items():
        if role in ("propose", "classify", "cube"):
            assert Soften(sd_mm=0.6) in softer[role].preprocess
            assert softer[role].preprocess in seen
            assert network.preprocess not in seen
        else:
            assert softer[role] == network
            assert network.preprocess in seen


def test_axes_and_masks_are_those_of_the_scanners_own_pixels(
    folds: dict[str, line.Fold], second: Bundle, backend: Backend, accepted: Tuning
) -> None:
    plain = finished(folds["sharp"], second, backend)
    tuned = finished(folds["sharp"], second, backend, accepted)
    assert plain.scores != tuned.scores, "detection saw other voxels"
    np.testing.assert_array_equal(plain.masks[0].voxels, tuned.masks[0].voxels)
    for place, radius in NODULES.items():
        before, after = nearest(plain, place), nearest(tuned, place)
        assert before.mean_axis_mm == pytest.approx(2 * radius, abs=0.5)
        assert after.mean_axis_mm == pytest.approx(before.mean_axis_mm, abs=0.25)
    # a place that is found a fraction of a voxel aside is measured in another cube: of one place
    # every byte is the same
    stack = folds["sharp"].share(second).outline.subject
    head = second.manifest.line_of(SegmentProposeClassify).measure
    assert stack is not None
    assert head is not None
    softer = tuning.tuned(second.manifest, accepted.soften_mm)
    found = [nearest(plain, place) for place in NODULES]
    bodies, again = (
        nodules._measured(stack, found, manifest, head, backend)
        for manifest in (second.manifest, softer)
    )
    for left, right in zip(bodies, again, strict=True):
        assert left is not None
        assert right is not None
        assert left.mask.voxels.tobytes() == right.mask.voxels.tobytes()
        assert left.mask.axes == right.mask.axes
        assert repr(left) == repr(right)


def test_a_mass_is_the_same_with_and_without(
    folds: dict[str, line.Fold], second: Bundle, backend: Backend, accepted: Tuning
) -> None:
    before, after = (
        nearest(finished(folds["sharp"], second, backend, *tunings), MASS)
        for tunings in ((), (accepted,))
    )
    assert before.kind == "mass"
    assert before.model_dump(exclude={"id"}) == after.model_dump(exclude={"id"})


def test_what_is_as_it_always_was_is_left_alone_whatever_the_tags_say(
    folds: dict[str, line.Fold], second: Bundle, backend: Backend, accepted: Tuning
) -> None:
    """Both chests have the same tags."""
    plain = finished(folds["soft"], second, backend)
    untouched = finished(folds["soft"], second, backend, accepted)
    assert untouched.tuning is None
    assert untouched.findings == plain.findings
    assert untouched.scores == plain.scores
    assert finished(folds["sharp"], second, backend, accepted).tuning == accepted.digest
