"""The source folder of lung-compare: a device takes it; where demons are better there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from appliance.bundle import trust
from appliance.bundle.exams import Compare
from compile.pack import pack
from training.implant.pairs.pair import Chest
from training.learn.checkpoint import save_checkpoint
from training.recipes.compare import export, golden_inputs
from training.recipes.compare.displace import WithLungs


def judged(network: float) -> dict[str, Any]:
    def row(p95: float) -> dict[str, float]:
        return {"mean_mm": p95 / 2, "median_mm": p95 / 3, "p95_mm": p95, "n": 900}

    rows = {"boxes": row(20.0), "demons": row(6.0), "network x2": row(network)}
    return {"all": rows, "each": {}, "passes": 2, "ships": network < 6.0}


def export_with(runs: Path, monkeypatch: pytest.MonkeyPatch, figures: dict[str, Any]) -> Path:
    (runs / "run").mkdir(exist_ok=True)
    save_checkpoint(runs / "run" / "last.pt", {"ema": WithLungs().state_dict()})
    knobs = {"hosts": "phantom-1", "seed": 7}
    (runs / "run" / "metrics.json").write_text(json.dumps({"knobs": knobs}))
    (runs / "figures.json").write_text(json.dumps(figures))
    words = ["--out", str(runs / "out"), "--name", "run", "--figures", str(runs / "figures.json")]
    monkeypatch.setattr("sys.argv", ["export", *words])
    export.main()
    return runs / "out"


@pytest.mark.long
def test_a_network_that_beats_demons_becomes_a_bundle(
    host: Chest, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = golden_inputs.record
    monkeypatch.setattr(export, "record", lambda data, out: plain(data, out, host))
    out = export_with(runs, monkeypatch, judged(5.0))
    loaded = trust.check(pack(out, phantom=True))
    line = loaded.manifest.line_of(Compare)
    assert (line.displace.passes, line.displace.output) == (2, "field")
    assert loaded.manifest.provenance.figures["tre_network_p95_mm"].value == 5.0  # type: ignore[union-attr]
    assert [golden.network for golden in loaded.manifest.goldens] == ["displace"]
    assert len(loaded.networks["displace"]) < 3_000_000


def test_where_demons_are_better_nothing_is_left_to_pack(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "out").mkdir()
    (runs / "out" / "source.json").write_text("{}")
    out = export_with(runs, monkeypatch, judged(7.0))
    assert not out.exists()
    assert "does not ship: demons register better (p95 7.0 mm" in capsys.readouterr().out
