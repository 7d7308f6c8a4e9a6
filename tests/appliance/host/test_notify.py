"""sd_notify over a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.host import notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(60)
        yield end


def test_ready_watchdog_and_stopping_are_one_datagram_each(manager, tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    assert notify.ready("3 owed\nREADY=0", environ=environ)
    assert notify.watchdog(environ=environ)
    assert notify.stopping(environ=environ)
    assert [manager.recv(100) for _ in range(3)] == [
        b"READY=1\nSTATUS=3 owed READY=0",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_an_abstract_name_begins_with_at() -> None:
    name = f"scanside-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0" + name)
        assert notify.ready(environ={"NOTIFY_SOCKET": "@" + name})
        assert end.recv(100) == b"READY=1"


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/at/all", "/" + "x" * 300])
def test_without_a_manager_nothing_happens(name) -> None:
    assert not notify.ready(environ={"NOTIFY_SOCKET": name})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time(environ, seconds) -> None:
    assert notify.watchdog_s(environ=environ) == seconds
