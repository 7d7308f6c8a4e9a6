"""What every payload over MQTT has, whatever it says (`message` is the whitelist of them)."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from appliance.report import NOTICE, Record, Sentence

SCHEMA: Literal["scanside.message/1"] = "scanside.message/1"


class Message(Record):
    """What every payload has. `seq` is 0 until the outbox gives it the next number."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )
    schema_: Literal["scanside.message/1"] = Field(default=SCHEMA, alias="schema")
    event_id: uuid.UUID
    seq: int = Field(default=0, ge=0)
    at: datetime
    notice: Sentence = NOTICE

    def to_json(self, seq: int) -> str:
        """The payload with its number."""
        return self.model_copy(update={"seq": seq}).model_dump_json(by_alias=True)
