"""The doctor and the page: whether it can be opened, by whom, and for how long."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.demo.child import free_port
from appliance.settings import Settings
from appliance.store.lock import alone
from appliance.verbs.checks.check import Check, Device
from appliance.verbs.checks.page import page
from appliance.web.access import link
from appliance.web.access.accounts import Accounts
from rigs import web
from rigs.authority import Authority

Checked = Callable[..., Check]


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    def check(**keys: object) -> Check:
        said = {"enabled": True, "port": free_port(), **keys}
        settings = Settings.model_validate({"state": tmp_path / "state", "web": said})
        return page(Device(settings, "scanside.toml"))

    return check


def test_who_wants_no_page_has_none(checked: Checked) -> None:
    check = checked(enabled=False)
    assert check.ok
    assert "enabled = false" in check.text


def test_a_page_that_serves_is_fine_once_somebody_has_an_account(tmp_path: Path) -> None:
    with web.running(tmp_path / "state") as serves:
        device = Device(serves.settings, "scanside.toml")
        before = page(device)
        assert not before.ok
        assert before.remedy == "Type: scanside web user add NAME --role technologist"
        Accounts(serves.settings.state).add("anna", "technologist")
        after = page(device)
    assert after.ok, after
    assert "1 accounts" in after.text
    assert "not running" not in after.text
    stopped = page(device)
    assert stopped.ok
    assert "web is not running" in stopped.text


def test_a_bound_display_is_somebody(checked: Checked, tmp_path: Path) -> None:
    state = tmp_path / "state"
    link.spend(state, link.make(Settings(state=state), "display").partition("#")[2])
    check = checked()
    assert check.ok, check
    assert "the attached display" in check.text


def test_a_port_that_another_program_has_is_named(checked: Checked) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        check = checked(port=other.getsockname()[1])
    assert not check.ok
    assert "scanside.toml: [web]" in check.remedy


def test_a_stage_that_does_not_answer_where_the_settings_say_is_told(
    checked: Checked, tmp_path: Path
) -> None:
    with alone(tmp_path / "state", "web"):
        check = checked()
    assert not check.ok
    assert "systemctl restart 'scanside-web@*'" in check.remedy


def test_damaged_accounts_are_told_with_what_to_do(checked: Checked, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "web"
    folder.mkdir(parents=True)
    (folder / "users.json").write_text("{")
    check = checked()
    assert not check.ok
    assert "scanside web user add" in check.remedy


@pytest.mark.parametrize(("days", "ok"), [(90, True), (10, False), (-1, False)])
def test_a_certificate_that_ends_soon_is_to_be_renewed(
    checked: Checked, tmp_path: Path, days: int, ok: bool
) -> None:
    Accounts(tmp_path / "state").add("anna", "technologist")
    ends = timedelta(days=days, hours=12)
    begins = min(timedelta(days=-1), ends - timedelta(days=1))
    certificate, key = Authority(tmp_path, "ward").issue("localhost", begins=begins, ends=ends)
    check = checked(tls={"certificate": certificate, "key": key})
    assert check.ok is ok, check
    assert f"ends in {days} days" in check.text or f"ends in {days + 1} days" in check.text
    assert ok or "Renew" in check.remedy


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_certificate_that_cannot_be_read_is_named(
    checked: Checked, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "page.pem"
    if content is not None:
        path.write_bytes(content)
    check = checked(tls={"certificate": path, "key": path})
    assert not check.ok
    assert str(path) in check.text
    assert "[web.tls]" in check.remedy
