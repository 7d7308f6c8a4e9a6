"""The verbs as a user meets them: the real console script, its exit codes, and the README."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from appliance.__main__ import _as_its_owner, _user, app, main
from appliance.errors import StateUnusable
from appliance.store.journal import JOURNAL_NAME, Journal, steps
from rigs.chests import Dicom
from rigs.device import Device

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"


def scanside(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`scanside ...` in a process of its own, in a terminal of 80 columns."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SCANSIDE_", "TYPER_"))}
    env |= {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", "appliance", *map(str, arguments)],
        capture_output=True, text=True, env=env, timeout=120, check=False, cwd=cwd,
    )  # fmt: skip


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 1 and exactly one line on stderr, no traceback."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("scanside: ")
    assert not [word for word in words if word not in lines[0]], lines[0]


@pytest.fixture
def reports_schema() -> dict[str, Any]:
    schema = json.loads((REPOSITORY / "docs" / "schemas" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return dict(schema)


# what is logged

LATE = """
import logging, sys
from appliance.__main__ import _log
_log()
assert "pydicom" not in sys.modules
import pydicom.config
pydicom.config.debug(False, False)  # as at its import
for library in ("pydicom", "pynetdicom", "pynetdicom.acse"):
    logging.getLogger(library).error("a value: SECRET^NAME")
