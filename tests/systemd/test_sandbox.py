"""The units as sandboxes: bubblewrap with what their own lines say (rigs/sandbox.py). What a unit
must not do is refused, and done once the line that refuses it is taken out; what it needs it has,
and does not run once the line that gives it is taken out.

No systemd runs here: how it reads the lines is what rigs/sandbox.py has from its documentation.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.apply.door import ask
from appliance.apply.requests import Request
from appliance.settings import load
from appliance.store import bell, fetching
from appliance.store.fetching import Wanted
from appliance.store.journal import Journal
from appliance.store.trial import ON
from rigs.boxed import SIGSYS, STATE, UNITS, Boxed, box, unit_of
from rigs.peers import free_port, until
from rigs.programs import program
from rigs.queried import Odd, serving
from rigs.releasing import Simulated
from rigs.sandbox import LEFT_OUT, OTHER_SECTIONS, Line, Tree, Unit, sandboxed, sections, unit

SERVICES = sorted(UNITS.glob("*.service"))
STAGES = ("fetch@", "publish@", "deliver@", "receive@", "retain@", "web@", "update", "apply")
"""All but `work`, whose start takes longer: tests/scenarios/test_sandboxed_study.py."""
EVERY = (*STAGES, "work@", "prove@", "guard", "boot", "receive")
SECRET = "secret"
HIDDEN = (
    "spool", "incoming", "quarantine", "reports", "outgoing", "identities", "priors", "qa", "fetch",
    "library", "probe",
)  # fmt: skip
OF_WORK = ("priors", "qa", "fetch", "library", "probe")
"""Of these what `work` keeps for itself and for who may see scanners."""
TRUSTED, DOWNLOADS = "/var/lib/scanside-update", "/var/lib/scanside-downloads"


# --- every line is a part of the sandbox, or named as one that is not ---


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Folders alone, with all that a line may name."""
    program("systemd-analyze")
    made = Tree(
        tmp_path,
        users={"root": (0, 0, "/root"), "scanside": (8, 8, STATE), "scanside-update": (9, 9, "/")},
        groups={"root": 0, "scanside": 8, "scanside-update": 9},
    )
    for path in (f"{TRUSTED}/env", f"{TRUSTED}/prove", DOWNLOADS, "/opt/scanside"):
        made.at(path).mkdir(parents=True)
    for name in (*HIDDEN, "bundles"):
        made.at(f"{STATE}/{name}").mkdir(parents=True)
    made.at(f"{STATE}/site.key").write_text(SECRET)
    made.at(f"{TRUSTED}/env/1").write_text(f"{ON}=1\n")
    made.at(f"{TRUSTED}/prove/1").write_text("BUNDLES=one two\n")
    return made


NOT_DEFAULT = {"StateDirectoryMode": "0711", "UMask": "0027"}
"""Another value for what a unit may say though it is the default."""


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_every_line_of_a_unit_changes_its_sandbox_or_is_named_as_left_out(
    path: Path, tree: Tree
) -> None:
    drop_ins = sorted((UNITS / "gpu").glob(f"{path.name}.d/*.conf"))
    alone, all_of_it = unit(path, "1"), unit(path, "1", *drop_ins)
    for made, first in ((alone, 0), (all_of_it, len(alone.lines))):
        whole = sandboxed(made, tree)
        for index, (key, value) in list(enumerate(made.lines))[first:]:
            instead = [[], [(key, NOT_DEFAULT[key])]] if key in NOT_DEFAULT else [[]]
            changed = [
                sandboxed(
                    Unit(made.name, (*made.lines[:index], *one, *made.lines[index + 1 :])), tree
                )
                for one in instead
            ]
            assert all(one == whole for one in changed) == (key in LEFT_OUT), (key, value)


def test_what_is_left_out_stands_in_a_unit_and_other_sections_give_no_rights() -> None:
    read = [sections(path) for path in UNITS.rglob("*.*") if path.is_file()]
    keys = {key for one in read for key, _ in one.get("Service", ())}
    assert set(LEFT_OUT) <= keys
    named = {name for path in UNITS.glob("scanside*") for name in sections(path)}
    assert named == {"Service", *OTHER_SECTIONS}


# --- in a real box ---


