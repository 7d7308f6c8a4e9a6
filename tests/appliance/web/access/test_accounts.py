"""Accounts: made with a first password, known by it, ended by another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import Refuse
from appliance.web.access.accounts import Accounts, NoSuchAccount


def test_a_new_account_is_known_by_its_first_password_alone(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    password = accounts.add("anna", "technologist")
    found = accounts.known("anna", password)
    assert found is not None
    assert (found.role, found.first) == ("technologist", True)
    assert accounts.known("anna", password + "x") is None
    assert accounts.known("ben", password) is None
    assert password not in (tmp_path / "web" / "users.json").read_text()


def test_a_password_of_its_own_ends_the_first_one(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    first = accounts.add("anna", "technologist")
    before = accounts.must("anna").mark
    changed = accounts.change("anna", "a password of a person")
    assert not changed.first
    assert changed.mark != before
    assert accounts.known("anna", first) is None
    assert accounts.known("anna", "a password of a person") == changed


def test_a_reset_is_a_first_password_again(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    accounts.add("anna", "service")
    accounts.change("anna", "a password of a person")
    fresh = accounts.reset("anna")
    found = accounts.known("anna", fresh)
    assert found is not None
    assert (found.role, found.first) == ("service", True)
    assert accounts.known("anna", "a password of a person") is None


def test_a_removed_account_is_known_no_more(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    password = accounts.add("anna", "technologist")
    accounts.add("ben", "radiologist")
    accounts.remove("anna")
    assert [one.name for one in accounts.all()] == ["ben"]
    assert accounts.known("anna", password) is None
    for verb in (accounts.remove, accounts.reset, accounts.must):
        with pytest.raises(NoSuchAccount, match="'anna'"):
            verb("anna")


@pytest.mark.parametrize("name", ["", "Anna", "a b", "../a", "a" * 33, "a\n", "é"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    accounts = Accounts(tmp_path)
    with pytest.raises(Refuse) as raised:
        accounts.refuse(name)
    assert raised.value.code == "no_account_name"
    assert not accounts.all()


def test_a_name_is_given_once(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    accounts.add("anna", "technologist")
    for taken in (lambda: accounts.refuse("anna"), lambda: accounts.add("anna", "service")):
        with pytest.raises(Refuse, match="already"):
            taken()
    assert accounts.must("anna").role == "technologist"
