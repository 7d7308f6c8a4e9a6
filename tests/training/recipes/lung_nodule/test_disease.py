"""The recipe of disease: it learns from painted pieces what the appliance then reads of a whole
scan, the lung mask beside it stands still, and a mask of other hosts is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from appliance.backend.cpu import CpuBackend  # noqa: E402
from appliance.bundle.heads import DISEASES  # noqa: E402
from rigs.two_lungs import TwoLungs, two_lungs  # noqa: E402
from training.errors import RunError  # noqa: E402
from training.implant.disease.paint import Wanted, diffuse_truth, paint  # noqa: E402
from training.learn.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from training.networks import LungNet, SickLungNet  # noqa: E402
from training.read.volume import F32, Volume  # noqa: E402
from training.recipes.lung_nodule import bundle, disease, judge_disease, segment, sick_lungs  # noqa: E402
from training.ship.onnx_file import exported, require_parity  # noqa: E402

TINY = disease.Knobs(
    hosts="made-up", steps=3, chests=2, pieces=2, depth=16, width=32, warmup=5, bf16=False
)


def a_host(made: TwoLungs) -> segment.Host:
    mask = (made.right | made.left).astype(np.float32)
    return segment.Host("made-up", {3.0: made.hu}, {3.0: mask}, made.chest())


def a_mask(folder: Path, hosts: str = "made-up") -> Path:
    """An untrained lung mask as a run in a folder."""
    torch.manual_seed(3)
    save_checkpoint(folder / "last.pt", {"ema": LungNet().state_dict(), "knobs": {"hosts": hosts}})
    return folder


@pytest.mark.long
def test_what_it_learns_of_pieces_the_appliance_reads_of_the_whole_scan(tmp_path: Path) -> None:
    """Ml of each class in the lung where it lies. The lungs are the truth's."""
    made = two_lungs()
    host, both = a_host(made), made.right | made.left
    wanted = [
        Wanted("consolidation", 250, "left"),
        Wanted("ground_glass", 250, "right"),
        Wanted("emphysema", 250, "left"),
    ]
    sick = paint(np.random.default_rng(7), made.chest(), wanted)
    k = replace(TINY, steps=260, chests=1, pieces=8, rate=2e-2, ema=0.95)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sick_lungs, "painted", lambda *_: sick
        )  # one chest alone: a matter of seconds
        net = disease.train(k, [host], tmp_path / "run", a_mask(tmp_path / "mask"))

    def network(image: F32) -> dict[str, F32]:
        lungs = np.full(image.shape, -5, np.float32)
        z, y, x = both.shape
        lungs[0, 0, :z, :y, :x] = np.where(both, 5, -5)
        with torch.no_grad():
            return {"lungs": lungs, "disease": net.disease(torch.from_numpy(image)).numpy()}

    entries = {"segment": bundle.network("segment", "0" * 64, drawn=True)}
    backend = CpuBackend("onnxruntime", entries, {"segment": network})  # type: ignore[dict-item]
    scan = Volume("sick", sick.hu, made.spacing, (-150.0, -105.0, 20.0))
    said, _ = judge_disease.read(scan, backend)
    truth = diffuse_truth(sick)
    for said_of, truth_of in ((said.left, truth.left), (said.right, truth.right)):
        for name in (f"{name}_ml" for name in DISEASES):
            ml = getattr(truth_of, name)
            near = 0.4 if name == "emphysema_ml" else 0.2  # its holes are smaller than its cells
            assert getattr(said_of, name) == pytest.approx(ml, rel=near, abs=40), name


def test_the_mask_beside_it_stands_still(tmp_path: Path) -> None:
    mask = a_mask(tmp_path / "mask")
    disease.train(TINY, [a_host(two_lungs())], tmp_path / "run", mask)
    before, state = load_checkpoint(mask / "last.pt"), load_checkpoint(tmp_path / "run/last.pt")
    for part in ("model", "ema"):
        for name, value in before["ema"].items():
            assert torch.equal(state[part][f"lungs.{name}"], value), name
    new = disease.beside(mask, "made-up").state_dict()
    assert any(not torch.equal(state["ema"][n], v) for n, v in new.items() if "disease" in n)


def test_a_mask_that_learned_from_other_hosts_is_refused(tmp_path: Path) -> None:
    mask = a_mask(tmp_path / "mask", hosts="made-up,left-out")
    with pytest.raises(RunError, match="learned from made-up,left-out, not from made-up"):
        disease.train(TINY, [], tmp_path / "run", mask)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, while it exports
@pytest.mark.long
def test_it_answers_alike_in_torch_and_in_onnx() -> None:
    torch.manual_seed(0)
    model = SickLungNet((4, 4, 4, 4), (4, 4, 4)).eval()
    entry = bundle.network("segment", "0" * 64, drawn=True)
    made = exported(model, (32, 32, 32), [port.name for port in entry.outputs])
    image = np.random.default_rng(0).random((1, 1, 32, 48, 64), dtype=np.float32)
    require_parity(model, made, image)
    assert bundle.network_of("segment", made.SerializeToString()) == entry
