"""What came over MQTT and `publish` laid down for `apply`: a hint in the state folder, no right.

Rules.
1. Whoever may write into the state folder may have written it. So it can do what costs nothing: let
   `update` look once more, as often as Offers allows, and hold updates. It never takes a release,
   never lets go of a hold, never accepts anything.
2. It counts only where the settings ask for it: a look where `update-check` is among [mqtt]
   commands or [update] desired is true, a hold where [update] desired is.
3. It is taken away before it is obeyed, and read without following a link.
"""

from __future__ import annotations

from appliance.apply.notes import Notes
from appliance.apply.offers import Offers
from appliance.store import updating

ACTOR = "mqtt"


def heed(offers: Offers, notes: Notes) -> bool:
    """Obey the hint that lies there; whether anything was done. StateUnusable."""
    box = offers.box
    hint = updating.taken(box.disk, box.settings.state)
    if hint is None:
        return False
    desired = box.settings.update.desired
    held = hint.hold and desired and not notes.holds()
    if held:
        box.tell("update hold", {"by": ACTOR})
        notes.hold(ACTOR)
    looks = hint.check and (desired or "update-check" in box.settings.mqtt.commands)
    if looks:
        offers.ask_again()
    return held or looks
