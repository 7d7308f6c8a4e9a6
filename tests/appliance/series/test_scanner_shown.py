"""What of a key a person may see, and another box have."""

from __future__ import annotations

from appliance.series.scanner import shown
from appliance.watching.scanner import UNKNOWN, Scanner

KEY = Scanner(modality="CT", maker="siemens", model="Definition", kernel="B40f", kvp="120",
              thickness="to 1.5 mm", serial="0" * 16)  # fmt: skip


def test_a_makers_own_name_of_a_kernel_is_shown_and_no_number_of_a_device() -> None:
    assert shown(KEY) == KEY.model_copy(update={"serial": UNKNOWN})


def test_what_somebody_wrote_in_place_of_a_kernel_is_not() -> None:
    assert shown(KEY.model_copy(update={"kernel": "Smith^John"})).kernel == UNKNOWN
    assert shown(KEY.model_copy(update={"kernel": UNKNOWN})).kernel == UNKNOWN
