"""The factory bundles, evaluated again on a sample of val, against what their cards say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.bundle import trust
from appliance.bundle.manifest import Figure
from training import evaluate
from training.judge.metrics import dice
from training.read.folders import shared_folder
from training.read.image_files import read_nifti
from training.recipes.lung_nodule import judge_lungs

FACTORY = Path(trust.__file__).parents[1] / "factory" / "bundles"
SAMPLE = 400


def opened(name: str) -> evaluate.Opened:
    return evaluate.open_bundle(FACTORY / f"{name}.scanside", 1)


def sample(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with np.load(path) as file:
        images, labels = file["val_images"], file["val_labels"].reshape(-1)
    pick = np.random.default_rng(1).permutation(len(labels))[:SAMPLE]
    return images[pick], labels[pick]


def stated(of: evaluate.Opened, name: str) -> float:
    figures = of.bundle.manifest.provenance.figures
    found = next(v for k, v in figures.items() if k.startswith(name))
    return found.value if isinstance(found, Figure) else found


def test_the_patch_network_does_on_a_sample_of_val_what_its_card_says() -> None:
    bundle = opened("lung-nodule")
    images, labels = sample(shared_folder() / "data" / "patches" / "luna16_patches50.npz")
    found = evaluate.of_images(bundle, images, labels)
    low, high = found["auc_ci"]
    assert low <= stated(bundle, "patches, val split: AUC of") <= high
    assert found["auc"] > 0.95


def test_the_lung_network_covers_lungs_that_it_never_saw() -> None:
    folder = shared_folder() / "data" / "lung"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    opened_bundle = opened("lung-nodule")
    for name in ("id001", "id002"):
        volume = read_nifti(folder / f"{name}_ct.nii.gz")
        truth = read_nifti(folder / f"{name}_lungmask.nii.gz").hu > 0.5
        found = judge_lungs.lungs(volume, opened_bundle.bundle.manifest, opened_bundle.backend)
        assert dice(found, truth) > 0.92


def test_the_radiograph_network_does_on_a_sample_of_val_what_its_card_says() -> None:
    bundle = opened("chest-pneumonia")
    images, labels = sample(shared_folder() / "data" / "cxr" / "pneumoniamnist28.npz")
    found = evaluate.of_images(bundle, images, labels)
    # the shipped network saw these images; its card's figure is out of fold
    assert found["auc"] >= stated(bundle, "out_of_fold_auc_int8") - 0.01
    assert found["acc"] >= stated(bundle, "out_of_fold_acc_int8") - 0.03


@pytest.mark.parametrize("name", ["lung-nodule", "chest-pneumonia"])
def test_a_factory_bundle_says_what_data_code_and_seed_made_it(name: str) -> None:
    made = opened(name).bundle.manifest.provenance
    assert len(made.code_digest) == 64
    assert made.sources
    assert all(len(source.digest) == 64 and source.licence for source in made.sources)
    assert made.never_tested
    card = Path(__file__).parents[2] / "docs" / "cards" / f"{name}.md"
    assert made.code_digest in card.read_text()
