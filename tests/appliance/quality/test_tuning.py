"""Which tuning a series gets, by what is measured in it; and what it does to a bundle."""

from __future__ import annotations

import pytest

from appliance.bundle.trust import Bundle
from appliance.preprocess import plan
from appliance.preprocess.spec import Soften
from appliance.quality import tuning
from appliance.watching.quality import VolumeQuality
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning

ONE, OTHER = Scanner(maker="one", kernel="sharp"), Scanner(maker="other", kernel="soft")


def of(from_per_mm: float, *, sd_mm: float = 0.6, from_hu: float = 0.0) -> Tuning:
    return Tuning(scanner=ONE, soften_mm=sd_mm, from_per_mm=from_per_mm, from_hu=from_hu)


def seen(texture: float | None, noise_hu: float | None = 30.0) -> VolumeQuality:
    return VolumeQuality(texture_per_mm=texture, noise_hu=noise_hu)


def test_a_tuning_counts_from_half_way_between_the_usual_texture_and_the_sharp_one() -> None:
    made = tuning.made(ONE, 0.8, usual_per_mm=0.40, seen_per_mm=0.46, from_hu=20.0)
    assert made == Tuning(scanner=ONE, soften_mm=0.8, from_per_mm=0.43, from_hu=20.0)
    assert tuning.chosen([made], seen(0.43)) == made
    assert tuning.chosen([made], seen(0.429)) is None
    assert tuning.chosen([made], seen(0.46, 19.9)) is None


@pytest.mark.parametrize("sharp", [0.40, 0.39, 0.411])
def test_none_is_made_for_a_texture_that_is_as_usual(sharp: float) -> None:
    with pytest.raises(ValueError, match="not above the usual"):
        tuning.made(ONE, 0.8, usual_per_mm=0.40, seen_per_mm=sharp)
    assert not tuning.is_sharper(sharp, 0.40)
    assert not tuning.is_sharper(None, 0.40)
    assert not tuning.is_sharper(0.5, None)


def test_the_one_that_asks_for_the_sharpest_texture_is_taken_in_any_order() -> None:
    mild, strong = of(0.42, sd_mm=0.4), of(0.48, sd_mm=1.0)
    twin = of(0.48, sd_mm=0.8)
    for given in ((mild, strong), (strong, mild)):
        assert tuning.chosen(given, seen(0.50)) == strong
        assert tuning.chosen(given, seen(0.45)) == mild
    assert tuning.chosen((strong, twin), seen(0.5)) == tuning.chosen((twin, strong), seen(0.5))


def test_what_could_not_be_measured_gets_none() -> None:
    assert tuning.chosen([of(0.1)], None) is None
    assert tuning.chosen([of(0.1)], seen(None)) is None
    assert tuning.chosen([of(0.1)], seen(0.5, None)) is None
    assert tuning.chosen([], seen(0.5)) is None


def test_a_digest_is_of_what_it_does_and_when() -> None:
    assert of(0.42).digest == of(0.42).digest
    others = [of(0.43), of(0.42, sd_mm=0.8), of(0.42, from_hu=1.0)]
    others.append(of(0.42).model_copy(update={"scanner": OTHER}))
    assert len({one.digest for one in (of(0.42), *others)}) == 5
    assert Tuning.stored(of(0.42).model_dump_json(by_alias=True)).digest == of(0.42).digest


def test_the_op_stands_before_what_is_done_to_each_voxel(second: Bundle) -> None:
    softer = tuning.tuned(second.manifest, 0.6)
    for role, network in softer.networks.items():
        read = plan.steps(network.preprocess)
        assert (read.soften == Soften(sd_mm=0.6)) is (role in tuning.DETECTION)
        rest = [op for op in network.preprocess if not isinstance(op, Soften)]
        assert tuple(rest) == second.manifest.networks[role].preprocess
    assert softer.networks.keys() >= tuning.DETECTION


def test_a_network_that_softens_already_softens_as_much_as_both(second: Bundle) -> None:
    twice = tuning.tuned(tuning.tuned(second.manifest, 0.6), 0.8)
    assert plan.steps(twice.networks["propose"].preprocess).soften == Soften(sd_mm=1.0)
    most = tuning.tuned(tuning.tuned(second.manifest, 3.0), 4.0)
    assert plan.steps(most.networks["propose"].preprocess).soften == Soften(sd_mm=4.0)
