"""A box as a folder whose units run in sandboxes made of their own lines (rigs/sandbox.py).

Rules
- Users and folders are made by systemd's own programs, from sysusers.d and tmpfiles.d.
- Slot 1 is the Python of these tests with this checkout, at the path that the units name.
- `systemctl` in the box speaks to the socket of the service manager, as the real one does; who
  listens there is this rig, which notes what was asked and answers that it was done.
- Only root can make such a box: without root, without bubblewrap, or where the kernel lets nobody
  mount, a test is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from appliance.update import guard
from appliance.update.plan import Named
from appliance.update.slots import Complete
from rigs.peers import HANG_S, free_port
from rigs.programs import program
from rigs.sandbox import INACCESSIBLE, Sandboxed, Tree, Unit, sandboxed, unit

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = REPOSITORY / "systemd"
STATE = "/var/lib/scanside"
SIGSYS = 128 + signal.SIGSYS
"""What bubblewrap ends with where a filter ended the program."""
_CHECKOUT, _PACKAGES, _PYTHON = "/srv/checkout", "/srv/site-packages", "/srv/python"
_SYSTEMCTL = """\
#!{python} -IS
import json, socket, sys
manager = socket.socket(socket.AF_UNIX)
manager.connect("/run/systemd/private")
manager.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
sys.exit(int(manager.recv(16)))
"""


def unit_of(name: str, slot: int = 1, *drop_ins: Path) -> Unit:
    """scanside-NAME.service; of a template, whose name ends with @, the instance of the slot."""
    return unit(UNITS / f"scanside-{name}.service", str(slot), *drop_ins)


@contextlib.contextmanager
def box(settings: str = "") -> Iterator[Boxed]:
    """A box that was just installed; `settings` are lines of its scanside.toml."""
    if os.geteuid() != 0:
        pytest.skip("only root can be several users: run it as root, or in a container")
    tried = subprocess.run(
        [program("bwrap"), "--ro-bind", "/", "/", "--unshare-net", "--", "/bin/true"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if tried.returncode != 0:
        pytest.skip(f"bubblewrap cannot make a sandbox here: {tried.stderr.strip()}")
    for name in ("systemd-sysusers", "systemd-tmpfiles", "systemd-analyze"):
        program(name)
    # a short path: those of sockets end at 108 characters (unix(7))
    with TemporaryDirectory(prefix="box-", dir="/var/tmp") as folder:
        made = Boxed(Path(folder), settings)
        with contextlib.ExitStack() as stack:
            stack.callback(made.close)
            yield made


@dataclass
class Service:
    """A unit's main program, or what ended."""

    unit: Unit
    process: subprocess.Popen[bytes]
    pid: int
    notify: socket.socket
    log: Path

    def wait_ready(self) -> None:
        """Until it said so. AssertionError with its last words where it ended instead."""
        self.notify.settimeout(0.2)
        end = time.monotonic() + 2 * HANG_S
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in self.notify.recv(4096):
                    return
            if (code := self.process.poll()) is not None:
                raise AssertionError(f"{self.unit.name} ended with {code}: {self.said()}")
        raise AssertionError(f"{self.unit.name} is not ready: {self.said()}")

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]

    def ended(self) -> int:
        """Wait for its end by itself; its exit code."""
        return self.process.wait(2 * HANG_S)

    def stop(self) -> int:
        """As systemd stops it; its exit code."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended, and bubblewrap does so next
                os.kill(self.pid, signal.SIGTERM)
        return self.ended()


@dataclass
class Boxed:
    """One box; `asked` is what was asked of the service manager, with the uid of who asked."""

    folder: Path
    settings: str = ""
    asked: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.folder / "root"
        self.folder.chmod(0o755)
        self._folders()
        self.tree = self._tree()
        self.port = free_port()
        self.configure(self.settings)
        self.sockets = {
            "scanside-receive.socket": socket.create_server(("127.0.0.1", self.port)),
            "scanside-apply.socket": self._administrators(),
        }
        self._manager = socket.socket(socket.AF_UNIX)
        self._manager.bind(str(self.at("/run/systemd/private")))
        self.at("/run/systemd/private").chmod(0o666)
        self._manager.listen(16)
        self._thread = threading.Thread(target=self._manage, daemon=True)
        self._thread.start()

    def at(self, path: str) -> Path:
        """Where a path of the box lies on this machine."""
        return self.root / path.lstrip("/")

    def configure(self, more: str) -> None:
        """/etc/scanside/scanside.toml, as root leaves it; [update] stands in it."""
        path = self.at("/etc/scanside/scanside.toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'{more}\n[[dicom.allow]]\nae_title = "*"\nhost = "127.0.0.1"\n'
            "[retain]\nreserve_mb = 0\ntarget_free_mb = 0\n"
            '[update]\nroot = "/opt/scanside"\n'
        )

    def trust(self, root: bytes) -> None:
        """The root of the repository that this box believes, as the installer brings it."""
        self.at("/var/lib/scanside-update/1.root.json").write_bytes(root)

    # What the service manager does.

    def start(self, unit: Unit) -> Service:
        """Its condition, what goes before, and its main program; not waited for."""
        made = self._prepared(unit)
        for key in ("ExecCondition", "ExecStartPre"):
            for command, line in zip(made.programs[key], unit.all(key), strict=True):
                code = self._launched(unit, made, command).ended()
                assert code == 0 or line.startswith("-"), f"{unit.name}: {key} ended with {code}"
        return self._launched(unit, made, made.programs["ExecStart"][0])

    def run(self, unit: Unit) -> list[Service]:
        """A oneshot: all of ExecStart and ExecStartPost, each to its end."""
        made = self._prepared(unit)
        found = []
        for command in (*made.programs["ExecStart"], *made.programs["ExecStartPost"]):
            found.append(self._launched(unit, made, command))
            found[-1].ended()
        return found

    def probe(self, unit: Unit, code: str, *words: str) -> Service:
        """Python in the place of the unit's program, to its end."""
        command = ("/opt/scanside/slots/1/bin/python", "-I", "-c", textwrap.dedent(code), *words)
        found = self._launched(unit, replace(self._prepared(unit), output=None), command)
        found.ended()
        return found

    def _prepared(self, unit: Unit) -> Sandboxed:
        """With the folders that systemd makes and gives to its user."""
        for _ in range(2):  # what is hidden may be made by the first pass
            made = sandboxed(unit, self.tree)
            uid, gid, _home = self.tree.users[made.user]
            for path, mode in made.folders:
                at = self.at(path)
                at.mkdir(exist_ok=True)
                os.chown(at, uid, gid)
                at.chmod(mode)
        return made

    def _launched(self, unit: Unit, made: Sandboxed, command: Sequence[str]) -> Service:
        number = len(self.services)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"/run/systemd/notify-{number}"
        notify.bind(str(self.at(name)))
        self.at(name).chmod(0o666)
        log = self.folder / f"{number}.log"
        passed = self.sockets.get(made.socket)
        steps = os.memfd_create("steps", 0)
        handed = None if passed is None else passed.fileno()
        os.write(steps, json.dumps(made.last_steps(self.tree, command, handed)).encode())
        os.lseek(steps, 0, os.SEEK_SET)
        told, tell = os.pipe()
        words = [
            program("bwrap"), *made.options, "--info-fd", str(tell), "--chdir", "/", "--",
            self.python, "-I", "-S", f"{_CHECKOUT}/tests/rigs/enter.py", str(steps),
        ]  # fmt: skip
        with log.open("wb") as errors, contextlib.ExitStack() as stack:
            output = errors
            if made.output is not None:
                output = stack.enter_context(self.at(made.output).open("wb"))
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**made.environment, **self._library, "NOTIFY_SOCKET": name},
                pass_fds=[steps, tell, *([] if passed is None else [passed.fileno()])],
            )
        os.close(steps)
        os.close(tell)
        with os.fdopen(told) as info:
            said = info.read()
        assert said, f"{unit.name}: no sandbox: {log.read_text()}"
        self.services.append(Service(unit, process, json.loads(said)["child-pid"], notify, log))
        return self.services[-1]

    def close(self) -> None:
        """End whatever still runs, those first that were started last."""
        for one in reversed(self.services):
            if one.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
            one.process.wait(HANG_S)
            one.notify.close()
        self._manager.shutdown(socket.SHUT_RDWR)
        self._manager.close()
        self._thread.join(HANG_S)
        for opened in self.sockets.values():
            opened.close()

    # What an installation leaves.

    def _folders(self) -> None:
        for name in (
            "usr", "proc", "dev", "sys", "tmp", "var/tmp", "var/lib", "home", "root", "run/user",
            "run/systemd", "etc", "opt/scanside/guard", "opt/scanside/wheels", INACCESSIBLE,
            *(path.lstrip("/") for path in (_CHECKOUT, _PACKAGES, _PYTHON)),
        ):  # fmt: skip
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / INACCESSIBLE / "dir").mkdir(0o000)
        (self.root / INACCESSIBLE / "reg").touch(0o000)
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).exists():
                (self.root / name).symlink_to(f"usr/{name}")
        for name in ("ld.so.cache", "localtime", "resolv.conf"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), self.root / "etc" / name)
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (self.root / "etc/group").write_text("root:x:0:\n")
        for tool, conf in (
            (["systemd-sysusers"], "sysusers.d/scanside.conf"),
            (["systemd-tmpfiles", "--create"], "tmpfiles.d/scanside.conf"),
        ):
            subprocess.run(
                [program(tool[0]), *tool[1:], f"--root={self.root}", str(UNITS / conf)],
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip
        script = Path(guard.__file__).with_name("guard.sh")
        shutil.copy(script, self.root / "opt/scanside/guard")
        shutil.copy(script.with_name("build.py"), self.root / "opt/scanside/guard")
        self.slot(1)
        (self.root / "opt/scanside/current").symlink_to("slots/1")

    @property
    def python(self) -> str:
        """The Python of this machine, where the box has it."""
        real = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        if real.is_relative_to("/usr"):
            return str(real)
        return str(Path(_PYTHON) / real.relative_to(Path(sys.base_prefix).resolve()))

    @property
    def _library(self) -> dict[str, str]:
        """Where a Python that was built at somebody's home has its library."""
        if self.python.startswith(_PYTHON):
            return {"LD_LIBRARY_PATH": f"{_PYTHON}/lib"}
        return {}

    def slot(self, number: int) -> None:
        """A slot that counts; all of them are the same Python."""
        slot = self.root / "opt/scanside/slots" / str(number)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = slot / "lib" / version / "site-packages"
        packages.mkdir(parents=True)
        (packages / "checkout.pth").write_text(f"{_CHECKOUT}\n{_PACKAGES}\n")
        (slot / "bin").mkdir()
        (slot / "bin/python").symlink_to(self.python)
        (slot / "pyvenv.cfg").write_text(f"home = {Path(self.python).parent}\n")
        complete = Complete(
            slot=number,
            release=f"stable/{number}.json",
            appliance=Named(name="scanside", version="0.1.0", digest="a" * 64),
            python=platform.python_version().rstrip("+"),
            wheels="b" * 64,
            made=datetime.now(timezone.utc),
        )
        (slot / "complete").write_text(complete.model_dump_json(by_alias=True))

    def _tree(self) -> Tree:
        users, groups = {}, {}
        for line in (self.root / "etc/passwd").read_text().splitlines():
            name, _, uid, gid, _, home, _ = line.split(":")
            users[name] = (int(uid), int(gid), home)
        for line in (self.root / "etc/group").read_text().splitlines():
            name, _, gid, _ = line.split(":")
            groups[name] = int(gid)
        bound = [(REPOSITORY, _CHECKOUT), (Path(sysconfig.get_path("purelib")), _PACKAGES)]
        if self.python.startswith(_PYTHON):
            bound.append((Path(sys.base_prefix).resolve(), _PYTHON))
        script = self.folder / "systemctl"
        script.write_text(_SYSTEMCTL.format(python=self.python))
        script.chmod(0o755)
        return Tree(self.root, (*bound, (script, "/usr/bin/systemctl")), users, groups)

    def _administrators(self) -> socket.socket:
        """scanside-apply.socket."""
        path = self.at("/run/scanside-apply/socket")
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(path))
        os.chown(path, 0, self.tree.groups["scanside-admin"])
        path.chmod(0o660)
        made.listen(16)
        return made

    def _manage(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._manager.accept()
                with peer:
                    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                    uid = int.from_bytes(credentials[4:8], sys.byteorder)
                    line = b""
                    while not line.endswith(b"\n"):
                        line += peer.recv(4096)
                    self.asked.append((uid, tuple(json.loads(line))))
                    peer.sendall(b"0")
