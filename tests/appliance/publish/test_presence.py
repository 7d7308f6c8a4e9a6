"""What the device says of itself beyond its status."""

from __future__ import annotations

from pathlib import Path

from appliance.publish.presence import Presence
from appliance.results.message import HealthMessage
from appliance.settings import Settings
from appliance.store.journal import Journal


def test_health_carries_the_head_of_the_audit(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        presence = Presence(Settings(state=tmp_path), journal)
        for action in (None, "a decision", "another one"):
            if action is not None:
                journal.audit.add("tests", action)
            health = presence.health(paused=False)[0].message
            assert isinstance(health, HealthMessage)
            assert health.audit_head is not None
            assert (health.audit_head.row, health.audit_head.hash) == journal.audit.head()
        assert health.audit_head.row == 2
