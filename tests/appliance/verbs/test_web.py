"""`scanside web user` and `scanside web display` as a person types them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.web.access import link
from appliance.web.access.accounts import Accounts

Typed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    config = tmp_path / "scanside.toml"
    config.write_text(f'state = "{tmp_path}/state"\n[web]\nenabled = true\n')

    def scanside(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "SCANSIDE_CONFIG": str(config)}
        return subprocess.run(
            [sys.executable, "-m", "appliance", "web", *words],
            capture_output=True, text=True, timeout=120, check=False, env=env,
        )  # fmt: skip

    return scanside


def audited(state: Path) -> list[tuple[str, str]]:
    with closing(Journal.open(state)) as journal:
        rows = reversed(journal.audit.rows(100))
        return [(row.action, str(row.detail.get("account", "-"))) for row in rows]


def test_an_account_is_added_reset_listed_and_removed(typed: Typed, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert "no account yet: scanside web user add" in typed("user", "list").stdout
    added = typed("user", "add", "anna", "--role", "technologist")
    assert added.returncode == 0, added.stderr
    assert re.fullmatch(r"[a-z2-9-]{19}\n", added.stdout), "nothing else, so that it can be piped"
    assert "shown once" in added.stderr
    assert Accounts(state).known("anna", added.stdout.strip()) is not None
    reset = typed("user", "reset", "anna")
    assert reset.stdout != added.stdout
    assert Accounts(state).known("anna", added.stdout.strip()) is None
    (line,) = typed("user", "list").stdout.splitlines()
    assert re.fullmatch(r"anna +technologist +[0-9a-f]{16}  first password not changed yet", line)
    assert typed("user", "remove", "anna").stdout == "removed anna\n"
    assert not Accounts(state).all()
    assert audited(state) == [
        ("web_user_add", "anna"),
        ("web_user_reset", "anna"),
        ("web_user_remove", "anna"),
    ]
    stored = [path.read_bytes() for path in state.rglob("*") if path.is_file()]
    assert not any(added.stdout.strip().encode() in data for data in stored)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "anna", "--role", "admin"), "technologist, radiologist, service"),
        (("add", "An na", "--role", "service"), "small letters"),
        (("add", "ben", "--role", "service"), "already"),
        (("reset", "nobody"), "no account"),
        (("remove", "nobody"), "no account"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    typed: Typed, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    state = tmp_path / "state"
    Accounts(state).add("ben", "service")
    before = (state / "web" / "users.json").read_bytes()
    done = typed("user", *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (state / "web" / "users.json").read_bytes() == before


def test_without_its_row_no_account_is_made(typed: Typed, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / JOURNAL_NAME).write_bytes(b"this is no journal" * 500)
    done = typed("user", "add", "anna", "--role", "service")
    assert done.returncode == 1
    assert not done.stdout
    assert not Accounts(state).all()


def test_the_display_gets_a_link_and_is_revoked(typed: Typed, tmp_path: Path) -> None:
    state = tmp_path / "state"
    address, *_ = typed("display").stdout.splitlines()
    assert address.startswith("http://127.0.0.1:8042/start#")
    spent = link.spend(state, address.partition("#")[2])
    assert spent is not None
    assert spent.role == "display"
    assert "may not read any more" in typed("display", "--revoke").stdout
    assert link.display(state) is None
    assert "no display was bound" in typed("display", "--revoke").stdout
    assert [action for action, _ in audited(state)] == [
        "web_display_link",
        "web_display_revoke",
        "web_display_revoke",
    ]


def test_the_settings_of_the_verb_are_those_of_what_stands_below_it(
    typed: Typed, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(f'state = "{tmp_path}/other"\n')
    added = typed("--config", str(other), "user", "add", "anna", "--role", "service")
    assert added.returncode == 0, added.stderr
    assert [one.name for one in Accounts(tmp_path / "other").all()] == ["anna"]


def test_the_stage_is_asked_for_by_the_settings(typed: Typed, tmp_path: Path) -> None:
    assert typed("--configured").returncode == 0
    other = tmp_path / "other.toml"
    other.write_text(f'state = "{tmp_path}/other"\n')
    assert typed("--configured", "--config", str(other)).returncode == 1
