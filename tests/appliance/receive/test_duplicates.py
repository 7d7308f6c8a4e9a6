"""A known image that comes again, as the receiver compares it."""

from __future__ import annotations

import threading
from pathlib import Path

from pydicom.uid import RLELossless

from appliance.receive.duplicates import Comparison
from appliance.store.lock import locked
from rigs.receiver import MakeImage


def test_what_has_to_be_decoded_is_decoded_in_one_association_at_a_time(
    make_ct: MakeImage, tmp_path: Path
) -> None:
    stored, new, ration = tmp_path / "stored", tmp_path / "new", tmp_path / "decoding.lock"
    ds = make_ct(0)
    ds.save_as(stored, enforce_file_format=True)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(new, enforce_file_format=True)
    said: list[bool] = []
    other = threading.Thread(target=lambda: said.append(Comparison(ration).same(new, stored)))
    with locked(ration):
        other.start()
        other.join(0.5)
        assert other.is_alive(), "it waits for the one that decodes"
    other.join(60)
    assert said == [True]


def test_equal_bytes_need_no_turn(make_ct: MakeImage, tmp_path: Path) -> None:
    stored, ration = tmp_path / "stored", tmp_path / "decoding.lock"
    make_ct(0).save_as(stored, enforce_file_format=True)
    with locked(ration):
        assert Comparison(ration).same(stored, stored)