@pytest.fixture(scope="module")
def whole() -> Iterator[Boxed]:
    """A box in which something lies in every folder, for probes."""
    with box() as made:
        uid, gid, _ = made.tree.users["scanside"]
        for name in (*HIDDEN, "bundles"):
            folder = made.at(f"{STATE}/{name}")
            folder.mkdir(exist_ok=True)
            (folder / SECRET).write_text(SECRET)
            os.chown(folder, uid, gid)
            os.chown(folder / SECRET, uid, gid)
        key = made.at(f"{STATE}/site.key")
        key.write_text(SECRET)
        os.chown(key, uid, gid)
        made.at(f"{TRUSTED}/prove").mkdir()
        made.at(f"{TRUSTED}/prove/1").write_text("BUNDLES=\n")
        yield made


ACTS = {
    "list": "assert 'secret' in os.listdir(at), 'nothing'",
    "read": "assert open(at).read() == 'secret', 'nothing'",
    "write": "open(at + '/written', 'w').close(); os.unlink(at + '/written')",
    "connect": "socket.create_connection(('127.0.0.1', int(at)), 5).close()",
    "socket": "socket.socket(socket.AF_INET).close()",
    "chown": "os.chown(at, 0, 0)",
    "setuid": "os.setuid(0)",
    "namespace": "ctypes.CDLL(None, use_errno=True).unshare(0x10000000) and fail()",
    "write and execute": "mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "realtime": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "set-user-id": "open('/tmp/s', 'w').close(); os.chmod('/tmp/s', 0o4755)",
    "device": "open('/dev/kmsg').close()",
    "clock": "time.clock_settime(time.CLOCK_REALTIME, time.time())",
}
PROBE = """
    import ctypes, errno, json, mmap, os, signal, socket, sys, time

    def fail():
        raise OSError(ctypes.get_errno(), '')

    def tried(act, at):
        try:
            exec(act)
        except OSError as e:
            return errno.errorcode[e.errno]
        except AssertionError as e:
            return str(e)
        return 'done'

    def alone(act, at):  # a filter may end it
        told, tell = os.pipe()
        if (child := os.fork()) == 0:
            os.write(tell, tried(act, at).encode())
            os._exit(0)
        os.close(tell)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            return signal.Signals(os.WTERMSIG(status)).name
        return os.read(told, 100).decode()

    print(json.dumps([alone(act, at) for act, at in json.loads(sys.argv[1])]))
"""
Act = tuple[str, str]
"""What, and where."""


def tried(made: Boxed, unit: Unit, acts: Sequence[Act]) -> list[str]:
    """Of each `done`, or the name of the error, or SIGSYS."""
    probe = made.probe(unit, PROBE, json.dumps([(ACTS[act], at) for act, at in acts]))
    assert probe.process.returncode == 0, probe.said()
    found: list[str] = json.loads(probe.said())
    return found


FAMILIES = ("RestrictAddressFamilies", "PrivateNetwork")
USER = ("User", "Group")
HIDES = ("InaccessiblePaths",)
SLOT = "/opt/scanside/slots/1"
KEY: Act = ("read", f"{STATE}/site.key")


def hidden(*names: str) -> list[Act]:
    return [("list", f"{STATE}/{name}") for name in names]


