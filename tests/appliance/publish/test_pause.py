"""Holding the outbox: when a pause is over."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from appliance.publish import pause


@pytest.mark.parametrize(
    ("text", "over"),
    [
        ('{"since": "2026-01-02T03:04:05+00:00"}', False),
        ('{"since": "2026-01-02T02:04:05+00:00"}', True),
        ('{"since": "2026-01-02T04:04:05+00:00"}', True),
        ('{"since": "2026-01-02T03:04:05"}', True),
        ("{}", True),
        ("", True),
        ("7", True),
    ],
)
def test_a_pause_is_over_after_its_time_or_where_its_beginning_is_not_known(
    tmp_path, text, over
) -> None:
    now = datetime(2026, 1, 2, 3, 4, 6, tzinfo=timezone.utc)
    assert not pause.is_over(tmp_path, 3600.0, now)
    (tmp_path / pause.PAUSED).write_text(text)
    assert pause.is_over(tmp_path, 3600.0, now) == over
    assert pause.is_over(tmp_path, 3600.0, now + timedelta(hours=2))
