"""The committed schemas are what the code says, and what really leaves the device fits them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from appliance.store import bell
from appliance.verbs import schemas
from rigs.peers import ROOT, a_report, an_event, ask, commit, until

SCHEMAS = schemas.schemas()


def test_the_committed_schemas_are_what_the_code_says() -> None:
    assert schemas.drift(schemas.FOLDER) == []
    assert schemas.main(["--check"]) == 0


def test_drift_is_found_and_written_away(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    assert schemas.main([]) == 0
    (tmp_path / "report.schema.json").write_text("{}\n")
    (tmp_path / "stray.json").write_text("{}\n")
    (tmp_path / "command.schema.json").unlink()
    assert schemas.main(["--check"]) == 1
    assert capsys.readouterr().err.count("is not what the code says") == 3
    assert schemas.main([]) == 0
    assert schemas.main(["--check"]) == 0


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_schema(name) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMAS[name]))


def test_what_leaves_the_device_fits_its_schema(broker, subscriber, settings_for, serve) -> None:
    stage = serve(settings_for(broker.port, health_s=0.3))
    commit(stage.journal, a_report(findings=2))
    stage.journal.owed.add([an_event(1)])
    bell.ring(stage.settings.state, "publish")
    until(lambda: subscriber.states()[-1:] == ["online"])
    ask(subscriber, "ping", {"reply_to": f"{ROOT}/reply/x"})
    until(lambda: subscriber.payloads("/reply/x") and subscriber.payloads("/health"))
    until(lambda: len(subscriber.payloads("/event")) == 2)
    stage.stop()
    until(lambda: subscriber.states()[-1:] == ["stopped"])
    seen = set()
    for letter in subscriber.got:
        if "/cmd/" in letter.topic:
            continue
        payload = json.loads(letter.payload)
        text = schemas.schemas()[f"message-{payload['type']}.schema.json"]
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.validate(payload, json.loads(text), format_checker=checker)
        if payload.get("report"):
            report = schemas.schemas()["report.schema.json"]
            jsonschema.validate(payload["report"], json.loads(report), format_checker=checker)
        seen.add(payload["type"])
    assert seen == {"status", "info", "health", "study", "finding", "reply"}
    seqs = [json.loads(m.payload)["seq"] for m in subscriber.got if "/cmd/" not in m.topic]
    assert min(seqs) > 0
    assert len(seqs) == len(set(seqs))