logging.getLogger("appliance").info("ours")
"""


def test_a_library_that_quotes_headers_is_silent_however_late_it_is_imported() -> None:
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, env=env, check=True
    )
    assert "ours" in done.stderr
    assert "SECRET" not in done.stdout + done.stderr


# a stage


def test_a_stage_that_systemd_started_counts_its_quick_ends(tmp_path: Path) -> None:
    config, count = tmp_path / "scanside.toml", tmp_path / "state" / "run" / "receive.starts"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(
            f'state = "{tmp_path / "state"}"\n[dicom]\nbind = "127.0.0.1"\nport = {port}\n'
        )
        command = [sys.executable, "-m", "appliance", "receive", "--config", str(config)]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        # as systemd does, and then as a parent that systemd started
        for how, quick in (("exec", 1), ("exec", 2), ("", 2)):
            script = f'export SYSTEMD_EXEC_PID=$$; {how} "$@"; exit $?'
            done = subprocess.run(
                ["/bin/sh", "-c", script, "sh", *command],
                env=env, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert_one_line(done, "cannot listen")
            assert json.loads(count.read_text()) == {"quick": quick}


NEXT_RELEASE = """
import sys
from appliance.store.journal import steps
from rigs import later
steps.STEPS = later.steps_to(steps.newest() + 1)
from appliance.__main__ import app
app(sys.argv[1:])
"""
"""This release, but that its journal has made one step more."""


@pytest.mark.parametrize("trial", [True, False])
def test_the_journal_grows_when_work_starts_but_not_while_the_release_is_on_trial(
    trial: bool, site: Device, tmp_path: Path
) -> None:
    state = site.settings.state
    state.mkdir()
    Journal.open(state).close()
    command = [sys.executable, "-c", NEXT_RELEASE, "work", "--config", str(site.toml())]
    env = {k: v for k, v in os.environ.items() if not k.startswith("SCANSIDE_")}
    env |= {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    env |= {"NOTIFY_SOCKET": str(tmp_path / "notify")} | ({"SCANSIDE_TRIAL": "1"} if trial else {})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(env["NOTIFY_SOCKET"])
        notified.settimeout(120)
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as work:
            while b"READY=1" not in notified.recv(4096):
                assert work.poll() is None
            work.terminate()
            _, said = work.communicate(timeout=120)
    assert work.returncode == 0, said
    with closing(sqlite3.connect(state / JOURNAL_NAME)) as db:
        assert steps.header(db).schema == steps.newest() + (0 if trial else 1)


# analyze


def test_analyze_json_is_an_array_of_valid_reports(
    site: Device, dicom: Dicom, tmp_path: Path, tiny_bundle: Path, reports_schema: dict[str, Any]
) -> None:
    scout = dicom.chest(series_uid="1.2.3.1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:2]
    folder = dicom.write([*scout, *dicom.chest()], tmp_path / "in")
    done = scanside("analyze", folder, "--json", "--bundle", tiny_bundle, "--config", site.toml())
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    for report in reports:
        jsonschema.validate(report, reports_schema, cls=jsonschema.Draft202012Validator)
    assert [r["status"] for r in reports] == ["not_analysed", "analysed"]
    assert reports[0]["bundle"] is None
    assert reports[1]["bundle"]["name"] == "tiny-nodule"
    assert reports[1]["findings"]
    assert reports[1]["backend"]["name"] == "onnxruntime"
    for_people = scanside("analyze", folder, "--bundle", tiny_bundle, "--config", site.toml())
    assert for_people.returncode == 0
    assert "research use, not for clinical use" in for_people.stdout
    assert "localizer" in for_people.stdout


def test_analyze_of_nothing_is_exit_1_and_one_line(site: Device, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("no image")
    done = scanside("analyze", tmp_path / "in", "--json", "--config", site.toml())
    assert_one_line(done, "no DICOM was found", "[no_dicom]")
    assert done.stdout == ""


ERRORS = {
    "a folder that is not there": (["analyze", "nowhere"], "[no_such_path]"),
    "a report that is not there": (["replay", "00000000"], "[no_report]"),
    "a bundle that is not there": (["bundle", "activate", "x", "1.0.0"], "[bundle_not_found]"),
    "a bundle file that is not there": (["bundle", "add", "x.scanside"], "[bundle_unreadable]"),
    "no bundle to go back to": (["bundle", "rollback", "lung-nodule"], "[bundle_"),
}


@pytest.mark.parametrize("scenario", ERRORS)
def test_an_error_is_exit_1_and_one_line(scenario: str, site: Device, tmp_path: Path) -> None:
    arguments, code = ERRORS[scenario]
    assert_one_line(scanside(*arguments, "--config", site.toml(), cwd=tmp_path), code)


def test_what_may_not_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/srv/a")

    monkeypatch.setattr("appliance.__main__.app", denied)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("scanside: /srv/a: Permission denied [not_permitted]")


def test_root_is_told_to_be_the_owner_of_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    _as_its_owner(state)  # not made yet
    state.mkdir()
    _as_its_owner(state)  # ours
    if os.geteuid() == 0:
        os.chown(state, 12345, 12345)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(StateUnusable, match=f"{state} belongs to") as refused:
        _as_its_owner(state)
    assert "sudo -u" in refused.value.remedy


def test_a_user_without_a_name_is_audited_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert _user() == f"uid {os.getuid()}"


@pytest.mark.parametrize("verb", [["analyze", "."], ["work"], ["run"], ["replay", "x"]])
def test_a_wrong_settings_file_is_exit_1_and_one_line(verb: list[str], tmp_path: Path) -> None:
    path = tmp_path / "scanside.toml"
    path.write_text(f'state = "{tmp_path}"\n[dicom]\nprot = 104\n')
    assert_one_line(scanside(*verb, cwd=tmp_path), "scanside.toml", "dicom.prot")


def test_settings_are_found_in_the_working_folder(site: Device, tmp_path: Path) -> None:
    site.toml()
    assert scanside("bundle", "list", cwd=tmp_path).returncode == 0
    assert (site.settings.state / "journal-5.sqlite").is_file()


USAGE = {
    "no verb": [],
    "an unknown verb": ["analyse"],
    "an unknown option": ["analyze", ".", "--jsn"],
    "no path": ["analyze"],
    "no address": ["send", "."],
    "an unknown sub-verb": ["bundle", "remove"],
    "a message number that is none": ["outbox", "drop", "first"],
    "nothing to drop": ["outbox", "drop"],
}


@pytest.mark.parametrize("scenario", USAGE)
def test_wrong_usage_is_exit_2(scenario: str, tmp_path: Path) -> None:
    done = scanside(*USAGE[scenario], cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage:" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


# The README says what the code does


def block(name: str) -> str:
    found = re.search(f"<!-- {name}: begin -->(.*?)<!-- {name}: end -->", README.read_text(), re.S)
    assert found is not None, f"README.md has no block {name!r}"
    return found[1].strip().removeprefix("```text").removeprefix("```").removesuffix("```").strip()


def test_the_help_in_the_readme_is_the_help() -> None:
    done = scanside("--help")
    assert done.returncode == 0
    shown = [line.rstrip() for line in done.stdout.strip().splitlines()]
    assert [line.rstrip() for line in block("help").splitlines()] == shown


def test_the_version_is_that_of_the_package() -> None:
    done = scanside("--version")
    assert (done.returncode, done.stdout) == (0, f"scanside {version('scanside')}\n")


def verbs() -> set[str]:
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    return commands | {g.name for g in app.registered_groups if g.name}


def test_the_stage_table_names_real_verbs_and_files() -> None:
    rows = re.findall(
        r"^\| (\w+) \| (`scanside (\w+)`)? ?\| .* \| (.*) \|$", README.read_text(), re.M
    )
    names = [row[0] for row in rows]
    assert {"receive", "work", "publish", "retain"} <= set(names)
    for name, _, verb, files in rows:
        if verb:
            assert verb in verbs(), name
        for file in re.findall(r"`([^`]+)`", files):
            assert (REPOSITORY / file).exists(), file


def test_every_file_and_verb_that_the_readme_names_is_there() -> None:
    text = README.read_text()
    named = set(re.findall(r"`((?:appliance|compile|training|docs|tests|bench)/[\w./-]+)`", text))
    assert len(named) > 3
    assert [file for file in named if not (REPOSITORY / file).exists()] == []
    said = set(re.findall(r"`scanside (\w+)", text))
    assert said - verbs() == set()


def test_the_message_in_the_readme_has_the_fields_of_a_finding() -> None:
    found = re.search(r"```json\n(.*?)```", README.read_text(), re.S)
    assert found
    shown = json.loads(found[1])
    more = shown["finding"].pop("...")
    schema = json.loads((REPOSITORY / "docs/schemas/message-finding.schema.json").read_text())
    known = {name: set(part["properties"]) for name, part in schema["$defs"].items()
             if "properties" in part}  # fmt: skip
    assert more == "..."
    assert shown.keys() == set(schema["properties"])
    assert shown["finding"].keys() <= known["Finding"]
    assert shown["bundle"].keys() == known["BundleRef"]
