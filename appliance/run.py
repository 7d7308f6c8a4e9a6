"""`scanside run`: all stages under one parent, for a laptop or a demo.

On a device systemd does this, one unit a stage. The rules are the same: each stage is a process of
its own; one that dies is started again, slower each time (1 s doubling to 30 s); SIGTERM, Ctrl-C or
the end of the terminal stops all, senders first, so that what was acknowledged is still worked on
and published. The pause is this parent's: that of `store/starts.py` is for what systemd starts.
"""

from __future__ import annotations

import ctypes
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appliance import stages as table
from appliance.settings import Settings

log = logging.getLogger("scanside.run")

STOP_WITHIN_S = 40.0
RESTART_MAX_S = 30.0


@dataclass
class Child:
    """One stage as a child process, its notify socket and when it may start again."""

    name: str
    notify: socket.socket
    notify_path: str
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    failures: int = 0
    started: float = 0.0
    start_at: float = field(default=0.0)


def run(
    config: Path | None,
    settings: Settings,
    ready: Callable[[], object] | None = None,
) -> int:
    """Start all stages that the settings, those of the file `config`, ask for, and supervise them
    until SIGTERM, SIGINT or SIGHUP. 0 when all stopped by themselves within the time they have."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scanside-run-")))
        stages = [stack.enter_context(_stage(row.name, folder)) for row in table.of(settings)]
        ended = stack.enter_context(_signals())
        selector = stack.enter_context(selectors.DefaultSelector())
        for stage in stages:
            selector.register(stage.notify, selectors.EVENT_READ, stage)
        selector.register(ended, selectors.EVENT_READ, None)
        announced = False
        while True:
            now = time.monotonic()
            for stage in stages:
                _keep_running(stage, now, config)
            for key, _ in selector.select(timeout=0.5):
                if key.data is None:
                    return _stop(stages)
                message = key.data.notify.recv(4096)
                key.data.ready |= b"READY=1" in message.split(b"\n")
            if not announced and all(stage.ready for stage in stages):
                announced = True
                log.info("all stages are ready")
                if ready is not None:
                    ready()


def _keep_running(stage: Child, now: float, config: Path | None) -> None:
    if stage.process is not None and (code := stage.process.poll()) is not None:
        stage.process, stage.ready = None, False
        stage.failures = 1 if now - stage.started > 60 else stage.failures + 1
        stage.start_at = now + min(RESTART_MAX_S, 2.0 ** (stage.failures - 1))
        log.error("%s ended with %s; next start in %.0f s", stage.name, code, stage.start_at - now)
    if stage.process is None and now >= stage.start_at:
        command = [sys.executable, "-m", "appliance", stage.name]
        if config is not None:
            command += ["--config", str(config)]
        stage.started = now
        stage.process = subprocess.Popen(
            command,
            env={**os.environ, "NOTIFY_SOCKET": stage.notify_path},
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one thread here
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them in order
        )


def _end_with_parent() -> None:
    """In the child: SIGTERM when the parent dies without a word (PR_SET_PDEATHSIG, prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _stop(stages: list[Child]) -> int:
    until = time.monotonic() + STOP_WITHIN_S
    clean = True
    for stage in reversed(stages):
        if stage.process is None or stage.process.poll() is not None:
            continue  # waiting to be started again
        stage.process.terminate()
        try:
            code = stage.process.wait(max(0.1, until - time.monotonic()))
            if code == -signal.SIGTERM and not stage.ready:
                continue  # it had not begun yet
            if code != 0:
                log.error("%s ended with %s when it was told to stop", stage.name, code)
                clean = False
        except subprocess.TimeoutExpired:
            log.error("%s did not stop in time and is killed", stage.name)
            stage.process.kill()
            stage.process.wait()
            clean = False
    return 0 if clean else 1


@contextmanager
def _stage(name: str, folder: Path) -> Iterator[Child]:
    path = str(folder / f"{name}.notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        stage = Child(name, notify, path)
        try:
            yield stage
        finally:
            if stage.process is not None and stage.process.poll() is None:
                stage.process.kill()
                stage.process.wait()


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that becomes readable at SIGTERM, SIGINT or SIGHUP (not under nohup)."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield receiver
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        receiver.close()
        sender.close()
