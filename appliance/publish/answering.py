"""What the device does with the commands that its link hears (`commands` says what they are).

Rules
- A command is obeyed, written down, answered, and only then acknowledged. One that was acknowledged
  without being obeyed was over its ration.
- Findings go first: a turn of the stage sends what is owed, then answers at most A_TURN commands.
- A reply is drawn a number and made only where the link has a place for it, so that replies never
  pile up and leave no gap in `seq`. What was asked is obeyed all the same.
- What was obeyed is audited, but for pings and a `resume` that changed nothing; what was refused is
  an event, of which the journal keeps the newest.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import paho.mqtt.client as paho

from appliance.publish import commands, desired, pause
from appliance.publish.link import Direct, Link
from appliance.publish.presence import utc_now
from appliance.results import device, message
from appliance.results.mqtt import MQTT, is_about
from appliance.settings import Settings
from appliance.store import updating
from appliance.store.events import CommandRefused
from appliance.store.files import DISK
from appliance.store.journal import Journal
from appliance.store.updating import Hint

A_TURN = 4
"""Each may cost a sync of the disk, and a finding may come meanwhile."""


class Answering:
    """Obeys and answers. `changed` is called where the outbox or the status may have changed."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._changed = changed
        self._clock = clock
        self._root = message.root(settings.site.name, settings.site.device)
        self._rations = {
            verb: commands.Ration(*ration) for verb, ration in commands.RATIONS.items()
        }
        self._wishes = commands.Ration(*desired.RATION)
        self._refusals = commands.Ration(*commands.REFUSALS)

    def turn(self, link: Link) -> None:
        """The oldest commands that were heard, as many as a turn has."""
        for _ in range(A_TURN):
            if not link.heard or link.lost is not None:
                return
            letter = link.heard.popleft()
            self._one(link, letter)
            link.acknowledge(letter)

    def _one(self, link: Link, letter: paho.MQTTMessage) -> None:
        if letter.topic == f"{self._root}/{desired.TOPIC}":
            self._wish(bytes(letter.payload))
            return
        asked = commands.parse(
            self._root, letter.topic, bytes(letter.payload), retained=letter.retain
        )
        known = asked.command.id if isinstance(asked, commands.Asked) else asked.id
        answer = self._answered(asked)
        if not answer.ok:
            if not self._refusals.take(self._clock()):
                return
            refused = CommandRefused(verb=asked.verb, id=known, text=answer.text)
            self._journal.events.add(refused)
        elif answer.changed:
            self._journal.audit.add("mqtt", "command", verb=asked.verb, id=known, text=answer.text)
        if asked.reply_to is None or not link.has_place_for_a_reply:
            return
        number = self._journal.owed.next_seq()
        reply = device.of_reply(
            asked.reply_to,
            verb=asked.verb,
            id=known,
            ok=answer.ok,
            text=answer.text,
            device=self._root,
            number=number,
            at=utc_now(),
        )
        correlation = getattr(letter.properties, "CorrelationData", None)
        link.replies.append(Direct.of((reply, number), self._root, correlation=correlation))

    def _wish(self, payload: bytes) -> None:
        """What the fleet desires becomes a hint for `apply`; there is no reply."""
        ours = self._settings.update
        if not ours.desired or ours.root is None or not self._wishes.take(self._clock()):
            return
        found = desired.hint(payload, ours.channel)
        if isinstance(found, Hint):
            updating.hint(DISK, self._settings.state, found)
        elif found is not None and self._refusals.take(self._clock()):
            text = f"{desired.TOPIC}: {found}"
            self._journal.events.add(CommandRefused(verb="unknown", id="", text=text))

    def _answered(self, asked: commands.Asked | commands.Refused) -> commands.Answer:
        if isinstance(asked, commands.Refused):
            return commands.Answer(False, asked.text)
        if asked.verb not in self._settings.mqtt.commands:
            listed = self._settings.mqtt.commands
            return commands.Answer(False, commands.not_listed(asked.verb, listed))
        ration = self._rations.get(asked.verb)
        if ration is not None and not ration.take(self._clock()):
            return commands.Answer(False, "too many of this command, ask again later")
        return commands.obey(asked, self)

    # What a command does (commands.Controls).

    def resend(self, report_id: uuid.UUID) -> int:
        report = self._journal.reports.get(report_id)
        key = self._journal.reports.series_of(report_id)
        if report is None or key is None:
            return 0
        of_study = self._journal.owed.of_study(MQTT, key.study)
        keys = [row.key for row in of_study if is_about(row.body, report)]
        return self._journal.owed.again(MQTT, keys)

    def set_stat(self, study: str) -> int:
        return self._journal.series.set_stat_of_study(study)

    def check_for_update(self) -> bool:
        ours = self._settings.update
        if ours.root is None or ours.url is None:
            return False
        updating.hint(DISK, self._settings.state, Hint(check=True))
        return True

    def set_paused(self, paused: bool) -> bool:
        changed = pause.set_paused(self._settings.state, paused)
        self._changed()
        return changed
