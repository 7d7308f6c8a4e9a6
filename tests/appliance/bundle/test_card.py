"""The model card says what the manifest says, and nothing in it is markup."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from appliance.bundle import trust
from appliance.bundle.card import NOT_STATED, card
from appliance.bundle.manifest import Figure, Quantized, Shapes


def test_the_card_states_what_a_reader_needs(tiny_bytes: bytes) -> None:
    loaded = trust.check(tiny_bytes)
    text = card(loaded.manifest, loaded.digest)
    for said in (
        *("not for clinical use", "## Intended use", loaded.digest, "CHEST, THORAX, LUNG"),
        *("up to 2.5 mm in full", "18 to 120", "Apache-2.0", "## Never tested on", "emphysema"),
        *("not a probability of malignancy", "1.0.0"),
    ):
        assert said in text
    assert f"## Figures\n\n{NOT_STATED}" in text
    assert text.index("not for clinical use") < text.index("## Identity")


def test_the_card_says_up_to_where_only_masses_are_looked_for(tiny_bytes: bytes) -> None:
    manifest = trust.check(tiny_bytes).manifest
    limits = manifest.accepts.spacing_mm.model_copy(update={"masses": 10.0})
    accepts = manifest.accepts.model_copy(update={"spacing_mm": limits})
    row = "| masses alone | up to 10 mm |"
    assert row in card(manifest.model_copy(update={"accepts": accepts}), "0" * 64)
    assert row not in card(manifest, "0" * 64)


def test_figures_are_listed_by_name_with_their_intervals(tiny_bytes: bytes) -> None:
    manifest = trust.check(tiny_bytes).manifest
    auc = Figure(value=0.98312, low=0.971, high=0.99, n=1245)
    figures = {"b_auc": auc, "at 10": 1.0, "at 2": 0.5}
    made = manifest.provenance.model_copy(
        update={"figures": figures, "never_tested": ("Children.",)}
    )
    text = card(manifest.model_copy(update={"provenance": made}), "0" * 64)
    rows = [line for line in text.split("\n") if line.startswith(("| at", "| b\\_"))]
    assert rows == [
        "| at 2 | 0.5 |  |  |",
        "| at 10 | 1 |  |  |",
        "| b\\_auc | 0.9831 | 0.971 to 0.99 | 1245 |",
    ]
    assert "\n- Children." in text[text.index("## Never tested on") :]


@pytest.mark.parametrize("wrong", [{"low": 0.5}, {"low": 0.6, "high": 0.5}, {"n": 0}])
def test_an_interval_has_two_ends_in_order(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Figure.model_validate({"value": 0.5, **wrong})


def test_text_of_a_manifest_is_no_markup(tiny_bytes: bytes) -> None:
    manifest = trust.check(tiny_bytes).manifest
    hostile = "<script>x</script>\n# Safe | for [use](http://x)"
    text = card(manifest.model_copy(update={"intended_use": hostile, "title": " "}), "0" * 64)
    assert "<script>" not in text.replace("\\<", "")
    assert "\n# Safe" not in text
    assert text.startswith(f"# {NOT_STATED}")


def test_the_card_of_a_bundle_for_radiographs_says_nothing_of_slices(
    tiny_radiograph_bytes: bytes,
) -> None:
    loaded = trust.check(tiny_radiograph_bytes)
    text = card(loaded.manifest, loaded.digest)
    for said in ("demonstration", "CR, DX", "0 to 5", "age, body part", "Frontal views only"):
        assert said in text
    assert "mm" not in text[text.index("## Accepted") : text.index("## Networks")]
    assert "Spacing" not in text


def test_the_card_says_how_a_network_was_quantised(tiny_bytes: bytes) -> None:
    manifest = trust.check(tiny_bytes).manifest
    way = Quantized(method="minmax", scales_digest="a" * 64, images=16, images_digest="b" * 64)
    network = manifest.networks["segment"].model_copy(update={"quantized": way})
    networks = {**manifest.networks, "segment": network}
    text = card(manifest.model_copy(update={"networks": networks}), "0" * 64)
    row = f"segment: int8 by minmax on 16 images ({'b' * 12}), scales {'a' * 12}."
    assert row in text
    assert "int8 by" not in card(manifest, "0" * 64)


def test_shapes_for_the_probe_are_data_with_a_licence(tiny_bytes: bytes) -> None:
    manifest = trust.check(tiny_bytes).manifest
    given = Shapes(file="s.npz", digest="d" * 64, count=7, source="A|B", licence="CC BY 3.0")
    for sources in (manifest.provenance.sources, ()):
        made = manifest.provenance.model_copy(update={"sources": sources})
        bare = manifest.model_copy(update={"provenance": made})
        text = card(bare.model_copy(update={"shapes": given}), "0" * 64)
        row = "| 7 shapes of nodules for the probe, carried: A\\|B | CC BY 3.0 | "
        assert row + "d" * 64 + " |" in text
        assert "for the probe" not in card(bare, "0" * 64)