EMPTY = "nothing"
"""Root may look into what is made inaccessible, and sees an empty folder and an empty file."""
FORBIDDEN: dict[str, list[tuple[tuple[str, ...], str, list[Act]]]] = {
    # unit: the lines without which it is done, the answer, what
    "work@": [
        (FAMILIES, "EAFNOSUPPORT", [("connect", "PORT")]),
        (("ReadOnlyPaths",), "EROFS", [("write", f"{STATE}/bundles")]),
        (("ProtectSystem", *USER), "EROFS", [("write", SLOT), ("write", TRUSTED)]),
    ],
    "retain@": [
        (FAMILIES, "EAFNOSUPPORT", [("connect", "PORT")]),
        (HIDES, "EACCES", hidden("fetch")),
    ],
    "fetch@": [(HIDES, "EACCES", [*hidden(*(one for one in HIDDEN if one != "fetch")), KEY])],
    "prove@": [
        (FAMILIES, "EAFNOSUPPORT", [("connect", "PORT")]),
        (
            HIDES,
            "EACCES",
            hidden("spool", "incoming", "identities", *OF_WORK),
        ),
    ],
    "receive@": [(HIDES, "EACCES", hidden("identities", *OF_WORK))],
    "publish@": [(HIDES, "EACCES", [*hidden(*HIDDEN), KEY])],
    "deliver@": [
        (
            HIDES,
            "EACCES",
            [*hidden("reports", "spool", "identities", *OF_WORK), KEY],
        ),
        (("ReadOnlyPaths",), "EROFS", [("write", f"{STATE}/outgoing")]),
    ],
    "web@": [
        (HIDES, "EACCES", [*hidden("incoming", "quarantine", "outgoing", "priors", "fetch"), KEY]),
        (
            ("ReadOnlyPaths",),
            "EROFS",
            [
                ("write", f"{STATE}/{name}")
                for name in ("reports", "spool", "qa", "identities", "library", "probe")
            ],
        ),
    ],
    "update": [
        ((*HIDES, "CapabilityBoundingSet", *USER), "EACCES", [*hidden(*HIDDEN), KEY]),
        (("ProtectSystem", *USER), "EROFS", [("write", SLOT), ("write", TRUSTED)]),
    ],
    "apply": [
        (("RestrictAddressFamilies",), "EAFNOSUPPORT", [("socket", "")]),
        (FAMILIES, "EAFNOSUPPORT", [("connect", "PORT")]),
        (HIDES, EMPTY, [*hidden(*HIDDEN), KEY]),
        (("ProtectSystem",), "EROFS", [("write", "/etc/scanside")]),
    ],
    "guard": [
        (FAMILIES, "EAFNOSUPPORT", [("connect", "PORT")]),
        (("ProtectSystem", "CapabilityBoundingSet"), "EROFS", [("write", STATE)]),
    ],
    "boot": [
        (FAMILIES, "EAFNOSUPPORT", [("connect", "PORT")]),
        (("CapabilityBoundingSet",), "EACCES", hidden("spool")),
    ],
    "receive": [(("ProtectSystem",), "EROFS", [("write", SLOT)])],
}


@pytest.mark.parametrize(
    ("name", "by", "answer", "acts"),
    [(name, *one) for name, several in FORBIDDEN.items() for one in several],
)
def test_what_a_unit_must_not_do_is_refused_by_its_lines_and_by_nothing_else(
    whole: Boxed, name: str, by: tuple[str, ...], answer: str, acts: list[Act]
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as broker:
        port = str(broker.getsockname()[1])
        acts = [(act, at.replace("PORT", port)) for act, at in acts]
        assert set(tried(whole, unit_of(name), acts)) == {answer}
        assert set(tried(whole, unit_of(name).without(*by), acts)) == {"done"}


def refused(name: str) -> dict[str, str]:
    """What no unit may do -> what it gets instead."""
    own = unit_of(name)
    return {
        "namespace": "EPERM",
        "realtime": "EPERM",
        "set-user-id": "EPERM",
        "device": "ENOENT",
        "clock": "SIGSYS",
        "setuid": "SIGSYS",
        **({"write and execute": "EPERM"} if own.all("MemoryDenyWriteExecute") else {}),
        **({"chown": "SIGSYS"} if name != "apply" else {}),
    }


@pytest.mark.parametrize("name", EVERY)
def test_no_unit_has_rights_over_the_machine(whole: Boxed, name: str) -> None:
    wanted = refused(name)
    found = tried(whole, unit_of(name), [(act, "/tmp") for act in wanted])  # noqa: S108
    assert dict(zip(wanted, found, strict=True)) == wanted


@pytest.mark.parametrize(
    ("act", "by"),
    [
        ("namespace", ("RestrictNamespaces", "CapabilityBoundingSet")),
        ("realtime", ("RestrictRealtime", "CapabilityBoundingSet")),
        ("set-user-id", ("RestrictSUIDSGID",)),
        ("write and execute", ("MemoryDenyWriteExecute",)),
        ("chown", ("SystemCallFilter", "CapabilityBoundingSet")),
        ("setuid", ("SystemCallFilter",)),
        ("clock", ("SystemCallFilter", "ProtectClock", "CapabilityBoundingSet")),
    ],
)
def test_each_of_these_is_refused_by_the_line_that_says_so(
    whole: Boxed, act: str, by: tuple[str, ...]
) -> None:
    assert tried(whole, unit_of("boot").without(*by), [(act, "/tmp")]) == ["done"]  # noqa: S108


# --- what a stage needs ---

SETTINGS = """
[web]
enabled = true
port = {port}
[[deliver]]
name = "pacs"
host = "127.0.0.1"
port = {port}
called_ae = "PACS"
[[priors.query]]
name = "pacs"
address = "PACS@127.0.0.1:{port}"
"""


@pytest.fixture(scope="module")
def root_of_trust() -> bytes:
    return Simulated.begun().files["metadata/1.root.json"]


@pytest.fixture
def served(root_of_trust: bytes) -> Iterator[Boxed]:
    """A box of a site with an archive and a page, which trusts a repository."""
    with box(SETTINGS.format(port=free_port())) as made:
        made.trust(root_of_trust)
        yield made


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_serves_in_its_sandbox_and_ends_when_told(served: Boxed, name: str) -> None:
    service = served.start(unit_of(name))
    service.wait_ready()
    assert service.stop() == 0, service.said()


READ_ONLY = "Read-only file system"
NEEDS = [
    # unit, the line that is taken out, what stands there instead, its end, its last words
    *((name, None, ("SystemCallFilter", "~@network-io"), SIGSYS, None) for name in STAGES),
    *(
        (name, "StateDirectory", None, 1, READ_ONLY)
        for name in STAGES
        if name not in ("deliver@", "fetch@")
    ),
    (
        "web@",
        "RestrictAddressFamilies",
        ("RestrictAddressFamilies", "AF_UNIX"),
        1,
        "Address family not supported",
    ),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "gone", "instead", "code", "words"), NEEDS)
