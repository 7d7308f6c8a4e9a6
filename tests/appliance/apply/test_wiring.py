"""The slots of a box as `apply` has them: what an OS upgrade took away is made anew."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance.apply.wiring import KeptSlots
from appliance.errors import ScansideError
from appliance.update import slots
from rigs.slotted import TinyRelease, box, says


@pytest.mark.long
def test_previous_is_made_anew_where_its_python_is_gone(tmp_path: Path) -> None:
    places = box(tmp_path / "box")
    for number in (1, 2):
        version = f"{number}.0.0"
        TinyRelease(tmp_path / version, version).build(places, number)
        slots.switch(places, number)
    kept = KeptSlots(places, Path(sys.executable))
    assert kept.mend() is None, "it starts"
    python = places.slot(1) / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.9")
    assert not slots.starts(places, 1)
    assert kept.mend() == 1
    assert says(places, 1) == "1.0.0"
    assert (kept.current(), kept.previous()) == (2, 1)
    python.unlink()
    with pytest.raises(ScansideError):
        KeptSlots(places, Path("/nowhere/python3")).mend()
