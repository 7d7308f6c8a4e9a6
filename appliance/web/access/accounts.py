"""Who may log in: state/web/users.json.

Rules
- An account is made on a terminal of the device, which prints its first password once; the stage
  never prints one, and knows none before it is typed. The first login must change it.
- The password is kept as `passwords` says. `mark` changes with it: a session that began under
  another password has ended.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from appliance.errors import Refuse
from appliance.report import Record
from appliance.store.files import DISK, Disk
from appliance.web.access import passwords
from appliance.web.access.kept import Kept

NAME = r"^[a-z0-9][a-z0-9._-]{0,31}$"
Name = Annotated[str, Field(pattern=NAME)]
AccountRole = Literal["technologist", "radiologist", "service"]


class NoSuchAccount(Refuse):
    code = "no_such_account"
    remedy = "`scanside web user list` shows those that there are."


class Account(Record):
    """One person, or one device of a ward."""

    name: Name
    role: AccountRole
    password: passwords.Hashed
    first: bool = True
    """Whether the password is the one that was printed, which the next login changes."""

    @property
    def mark(self) -> str:
        """Another one for each password."""
        return hashlib.sha256(f"{self.password.salt}{self.password.hash}".encode()).hexdigest()[:16]


class Users(Record):
    """The file."""

    accounts: tuple[Account, ...] = ()

    def named(self, name: str) -> Account | None:
        return next((one for one in self.accounts if one.name == name), None)

    def with_account(self, account: Account) -> Users:
        """With this one, in place of another of its name."""
        rest = tuple(one for one in self.accounts if one.name != account.name)
        return Users(accounts=tuple(sorted((*rest, account), key=lambda one: one.name)))


class Accounts:
    """The accounts of a state folder."""

    def __init__(self, state: Path, disk: Disk = DISK) -> None:
        self._kept = Kept(state, "users.json", Users, disk)

    def all(self) -> tuple[Account, ...]:
        return self._kept.now().accounts

    def named(self, name: str) -> Account | None:
        return self._kept.now().named(name)

    def known(self, name: str, password: str) -> Account | None:
        """The account with this name and password. Busy."""
        found = self.named(name)
        kept = passwords.DECOY if found is None else found.password
        return found if passwords.fits(password, kept) else None

    def add(self, name: str, role: AccountRole) -> str:
        """A new one; its first password. Refuse where there is one of this name."""
        password = passwords.generated()
        account = Account(name=name, role=role, password=passwords.hashed(password))

        def change(users: Users) -> Users:
            _refuse(users, name)
            return users.with_account(account)

        self._kept.change(change)
        return password

    def refuse(self, name: str) -> None:
        """Refuse where `add` would: the name is taken, or is none."""
        _refuse(self._kept.now(), name)

    def must(self, name: str) -> Account:
        """NoSuchAccount."""
        return _must(self._kept.now(), name)

    def reset(self, name: str) -> str:
        """Another first password; every session of the account ends. NoSuchAccount."""
        password = passwords.generated()
        self._set(name, passwords.hashed(password), first=True)
        return password

    def change(self, name: str, password: str) -> Account:
        """The password that its owner chose. NoSuchAccount; Busy."""
        return self._set(name, passwords.hashed(password), first=False)

    def remove(self, name: str) -> Account:
        """It is gone, and its sessions end. NoSuchAccount."""
        gone: list[Account] = []

        def change(users: Users) -> Users:
            gone.append(_must(users, name))
            return Users(accounts=tuple(one for one in users.accounts if one.name != name))

        self._kept.change(change)
        return gone[0]

    def _set(self, name: str, password: passwords.Hashed, *, first: bool) -> Account:
        update = {"password": password, "first": first}
        after = self._kept.change(
            lambda users: users.with_account(_must(users, name).model_copy(update=update))
        )
        return _must(after, name)


def _refuse(users: Users, name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise Refuse(
            f"{name[:40]!r} is no name of an account",
            remedy="Write up to 32 small letters, digits, and . _ - between them.",
            code="no_account_name",
        )
    if users.named(name) is not None:
        raise Refuse(
            f"there is an account {name!r} already",
            remedy=f"Type: scanside web user reset {name}",
            code="account_exists",
        )


def _must(users: Users, name: str) -> Account:
    found = users.named(name)
    if found is None:
        raise NoSuchAccount(f"there is no account {name!r}")
    return found
