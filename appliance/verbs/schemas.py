"""The JSON Schemas of everything that crosses the device's border, written from the code.

    python -m appliance.verbs.schemas            write docs/schemas/
    python -m appliance.verbs.schemas --check    exit 1 where a file there is not what the code says

Rules. The code is the definition, the files are for consumers and reviewers, and `make check` holds
the two together. What the device says is described as written: every field is there, but for those
that came later and are left out where they say nothing. What it reads (commands, settings,
manifests) is described as accepted: a field with a default may be missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from appliance.bundle.manifest import Manifest
from appliance.publish.desired import Desired
from appliance.quality.coverage import CoverageExport
from appliance.quality.exchange import Exchange
from appliance.release import record as release
from appliance.report import Report
from appliance.results import message
from appliance.results.compared import ComparisonMessage
from appliance.results.operating import FeedbackExport
from appliance.results.qa import QaMessage
from appliance.results.scanners import ScannerMessage
from appliance.runtime.proof import Proof
from appliance.settings import Settings
from appliance.verbs.doctor import Examination
from appliance.verbs.drift import Said
from appliance.verbs.quality import Examined
from appliance.watching.qa import QaRecord

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

MESSAGES: dict[str, type[BaseModel]] = {
    "message-status": message.StatusMessage,
    "message-info": message.InfoMessage,
    "message-health": message.HealthMessage,
    "message-update": message.UpdateMessage,
    "message-study": message.StudyEvent,
    "message-finding": message.FindingMessage,
    "message-findings": message.FindingsMessage,
    "message-feedback": message.FeedbackMessage,
    "message-comparison": ComparisonMessage,
    "message-scanner": ScannerMessage,
    "message-qa": QaMessage,
    "message-reply": message.ReplyMessage,
    "message-check": message.CheckMessage,
}
WRITTEN: dict[str, type[BaseModel]] = {
    "report": Report,
    **MESSAGES,
    "doctor": Examination,
    "drift": Said,
    "library-exchange": Exchange,
    "examined": Examined,
    "feedback": FeedbackExport,
    "coverage": CoverageExport,
    "proof": Proof,
    "qa": QaRecord,
}
READ: dict[str, type[BaseModel]] = {
    "command": message.Command,
    "desired": Desired,
    "manifest": Manifest,
    "release": release.Release,
    "release-contents": release.Contents,
    "release-lock": release.Lock,
    "release-recall": release.Recall,
    "settings": Settings,
}


def schemas() -> dict[str, str]:
    """File name -> text."""
    written = {
        f"{name}.schema.json": _text(model, "serialization") for name, model in WRITTEN.items()
    }
    read = {f"{name}.schema.json": _text(model, "validation") for name, model in READ.items()}
    return {**written, **read}


class _Written(GenerateJsonSchema):
    """What we write always has every field, whether or not the field has a default; but not one
    that is left out where it says nothing (`exclude_if`)."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "serialization":
            return "serialization_exclude_if" not in field
        return super().field_is_required(field, total)


def _text(model: type[BaseModel], mode: Literal["serialization", "validation"]) -> str:
    made = {
        "$schema": DIALECT,
        **model.model_json_schema(True, schema_generator=_Written, mode=mode),
    }
    return json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def drift(folder: Path) -> list[str]:
    """Names of files that are missing, other than the code says, or nobody's."""
    expected = schemas()
    there = {p.name: p.read_text("utf-8") for p in folder.glob("*.json")}
    return sorted(name for name in {*expected, *there} if expected.get(name) != there.get(name))


def write(folder: Path) -> None:
    """Make the folder hold the schemas and no other .json."""
    expected = schemas()
    folder.mkdir(parents=True, exist_ok=True)
    for stray in folder.glob("*.json"):
        if stray.name not in expected:
            stray.unlink()
    for name, text in expected.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 where --check finds drift."""
    parser = argparse.ArgumentParser(prog="python -m appliance.verbs.schemas")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on drift")
    if not parser.parse_args(arguments).check:
        write(FOLDER)
        return 0
    names = drift(FOLDER)
    for name in names:
        sys.stderr.write(f"docs/schemas/{name} is not what the code says\n")
    if names:
        sys.stderr.write("Run: python -m appliance.verbs.schemas\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
