"""What `receive` says when it wakes `work`."""

from __future__ import annotations

from pathlib import Path

from appliance.store import bell, hint
from appliance.store.hint import Hint


def test_a_hint_is_heard_by_work_as_it_was_sent(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    said = [Hint(study="1.2", series="1.2.3"), Hint(association="a")]
    hint.send(tmp_path, said[0])  # nobody hears it yet
    with bell.hearing(tmp_path, "work") as heard:
        for one in said:
            hint.send(tmp_path, one)
        payloads = bell.take(heard)
    assert [Hint.model_validate_json(payload) for payload in payloads] == said
    assert payloads[0] == b'{"study":"1.2","series":"1.2.3"}'