def test_a_stage_does_not_serve_without_a_right_that_it_needs(
    served: Boxed, name: str, gone: str | None, instead: Line | None, code: int, words: str | None
) -> None:
    changed = unit_of(name)
    changed = changed if gone is None else changed.without(gone)
    changed = changed if instead is None else changed.having(instead)
    changed = changed.without("ExecCondition") if changed.all("ExecCondition") else changed
    service = served.start(changed)
    with pytest.raises(AssertionError, match=words):
        service.wait_ready()
    assert service.ended() == code


@pytest.mark.parametrize(("families", "answered"), [(None, True), ("AF_UNIX", False)])
def test_fetch_reads_a_request_and_calls_the_archive_from_its_sandbox(
    served: Boxed, families: str | None, answered: bool
) -> None:
    own = unit_of("fetch@")
    if families is not None:
        own = own.without("RestrictAddressFamilies").having(("RestrictAddressFamilies", families))
    port = load(served.at("/etc/scanside/scanside.toml")).priors.query[0].peer[2]
    with serving(Odd(), port=port) as archive:
        # before the stage begins: one that looks while the request is still root's waits long
        fetching.ask(served.at(STATE), Wanted(patient_id="Z-4711", study="1.2"))
        for path in fetching.waiting(served.at(STATE)):
            os.chown(path, *served.tree.users["scanside"][:2])
        service = served.start(own)
        service.wait_ready()
        bell.ring(served.at(STATE), fetching.STAGE)
        until(lambda: archive.asked or "Address family not supported" in service.said())
        if answered:
            until(lambda: not fetching.waiting(served.at(STATE)))
        assert service.stop() == 0, service.said()
    assert bool(archive.asked) == answered
    assert "4711" not in service.said()


@pytest.mark.parametrize("given", [True, False])
def test_a_stage_knows_from_the_file_of_its_slot_that_it_is_on_trial(
    served: Boxed, given: bool
) -> None:
    served.at(f"{TRUSTED}/env/1").write_text(f"{ON}=1\n")
    ours = unit_of("retain@")
    service = served.start(ours if given else ours.without("EnvironmentFile"))
    service.wait_ready()
    trial = served.at(f"{STATE}/trial")
    if given:
        until((trial / "retain.beat").exists)
        assert (trial / "retain.starts").read_text() == "1\n"
    service.stop()
    assert trial.exists() == given


def journal_of(made: Boxed) -> Path:
    """The state folder of a box in which `publish` has made the journal."""
    service = made.start(unit_of("publish@"))
    service.wait_ready()
    assert service.stop() == 0
    return made.at(STATE)


