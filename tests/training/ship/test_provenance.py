"""Where a bundle comes from: digests that tell data apart, figures as a manifest has them."""

from __future__ import annotations

from pathlib import Path

from appliance.bundle.manifest import Figure, Provenance
from training.ship.provenance import (
    code_digest,
    figure,
    file_source,
    folder_source,
    provenance,
)


def test_the_digest_of_a_folder_is_of_its_files_whatever_their_order(tmp_path: Path) -> None:
    one, two, other = tmp_path / "one", tmp_path / "two", tmp_path / "other"
    for folder, names in ((one, "ab"), (two, "ba"), (other, "ab")):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name if folder != other else "changed")
    digests = [folder_source("CT", "CC BY 4.0", f)["digest"] for f in (one, two, other)]
    assert digests[0] == digests[1] != digests[2]
    assert file_source("a", "CC BY 4.0", one / "a")["digest"] != digests[0]


def test_a_provenance_is_one_that_a_manifest_takes() -> None:
    figures = {"auc": figure(0.9, [0.8, 0.95], 40), "share": 0.25, "bare": figure(1.0, None, None)}
    source = {"name": "x", "licence": "CC BY 4.0", "digest": "0" * 64}
    made = Provenance.model_validate(provenance([source], 7, figures, ["a note"]))
    assert made.seed == 7
    assert made.code_digest == code_digest()
    assert made.figures["auc"] == Figure(value=0.9, low=0.8, high=0.95, n=40)
    assert made.figures["share"] == 0.25
    assert made.figures["bare"] == Figure(value=1.0)
    assert tuple(made.notes) == ("a note",)
