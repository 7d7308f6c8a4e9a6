"""A unit file as a sandbox of bubblewrap: what its own lines allow, and nothing beside.

Rules
- Every line of [Service] that gives or takes a right is expressed here as systemd.exec(5) has it;
  what bubblewrap cannot express stands in LEFT_OUT with the reason. Of both the test of this table
  knows no third.
- The box is a folder: its root is the sandbox's root, so that paths are those that the units name.
  Of this machine it gets /usr, /proc, /dev and /sys, and what is bound from elsewhere
  (`Tree.bound`).
- Of several lines that name one path the stricter one holds, and the one of the deeper path wins:
  so systemd sorts them (namespace.c).
- bubblewrap runs as root and makes the mounts; rigs/enter.py then becomes the unit's user and loads
  the filters of rigs/syscalls.py, in the order of systemd.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rigs import syscalls

Line = tuple[str, str]

LEFT_OUT: Mapping[str, str] = {
    # what systemd does with processes; the test that starts them stands in for it
    "Type": "READY=1 is waited for of every one; a oneshot is waited for to its end",
    "Restart": "nothing is started again here: its end is what a test looks at",
    "RestartSec": "the same",
    "RemainAfterExit": "what systemd remembers of an end",
    "TimeoutStartSec": "the tests have a bound of their own",
    "TimeoutStopSec": "the same",
    "RuntimeDirectoryPreserve": "what systemd leaves at an end",
    "StandardError": "it goes to a file, that a test can say it",
    # control groups, which bubblewrap makes none of
    "CPUWeight": "a control group",
    "IOWeight": "a control group",
    "TasksMax": "a control group",
    "MemoryHigh": "a control group",
    "MemoryMax": "a control group",
    "OOMPolicy": "what systemd does after the kernel has ended a process",
    "DevicePolicy": "a control group; without the drop-in of a GPU /dev holds no device",
    "DeviceAllow": "the same",
    "IPAddressDeny": "a control group; the units that have it have no network either",
    # how much of the machine, not what of it
    "Nice": "no right",
    "IOSchedulingClass": "no right",
    "OOMScoreAdjust": "no right",
    "LimitFSIZE": "no right",
    # rights
    "ProtectProc": "bubblewrap mounts /proc without hidepid",
    "AmbientCapabilities": "empty is what there is without it",
}
"""Key of [Service] -> why it is not expressed."""

OTHER_SECTIONS: Mapping[str, str] = {
    "Unit": "order and conditions of a start: the tests start in that order",
    "Install": "what `systemctl enable` links",
    "Timer": "when a unit is started",
    "Path": "when a unit is started",
    "Socket": "made by rigs/boxed.py, which passes them on",
}
"""Sections that say nothing of the rights of a process."""

_BEFORE_SETTING = ("CAP_SETUID", "CAP_SETGID")
"""What enter.py needs to become another user; the kernel takes both from it then."""
_READ_WRITE, _READ_ONLY, _INACCESSIBLE = "rw", "ro", "inaccessible"
_STRICTEST = (_READ_WRITE, _READ_ONLY, _INACCESSIBLE)
INACCESSIBLE = "run/systemd/inaccessible"


@dataclass(frozen=True)
class Unit:
    """The lines of [Service], in order, with the instance put in."""

    name: str
    lines: tuple[Line, ...]

    def all(self, key: str) -> list[str]:
        return [value for name, value in self.lines if name == key]

    def words(self, key: str) -> list[str]:
        return [word for value in self.all(key) for word in value.split()]

    def last(self, key: str, default: str = "") -> str:
        return (self.all(key) or [default])[-1]

    def is_on(self, key: str) -> bool:
        return self.last(key) == "yes"

    def without(self, *keys: str, value: str | None = None) -> Unit:
        """Lines with one of these keys, of this value alone if one is given, are taken out."""
        gone = [line for line in self.lines if line[0] in keys and value in (None, line[1])]
        assert gone, f"{self.name} has no line {keys} {value}"
        return replace(self, lines=tuple(line for line in self.lines if line not in gone))

    def having(self, *lines: Line) -> Unit:
        return replace(self, lines=(*self.lines, *lines))


def sections(path: Path, instance: str = "") -> dict[str, list[Line]]:
    """All lines of a unit file; the file of a template needs an instance."""
    found: dict[str, list[Line]] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("["):
            name = line.strip("[] ")
        elif "=" in line and line[0] not in "#;":
            key, _, value = line.replace("%i", instance).partition("=")
            found.setdefault(name, []).append((key, value))
    return found


def unit(path: Path, instance: str = "", *drop_ins: Path) -> Unit:
    """The unit that systemd makes of a file and its drop-ins."""
    lines = [line for one in (path, *drop_ins) for line in sections(one, instance)["Service"]]
    name = path.name.replace("@.", f"@{instance}.")
    return Unit(name, tuple(lines))


@dataclass(frozen=True)
class Tree:
    """The folder of a box, and what is bound into it for reading from elsewhere."""

    root: Path
    bound: tuple[tuple[Path, str], ...] = ()
    """(path on this machine, path in the box)."""
    users: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)
    """Name -> uid, gid, home."""
    groups: Mapping[str, int] = field(default_factory=dict)

    def at(self, path: str) -> Path:
        """Where on this machine a path of the box lies."""
        return self.root / path.lstrip("/")


@dataclass(frozen=True)
class Sandboxed:
    """What a unit's programs run in; equal where a program could not tell them apart."""

    options: tuple[str, ...]
    """Of bubblewrap."""
    filters: tuple[bytes, ...]
    user: str
    group: str
    more_groups: tuple[str, ...]
    umask: int
    environment: Mapping[str, str]
    folders: tuple[tuple[str, int], ...]
    """Made for its user before it starts: path in the box, mode."""
    output: str | None
    """Where its output goes, a path in the box; None: to the log."""
    socket: str
    """The socket unit whose descriptor it gets."""
    no_new_privileges: bool
    programs: Mapping[str, tuple[tuple[str, ...], ...]]
    """ExecCondition, ExecStartPre, ExecStart, ExecStartPost: the commands."""

    def last_steps(
        self, tree: Tree, command: Sequence[str], passed: int | None
    ) -> Mapping[str, object]:
        """For rigs/enter.py."""
        uid, gid, _ = tree.users[self.user]
        gid = tree.groups[self.group] if self.group else gid
        return {
            "uid": uid,
            "gid": gid,
            "groups": [gid, *(tree.groups.get(one, gid) for one in self.more_groups)],
            "umask": self.umask,
            "passed": passed,
            "no_new_privileges": self.no_new_privileges,
            "filters": [one.hex() for one in self.filters],
            "command": list(command),
        }