def asked_to_hold(made: Boxed, unit: Unit) -> tuple[bool, list[str]]:
    """Whether `apply` obeys root, and what the journal's audit then says of it."""
    state = journal_of(made)
    service = made.start(unit)
    service.wait_ready()
    try:
        obeyed = ask(made.at("/run/scanside-apply/socket"), Request(verb="hold")).ok
    except (ValidationError, TimeoutError):  # it cannot do it, and says nothing
        obeyed = False
    service.stop()
    owners = {path.lstat().st_uid for path in (state, *state.rglob("*"))}
    assert owners == {made.tree.users["scanside"][0]}, "root leaves nothing to the stages"
    with Journal.open(state) as journal:
        return obeyed, [row.action for row in journal.audit.rows() if "root@" in row.actor]


def test_apply_writes_the_journal_of_the_stages_and_leaves_nothing_of_its_own_there(
    served: Boxed,
) -> None:
    assert asked_to_hold(served, unit_of("apply")) == (True, ["update hold"])


@pytest.mark.parametrize("gone", ["Environment", "ReadWritePaths", "CapabilityBoundingSet"])
def test_without_one_of_its_lines_apply_does_not_reach_that_journal(
    served: Boxed, gone: str
) -> None:
    changed = unit_of("apply").without(gone)
    if gone == "CapabilityBoundingSet":
        changed = changed.having((gone, ""))
    assert asked_to_hold(served, changed) == (True, []), "what it needs no journal for it does"


@pytest.mark.parametrize("name", ["work@", "prove@"])
def test_who_has_children_at_low_priority_can_start_them(whole: Boxed, name: str) -> None:
    """Objects for archives, trials of bundles and engines are made by them."""
    begin = """
        import subprocess
        from appliance.runtime.engine_build import polite
        print(subprocess.run(polite(["true"])).returncode)
    """
    own = unit_of(name)
    assert whole.probe(own, begin).said().split() == ["0"]
    less = own.without("SystemCallFilter", value="capset")
    assert whole.probe(less, begin).said().split() == [str(-signal.SIGSYS)]


# --- guard, and what starts the stages ---


def guarded(made: Boxed, unit: Unit) -> str:
    """Slot 2 is on trial and `work` does not start there: where `current` leads after `guard`."""
    made.slot(2)
    for name, to in (("previous", 1), ("current", 2)):
        made.at(f"/opt/scanside/{name}").unlink(missing_ok=True)
        made.at(f"/opt/scanside/{name}").symlink_to(f"slots/{to}")
    made.at(f"{TRUSTED}/trial").write_text(
        f"slot=2\nprevious=1\nstages=publish work receive retain\nstate={STATE}\n"
    )
    starts = made.at(f"{STATE}/trial/work.starts")
    starts.parent.mkdir()
    starts.write_text("2\n" * 3)
    starts.parent.chmod(0o700)
    os.chown(starts.parent, *made.tree.users["scanside"][:2])
    made.run(unit)
    return made.at("/opt/scanside/current").readlink().name


def test_guard_goes_back_in_its_sandbox_and_speaks_to_the_service_manager(served: Boxed) -> None:
    assert guarded(served, unit_of("guard")) == "1"
    assert {uid for uid, _ in served.asked} == {0}
    words = [" ".join(asked) for _, asked in served.asked]
    assert "--no-ask-password start -- scanside-receive@1.service" in words
    assert words[-1] == "stop --no-block scanside-guard.timer"
    assert served.at(f"{TRUSTED}/reason").read_text() == "slot=2 stage=work why=starts\n"


@pytest.mark.parametrize("gone", ["CapabilityBoundingSet", "ReadWritePaths"])
def test_without_one_of_its_lines_guard_does_not_go_back(served: Boxed, gone: str) -> None:
    changed = unit_of("guard").without(gone)
    if gone == "CapabilityBoundingSet":
        changed = changed.having((gone, ""))
    assert guarded(served, changed) == "2"


def test_boot_and_a_call_start_the_stages_of_the_slot_that_is_current(served: Boxed) -> None:
    assert [one.process.returncode for one in served.run(unit_of("boot"))] == [0, 0]
    started = [asked[-1] for _, asked in served.asked]
    assert started.index("scanside-fetch@1.service") < started.index("scanside-work@1.service")
    assert len(started) == len(STAGES) + 1
    assert [one.process.returncode for one in served.run(unit_of("receive"))] == [0]
    assert served.asked[-1][1][-1] == "scanside-receive@1.service"
