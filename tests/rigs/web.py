"""The web stage as a real process on a free port of the loopback, and who is logged in there.

    with web.running(tmp_path / "state") as page:        # page.address, page.settings
        with page.logged_in("radiologist") as browser:   # httpx.Client; cookies as a browser's
            assert browser.get("/").status_code == 200
        link = page.link()                               # opens it once, in Chromium

The state folder may hold a journal, reports and a spool that other rigs made, before it starts or
while it runs.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from appliance.demo.child import child, free_port
from appliance.settings import Settings, load
from appliance.web.access import link
from appliance.web.access.accounts import AccountRole, Accounts
from rigs.peers import HANG_S

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Page:
    """A stage that serves."""

    address: str
    """http://127.0.0.1:PORT, without a slash at its end."""
    config: Path
    settings: Settings
    process: subprocess.Popen[bytes]
    log: Path
    """What the stage says on stderr."""

    def browser(self, **options: Any) -> httpx.Client:
        """Nobody yet. `options`: of httpx.Client."""
        return httpx.Client(base_url=self.address, timeout=HANG_S, **options)

    def account(self, role: AccountRole = "radiologist", name: str | None = None) -> str:
        """An account with PASSWORD that is no first one; its name."""
        name = name or f"{role}-{secrets.token_hex(3)}"
        accounts = Accounts(self.settings.state)
        accounts.add(name, role)
        accounts.change(name, PASSWORD)
        return name

    @contextmanager
    def logged_in(
        self, role: AccountRole = "radiologist", **options: Any
    ) -> Iterator[httpx.Client]:
        """Somebody with a fresh account of this role. `options`: of httpx.Client."""
        with self.browser(**options) as browser:
            log_in(browser, self.account(role))
            yield browser

    def link(self, kind: link.Kind = "page") -> str:
        """An address that opens it once, by the button of the page that it shows."""
        return link.make(self.settings, kind)


def log_in(browser: httpx.Client, name: str, password: str = PASSWORD) -> None:
    """By the form, as a person."""
    answer = browser.post("/login", data={"name": name, "password": password, "next": "/"})
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] in {"/", "/password"}


def csrf(browser: httpx.Client, path: str = "/") -> str:
    """What the forms of this session repeat, as a page shows it."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', browser.get(path).text)
    assert found, f"no form with csrf on {path}"
    return found[1]


@contextmanager
def running(state: Path, more: str = "", **web: Any) -> Iterator[Page]:
    """`scanside web` on this state folder, from READY on. `web`: keys of [web]; `more`: further
    lines of the settings."""
    port = free_port()
    state.mkdir(parents=True, exist_ok=True)
    config = state.with_name(f"{state.name}.toml")
    keys = {"enabled": True, "port": port, **web}
    # of texts, numbers, truth values and lists of them JSON and TOML are the same
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    config.write_text("\n".join([f'state = "{state}"', "[web]", *lines, more]) + "\n")
    with ExitStack() as stack:
        log = state.with_name(f"{state.name}.log")
        stderr = stack.enter_context(log.open("ab"))
        name = state.with_name(f"{state.name}.ready")
        name.unlink(missing_ok=True)
        ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        ready.bind(str(name))
        ready.settimeout(HANG_S)
        command = [sys.executable, "-m", "appliance", "web", "--config", str(config)]
        environment = {**os.environ, "NOTIFY_SOCKET": str(name)}
        process = stack.enter_context(child(command, env=environment, stderr=stderr))
        while b"READY=1" not in ready.recv(4096):
            pass
        yield Page(f"http://127.0.0.1:{port}", config, load(config), process, log)
