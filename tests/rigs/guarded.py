"""A box whose slot 2 is on trial, for `guard`: links, flat files, and whoever does what it asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from appliance.host.boot import boot_id
from appliance.update import guard
from appliance.update.units import CONTROL

SCRIPT = Path(guard.__file__).with_name("guard.sh")
STAGES = ("publish", "work", "receive", "retain")
BUSYBOX = shutil.which("busybox", path=f"{os.environ['PATH']}:/bin:/usr/bin")
SHELLS = [["/bin/dash"], *([[BUSYBOX, "sh"]] if BUSYBOX else [])]


@dataclass
class Box:
    """root, trusted, state and control/ in one folder."""

    folder: Path
    shell: list[str] = field(default_factory=lambda: SHELLS[0])
    asked: list[str] = field(default_factory=list)
    """What `guard` asked of the parent, in order."""
    script: Path = SCRIPT

    def __post_init__(self) -> None:
        for number in (1, 2):
            python = self.root / "slots" / str(number) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
        for name in ("current", "previous"):
            (self.root / name).symlink_to(f"slots/{2 if name == 'current' else 1}")
        (self.state / "trial").mkdir(parents=True)
        self.control.mkdir()
        self.trusted.mkdir()
        self.begin_trial()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def trusted(self) -> Path:
        return self.folder / "trusted"

    @property
    def state(self) -> Path:
        return self.folder / "a state = with signs"

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def current(self) -> str:
        return os.readlink(self.root / "current")

    @property
    def reason(self) -> str | None:
        path = self.trusted / "reason"
        return path.read_text() if path.exists() else None

    def begin_trial(self) -> None:
        (self.trusted / "trial").write_text(
            f"slot=2\nprevious=1\nstages={' '.join(STAGES)}\nstate={self.state}\n"
        )

    def starts(self, stage: str, count: int, slot: int = 2) -> None:
        with (self.state / "trial" / f"{stage}.starts").open("a") as file:
            file.write(f"{slot}\n" * count)

    def beat(
        self, stage: str, *, age_s: int = 0, allowed_s: int = 20, starts: int = 1,
        slot: int = 2, boot: str | None = None,
    ) -> None:  # fmt: skip
        up = int(float(Path("/proc/uptime").read_text().split()[0])) - age_s
        (self.state / "trial" / f"{stage}.beat").write_text(
            f"{slot} {up} {allowed_s} {starts} {boot or boot_id()}\n"
        )

    @property
    def alive(self) -> Path:
        return self.trusted / "alive"

    def hurry(self) -> None:
        """From now on a hundredth of the time counts that `apply` may be silent: a machine that was
        started half an hour ago has no older sign of it."""
        whole = SCRIPT.read_text()
        assert "\nupdater=1800 " in whole
        self.script = self.folder / "guard.sh"
        self.script.write_text(whole.replace("\nupdater=1800 ", "\nupdater=18 "))

    def updater(self, *, age_s: int, boot: str | None = None) -> None:
        """`apply` said so long ago that it lives."""
        up = int(float(Path("/proc/uptime").read_text().split()[0])) - age_s
        self.alive.write_text(f"{up} {boot or boot_id()}\n")

    def guard(
        self, verb: str = "watch", *more: str, path: Path | None = None, by_systemd: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """One run of it. `path`: a folder of programs that go before the machine's."""
        env = {**os.environ, CONTROL: str(self.control)}
        if by_systemd:
            del env[CONTROL]
        if path is not None:
            env["PATH"] = f"{path}:{env['PATH']}"
        return subprocess.run(
            [*self.shell, str(self.script), verb, str(self.root), str(self.trusted), *more],
            env=env, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _answer(self) -> None:
        """What `scanside run` does with requests, but that it starts nothing."""
        while not self._stop.wait(0.02):
            for path in sorted(self.control.glob("*.req")):
                with suppress(FileNotFoundError):
                    self.asked.append(path.read_text().strip())
                    path.unlink()
                    temp = self.control / ".answer"
                    temp.write_text("ok\n")
                    temp.replace(path.with_suffix(".rep"))