def sandboxed(unit: Unit, tree: Tree) -> Sandboxed:
    """The sandbox of a unit; FileNotFoundError where systemd would not find what a line names."""
    user = unit.last("User") or "root"
    environment = _environment(unit, tree, user)
    folders = [
        (f"{base}/{name}", int(unit.last(f"{key}Mode", "0755"), 8))
        for key, base in _FOLDERS.items()
        for name in unit.words(key)
    ]
    output = unit.last("StandardOutput")
    exec_keys = ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost")
    return Sandboxed(
        options=(*_mounts(unit, tree), *_namespaces(unit), *_capabilities(unit, user)),
        filters=tuple(_filters(unit)),
        user=user,
        group=unit.last("Group"),
        more_groups=tuple(unit.words("SupplementaryGroups")),
        umask=int(unit.last("UMask", "0022"), 8),
        environment=environment,
        folders=tuple(folders),
        output=output.removeprefix("truncate:") if output.startswith("truncate:") else None,
        socket=unit.last("Sockets") or unit.name.replace(".service", ".socket"),
        no_new_privileges=unit.is_on("NoNewPrivileges"),
        programs={
            key: tuple(command(value, environment) for value in unit.all(key)) for key in exec_keys
        },
    )


_FOLDERS = {"StateDirectory": "/var/lib", "RuntimeDirectory": "/run"}


