"""`scanside web user ...` and `scanside web display`: who may log in to the page, and the screen.

A password or a link is told to who typed the verb, once, and nowhere else. What is changed while
the stage runs, it sees at its next request. Each change is a row of the audit, and is not made
where the row cannot be written.
"""

from __future__ import annotations

from typing import get_args

from appliance.errors import Refuse
from appliance.settings import Settings
from appliance.web.access import link, names, rows
from appliance.web.access.accounts import AccountRole, Accounts


def added(settings: Settings, name: str, role: str, user: str) -> str:
    """The first password of a new account. ScansideError."""
    accounts = Accounts(settings.state)
    wanted = _role(role)
    accounts.refuse(name)
    rows.account(settings.state, f"{user}@cli", "add", name, wanted, _reader(settings, name))
    return accounts.add(name, wanted)


def reset_password(settings: Settings, name: str, user: str) -> str:
    """Another first password. ScansideError."""
    accounts = Accounts(settings.state)
    role = accounts.must(name).role
    rows.account(settings.state, f"{user}@cli", "reset", name, role, _reader(settings, name))
    return accounts.reset(name)


def removed(settings: Settings, name: str, user: str) -> None:
    """ScansideError."""
    accounts = Accounts(settings.state)
    role = accounts.must(name).role
    rows.account(settings.state, f"{user}@cli", "remove", name, role, _reader(settings, name))
    accounts.remove(name)


def listed(settings: Settings) -> list[str]:
    """A line for each account, sorted by name."""
    found = Accounts(settings.state).all()
    if not found:
        return ["no account yet: scanside web user add NAME --role technologist"]
    return [
        f"{one.name:<32} {one.role:<12} {_reader(settings, one.name)}"
        + ("  first password not changed yet" if one.first else "")
        for one in found
    ]


def bound(settings: Settings, user: str, *, revoke: bool) -> str:
    """A link that binds the browser of the attached display; or, revoke: that it is unbound."""
    if revoke:
        was = link.revoke(settings.state)
        rows.display(settings.state, f"{user}@cli", "revoke")
        return "the display may not read any more" if was else "no display was bound"
    address = link.make(settings, "display")
    rows.display(settings.state, f"{user}@cli", "link")
    return (
        f"{address}\nOpen it in the browser of the attached display within ten minutes; it is good "
        "once. The display bound before is unbound by it."
    )


def _reader(settings: Settings, name: str) -> str:
    return names.reader(names.key(settings.state), name)


def _role(word: str) -> AccountRole:
    roles: tuple[AccountRole, ...] = get_args(AccountRole)
    for role in roles:
        if role == word:
            return role
    raise Refuse(
        f"{word!r} is no role", remedy=f"Name one of: {', '.join(roles)}", code="no_such_role"
    )
