"""The model card says what the manifest says, and nothing in it is markup."""

from __future__ import annotations

from appliance.bundle import trust
from appliance.bundle.card import NOT_STATED, card


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


def test_figures_are_listed_by_name(tiny_bytes: bytes) -> None:
    manifest = trust.check(tiny_bytes).manifest
    made = manifest.provenance.model_copy(update={"figures": {"b_auc": 0.98312, "a": 1.0}})
    text = card(manifest.model_copy(update={"provenance": made}), "0" * 64)
    assert "| a | 1 |\n| b\\_auc | 0.9831 |" in text


def test_text_of_a_manifest_is_no_markup(tiny_bytes: bytes) -> None:
    manifest = trust.check(tiny_bytes).manifest
    hostile = "<script>x</script>\n# Safe | for [use](http://x)"
    text = card(manifest.model_copy(update={"intended_use": hostile, "title": " "}), "0" * 64)
    assert "<script>" not in text.replace("\\<", "")
    assert "\n# Safe" not in text
    assert text.startswith(f"# {NOT_STATED}")