def command(value: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """A line Exec...= as words (systemd.service(5), COMMAND LINES)."""
    words: list[str] = []
    for word in shlex.split(value.removeprefix("-")):
        if word.startswith("$") and not word.startswith("$$"):
            words += environment.get(word[1:], "").split()
        else:
            words.append(word.replace("$$", "$"))
    return tuple(words)


def _environment(unit: Unit, tree: Tree, user: str) -> dict[str, str]:
    """systemd.exec(5), ENVIRONMENT VARIABLES IN SPAWNED PROCESSES: later sources win."""
    found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}
    if unit.all("User"):
        found |= {"USER": user, "LOGNAME": user, "HOME": tree.users[user][2]}
    for key, base in _FOLDERS.items():
        if names := unit.words(key):
            variable = {
                "StateDirectory": "STATE_DIRECTORY",
                "RuntimeDirectory": "RUNTIME_DIRECTORY",
            }
            found[variable[key]] = ":".join(f"{base}/{name}" for name in names)
    if seconds := unit.last("WatchdogSec"):
        found["WATCHDOG_USEC"] = f"{seconds}000000"
    lines = unit.all("Environment")
    for value in unit.all("EnvironmentFile"):
        path = tree.at(value.removeprefix("-"))
        if not value.startswith("-") or path.exists():
            lines += path.read_text().splitlines()
    return found | dict(line.split("=", 1) for line in lines)


def _mounts(unit: Unit, tree: Tree) -> Iterator[str]:
    strict = unit.last("ProtectSystem") == "strict"
    yield from ("--ro-bind" if strict else "--bind", str(tree.root), "/")
    yield from ("--ro-bind" if strict else "--bind", "/usr", "/usr")
    yield from ("--proc", "/proc")
    yield from (
        ("--dev", "/dev") if unit.is_on("PrivateDevices") else ("--dev-bind", "/dev", "/dev")
    )
    tunables, control = (
        unit.is_on(f"Protect{name}") for name in ("KernelTunables", "ControlGroups")
    )
    yield from ("--ro-bind" if tunables else "--bind", "/sys", "/sys")
    if control:
        yield from ("--ro-bind-try", "/sys/fs/cgroup", "/sys/fs/cgroup")
    for here, there in tree.bound:
        yield from ("--ro-bind", str(here), there)
    if unit.is_on("PrivateTmp"):
        for path in ("/tmp", "/var/tmp"):  # noqa: S108
            yield from ("--perms", "1777", "--tmpfs", path)
    for path, how in sorted(_paths(unit, tree).items()):  # a folder comes before what lies in it
        source = tree.at(path)
        if how == _INACCESSIBLE:
            source = tree.root / INACCESSIBLE / ("dir" if source.is_dir() else "reg")
        yield from ("--bind" if how == _READ_WRITE else "--ro-bind", str(source), path)


def _paths(unit: Unit, tree: Tree) -> dict[str, str]:
    """Path in the box -> what a unit's process may do there."""
    named = [
        (f"{base}/{name}", _READ_WRITE)
        for key, base in _FOLDERS.items()
        for name in unit.words(key)
    ]
    if unit.is_on("ProtectHome"):
        named += [(path, _INACCESSIBLE) for path in ("/home", "/root", "/run/user")]
    for key, how in (
        ("ReadWritePaths", _READ_WRITE),
        ("ReadOnlyPaths", _READ_ONLY),
        ("InaccessiblePaths", _INACCESSIBLE),
    ):
        for word in unit.words(key):
            path = word.removeprefix("-")
            if not tree.at(path).exists():
                if word.startswith("-"):
                    continue
                raise FileNotFoundError(f"{unit.name}: {key}={path} is not there")
            named.append((path, how))
    found: dict[str, str] = {}
    for path, how in named:
        found[path] = max(found.get(path, _READ_WRITE), how, key=_STRICTEST.index)
    return found


def _namespaces(unit: Unit) -> Iterator[str]:
    if unit.is_on("PrivateNetwork"):
        yield "--unshare-net"
    if unit.is_on("ProtectHostname"):
        yield "--unshare-uts"


def _capabilities(unit: Unit, user: str) -> Iterator[str]:
    if not unit.all("CapabilityBoundingSet"):
        yield from ("--cap-add", "ALL")
        return
    yield from ("--cap-drop", "ALL")
    becoming = () if user == "root" else _BEFORE_SETTING
    for name in (*unit.words("CapabilityBoundingSet"), *becoming):
        yield from ("--cap-add", name)


def _filters(unit: Unit) -> Iterator[bytes]:
    if unit.last("SystemCallArchitectures") == "native":
        yield syscalls.native()
    if unit.all("RestrictAddressFamilies"):
        yield syscalls.refusing(syscalls.families(unit.words("RestrictAddressFamilies")))
    for key, refusals in syscalls.YES.items():
        if unit.is_on(key):
            yield syscalls.refusing(refusals())
    if unit.all("SystemCallFilter"):  # the last one, as it may forbid to load another
        yield syscalls.listed(unit.all("SystemCallFilter"))
