"""The systemd units: systemd itself reads them, and what the design promises stands in them."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.apply.proving import PROVE_S
from appliance.host import driver, jetson
from appliance.stages import STAGES
from appliance.store import conditions, starts
from appliance.store.heartbeat import START
from appliance.store.instance import SLOT
from appliance.store.trial import ON
from appliance.update.units import PLAIN, start_s, stop_s
from appliance.update.units import unit as units_of_a_stage
from appliance.web.pixels import child

UNITS = Path(__file__).parents[2] / "systemd"
DROP_IN = Path("scanside-work@.service.d") / "50-gpu.conf"
NAMES = [stage.name for stage in STAGES]
PYTHON = "/opt/scanside/slots/%i/bin/python -m appliance"


def unit(stage: str) -> Path:
    """The file of its unit: a template, but for the few that do not belong to a slot."""
    (row,) = (row for row in STAGES if row.name == stage)
    return UNITS / row.unit


def service(stage: str) -> list[tuple[str, str]]:
    """(key, value) of the [Service] section; a key may stand more than once."""
    lines = unit(stage).read_text().split("[Service]")[1].splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """/etc/systemd/system of a root that holds what the units start, the drop-in of a GPU too."""
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for path in UNITS.glob("scanside*"):
        if path.is_file():
            shutil.copy(path, units)
    shutil.copytree(UNITS / "gpu", units, dirs_exist_ok=True)
    for program in ("usr/bin/sh", "opt/scanside/slots/1/bin/python"):
        (tmp_path / program).parent.mkdir(parents=True)
        shutil.copy("/bin/true", tmp_path / program)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "opt" / "scanside" / "current").symlink_to("slots/1")
    system = Path("/usr/lib/systemd/system")  # basic.target and the like
    if system.is_dir():
        shutil.copytree(system, tmp_path / "usr/lib/systemd/system", symlinks=True)
    return units


def analyzed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    verb, *more = words
    done = subprocess.run(
        [program, verb, "--man=no", f"--root={folder.parents[2]}", *more],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze has no --offline or --recursive-errors (systemd 250)")
    return done


def instances(folder: Path, pattern: str) -> list[str]:
    """The units of a folder, of templates the instance of slot 1."""
    paths = (path for path in folder.glob(pattern) if path.is_file())
    return sorted(path.name.replace("@.", "@1.") for path in paths)


def verified(folder: Path) -> tuple[int, str]:
    """Exit code, and what systemd complains of."""
    units = [str(folder / name) for name in instances(folder, "*.*")]
    done = analyzed(folder, "verify", "--recursive-errors=no", *units)
    return done.returncode, done.stderr


def test_systemd_reads_every_unit_and_the_drop_in_without_a_complaint(installed: Path) -> None:
    assert verified(installed) == (0, "")
    drop_in = installed / DROP_IN
    drop_in.write_text(drop_in.read_text().replace("DevicePolicy=", "DevicesPolicy="))
    _, complaint = verified(installed)  # so it did read the drop-in
    assert "Unknown key 'DevicesPolicy'" in complaint


def test_systemd_looks_for_what_the_units_start(installed: Path) -> None:
    (installed.parents[2] / "opt/scanside/slots/1/bin/python").unlink()
    code, complaint = verified(installed)
    assert code != 0
    assert "/opt/scanside/slots/1/bin/python is not executable" in complaint
    assert "/opt/scanside/current/bin/python is not executable" in complaint


def test_no_unit_is_more_exposed_than_it_must_be(installed: Path) -> None:
    """systemd's own score, 0 (closed) to 100, with the drop-in of a GPU and without."""
    for _ in range(2):
        for name in instances(installed, "*.service"):
            done = analyzed(installed, "security", "--offline=yes", "--threshold=15", name)
            assert done.returncode == 0, (name, done.stdout.splitlines()[-1:], done.stderr)
        shutil.rmtree(installed / DROP_IN.parent, ignore_errors=True)


def exposure(folder: Path) -> tuple[float, str]:
    """systemd's own score of `work`, 0 (closed) to 10, and what it says of devices."""
    said = analyzed(folder, "security", "--offline=yes", "scanside-work@1.service")
    score = re.search(r"exposure level for scanside-work@1.service: ([\d.]+)", said.stdout)
    assert score is not None, said.stderr
    (devices,) = (line for line in said.stdout.splitlines() if " DeviceAllow= " in line)
    return float(score[1]), devices


def test_with_the_drop_in_work_sees_the_gpu_and_no_other_device(installed: Path) -> None:
    score, devices = exposure(installed)
    assert score <= 1.5
    held = set(re.findall(r"(?:char|block)-[^\s:]+|/dev/[^\s:]+", devices))
    shown = {f"/{node}" for node in (*driver.NODES, *jetson.NODES)}
    missing = {node for node in shown if not any(f"{one}/".startswith(f"{node}/") for one in held)}
    assert missing == {"/dev/nvidiactl", "/dev/dxg"}  # char-nvidia*; WSL starts no units of ours
    assert held - {one for one in held if one.startswith("/dev/nv")} == {
        "char-nvidia*", "char-rtc", "/dev/host1x-fence",
    }  # fmt: skip
    (installed / DROP_IN).unlink()
    alone, devices = exposure(installed)
    assert alone < score
    assert "/dev/" not in devices


def test_without_the_drop_in_no_stage_has_devices() -> None:
    assert all(dict(service(stage))["PrivateDevices"] == "yes" for stage in NAMES)
    text = (UNITS / "gpu" / DROP_IN).read_text()
    assert "PrivateDevices=no" in text
    assert "SupplementaryGroups=video render" in text
    assert "DevicePolicy=closed" in text
    assert "User=" not in text
    assert "Network" not in text
    readme = (UNITS.parent / "README.md").read_text()
    assert "cp systemd/scanside* /etc/systemd/system/" in readme  # which leaves gpu/ out
    assert not [path for path in UNITS.glob("scanside*") if path.is_dir()]


def read(name: str) -> configparser.ConfigParser:
    """A unit with one value a key."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser


def test_the_target_starts_every_stage_of_the_slot_that_is_current() -> None:
    assert "scanside-boot.service" in read("scanside.target")["Unit"]["Wants"].split()
    boot = read("scanside-boot.service")["Service"]["ExecStart"]  # the last one of two
    words = boot.partition(" start /opt/scanside /var/lib/scanside-update ")[2].split()
    assert {*words} == {*NAMES, *PLAIN}
    order = [name for name in NAMES if name not in PLAIN]
    assert [word for word in words if word not in PLAIN] == order, "in the order of their start"


@pytest.mark.parametrize("stage", NAMES)
def test_each_stage_is_a_verb_that_tells_when_it_is_ready(stage: str) -> None:
    pairs = dict(service(stage))
    slot = "current" if stage in PLAIN else "slots/%i"
    assert pairs["ExecStart"] == f"/opt/scanside/{slot}/bin/python -m appliance {stage}"
    assert pairs["Type"] == "notify"
    users = {"apply": "root", "update": "scanside-update"}
    assert pairs["User"] == users.get(stage, "scanside")


SLOTTED = [name for name in NAMES if name not in PLAIN]


@pytest.mark.parametrize("stage", SLOTTED)
def test_each_stage_of_a_slot_knows_its_slot_and_notes_its_starts_on_trial(
    stage: str, tmp_path: Path
) -> None:
    pairs = dict(service(stage))
    assert ("Environment", f"{SLOT}=%i") in service(stage)
    assert pairs["EnvironmentFile"] == "-/var/lib/scanside-update/env/%i"
    shell, _, script = pairs["ExecStartPre"].partition(" -c ")
    assert shell == "-/bin/sh"
    script = shlex.split(script)[0].replace("$$", "$").replace("%i", "2")
    script = script.replace("/var/lib/scanside", str(tmp_path))
    for trial_on in ("", "1", "1"):
        done = subprocess.run(["/bin/sh", "-c", script], env={ON: trial_on}, check=False)
        assert done.returncode == 0
    assert (tmp_path / "trial" / f"{stage}.starts").read_text() == "2\n2\n"


@pytest.mark.parametrize("stage", NAMES)
def test_who_starts_and_stops_a_unit_waits_as_long_as_systemd(stage: str) -> None:
    pairs = dict(service(stage))
    assert float(pairs["TimeoutStartSec"]) == start_s(stage)
    assert float(pairs["TimeoutStopSec"]) == stop_s(stage)
    assert units_of_a_stage(stage, 3) == unit(stage).name.replace("@.", "@3.")


def test_every_receive_has_the_one_socket_and_a_call_starts_the_current_one() -> None:
    assert dict(service("receive"))["Sockets"] == "scanside-receive.socket"
    assert read("scanside-receive.socket")["Socket"]["Service"] == "scanside-receive.service"
    starts_it = read("scanside-receive.service")["Service"]["ExecStart"]
    assert starts_it.endswith("guard.sh start /opt/scanside /var/lib/scanside-update receive")


def test_guard_runs_every_10_s_while_a_release_is_on_trial() -> None:
    trial_file = "/var/lib/scanside-update/trial"
    watched = read("scanside-guard.path")["Path"]
    assert (watched["PathExists"], watched["Unit"]) == (trial_file, "scanside-guard.timer")
    assert "scanside-guard.path" in read("scanside.target")["Unit"]["Wants"].split()
    timer = read("scanside-guard.timer")
    assert timer["Unit"]["ConditionPathExists"] == trial_file
    assert {timer["Timer"][key] for key in ("OnActiveSec", "OnUnitInactiveSec")} == {"10"}


def test_who_needs_no_network_has_none_and_root_has_few_rights() -> None:
    for name in ("boot", "guard", "apply", "receive", "prove@"):
        assert read(f"scanside-{name}.service")["Service"]["PrivateNetwork"] == "yes"
    rights = {
        name: read(f"scanside-{name}.service")["Service"]["CapabilityBoundingSet"].split()
        for name in ("boot", "guard", "apply", "receive", "prove@", "update")
    }
    assert rights == {
        "boot": [], "receive": [], "prove@": [], "update": [],
        "guard": ["CAP_DAC_READ_SEARCH"], "apply": ["CAP_DAC_OVERRIDE", "CAP_CHOWN"],
    }  # fmt: skip
    assert ("InaccessiblePaths", "-/var/lib/scanside") in read("scanside-update.service").items(
        "Service"
    )


def test_administrators_alone_may_ask_apply() -> None:
    asked = read("scanside-apply.socket")["Socket"]
    assert asked["ListenStream"] == "/run/scanside-apply/socket"
    assert (asked["SocketUser"], asked["SocketGroup"], asked["SocketMode"]) == (
        "root", "scanside-admin", "0660",
    )  # fmt: skip
    users = (UNITS / "sysusers.d" / "scanside.conf").read_text()
    for word in ("u scanside ", "u scanside-update ", "g scanside-admin "):
        assert word in users


def test_every_folder_of_another_user_is_made_before_the_units_need_it(tmp_path: Path) -> None:
    program = shutil.which("systemd-tmpfiles")
    if program is None:
        pytest.skip("systemd-tmpfiles is not installed")
    text = (UNITS / "tmpfiles.d" / "scanside.conf").read_text()
    for user in ("scanside-update", "scanside", "root"):  # this machine has no such users
        text = text.replace(f" {user} {user} -", " - - -")
    (tmp_path / "scanside.conf").write_text(text)
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(
        [program, "--create", f"--root={root}", str(tmp_path / "scanside.conf")],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    made = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()}
    assert made > {
        "var/lib/scanside/spool", "var/lib/scanside/identities", "var/lib/scanside-downloads",
        "var/lib/scanside-update/env", "run/scanside-apply",
    }  # fmt: skip


def test_publish_cannot_see_pixels_and_work_has_no_network() -> None:
    hidden = {value for key, value in service("publish") if key == "InaccessiblePaths"}
    assert {"-/var/lib/scanside/spool", "-/var/lib/scanside/reports"} <= hidden
    work = dict(service("work"))
    assert work["PrivateNetwork"] == "yes"
    assert work["ReadOnlyPaths"] == "-/var/lib/scanside/bundles"
    assert work["RestrictAddressFamilies"] == "AF_UNIX"


@pytest.mark.parametrize("stage", ["publish", "deliver", "receive"])
def test_who_has_no_need_of_names_cannot_see_them(stage: str) -> None:
    assert ("InaccessiblePaths", "-/var/lib/scanside/identities") in service(stage)
    assert ("InaccessiblePaths", "-/var/lib/scanside/priors") in service(stage)
    assert ("InaccessiblePaths", "-/var/lib/scanside/fetch") in service(stage)
    assert ("InaccessiblePaths", "-/var/lib/scanside/library") in service(stage), "texts of headers"
    assert ("InaccessiblePaths", "-/var/lib/scanside/probe") in service(stage), "the same"


def test_fetch_sees_requests_alone_and_nobody_but_work_sees_them() -> None:
    hidden = {value for key, value in service("fetch") if key == "InaccessiblePaths"}
    names = (
        "spool", "incoming", "quarantine", "reports", "outgoing", "identities", "priors", "qa",
        "library", "probe",
    )  # fmt: skip
    assert hidden == {f"-/var/lib/scanside/{name}" for name in (*names, "site.key")}
    assert dict(service("fetch"))["ExecCondition"] == f"{PYTHON} fetch --configured"
    requests, whole = "-/var/lib/scanside/fetch", "-/var/lib/scanside"
    for stage in set(NAMES) - {"fetch", "work"}:
        values = {v for key, v in service(stage) if key == "InaccessiblePaths"}
        assert values & {requests, whole}, stage


def test_deliver_sees_what_it_sends_and_publish_does_not() -> None:
    hidden = {value for key, value in service("deliver") if key == "InaccessiblePaths"}
    names = (
        "spool", "incoming", "quarantine", "reports", "identities", "priors", "qa", "fetch",
        "library", "probe", "site.key",
    )  # fmt: skip
    assert hidden == {f"-/var/lib/scanside/{name}" for name in names}
    pairs = dict(service("deliver"))
    assert pairs["ReadOnlyPaths"] == "-/var/lib/scanside/outgoing"
    assert pairs["ExecCondition"] == f"{PYTHON} deliver --configured"
    assert ("InaccessiblePaths", "-/var/lib/scanside/outgoing") in service("publish")


@pytest.mark.parametrize("stage", NAMES)
def test_what_a_stage_must_not_see_or_write_is_there_before_it_starts(stage: str) -> None:
    """systemd.exec(5): what is not there at the start is not hidden once somebody makes it."""
    made = {f"-/var/lib/{name}" for name in dict(service(stage))["StateDirectory"].split()}
    if stage in PLAIN:  # another user's: made by tmpfiles.d
        lines = (UNITS / "tmpfiles.d" / "scanside.conf").read_text().splitlines()
        made |= {f"-{line.split()[1]}" for line in lines if line.startswith("d ")}
    kept = {v for key, v in service(stage) if key in {"InaccessiblePaths", "ReadOnlyPaths"}}
    ours = {path for path in kept if path.startswith("-/var/lib/scanside/")}
    assert ours - made <= {"-/var/lib/scanside/site.key"}, "a file, which `work` makes"


def test_web_shows_images_and_names_changes_none_and_sees_no_key() -> None:
    pairs = service("web")
    read_only = {value for key, value in pairs if key == "ReadOnlyPaths"}
    hidden = {value for key, value in pairs if key == "InaccessiblePaths"}
    state = "-/var/lib/scanside"
    assert read_only == {
        f"{state}/{name}" for name in ("spool", "reports", "qa", "identities", "library", "probe")
    }
    assert hidden == {
        f"{state}/{name}"
        for name in ("incoming", "quarantine", "outgoing", "priors", "fetch", "site.key")
    }
    assert dict(pairs)["ExecCondition"] == f"{PYTHON} web --configured"
    assert int(dict(pairs)["CPUWeight"]) < 100, "it is on nobody's way"


def test_the_example_of_a_kiosk_is_read_by_systemd_and_sees_no_state(installed: Path) -> None:
    text = (UNITS / "examples" / "scanside-kiosk.service").read_text()
    assert "InaccessiblePaths=-/var/lib/scanside\n" in text
    assert "IPAddressDeny=any" in text
    path = installed / "scanside-kiosk.service"
    path.write_text(text.replace("/usr/bin/cage", "/bin/sh"))
    done = analyzed(installed, "verify", "--recursive-errors=no", str(path))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_socket_is_the_port_of_the_default_settings() -> None:
    parser = configparser.ConfigParser()
    parser.read(UNITS / "scanside-receive.socket")
    assert parser["Socket"]["ListenStream"] == "11112"


def test_the_watchdog_of_apply_lets_a_turn_with_two_proofs_and_a_build_end() -> None:
    assert int(dict(service("apply"))["WatchdogSec"]) > 3 * PROVE_S


@pytest.mark.parametrize("stage", NAMES)
def test_the_watchdog_ends_what_makes_no_progress_and_nothing_that_does(stage: str) -> None:
    pairs = dict(service(stage))
    assert int(pairs["WatchdogSec"]) > conditions.longest_s(stage)
    # until it serves it may first wait after quick ends, and then start as slowly as it may
    start = starts.LONGEST_S + (conditions.ALLOWED_S[START] if stage == "work" else 0.0)
    assert int(pairs["TimeoutStartSec"]) > start


@pytest.mark.parametrize("stage", NAMES)
def test_systemd_never_gives_a_stage_up(stage: str) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(unit(stage))
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert dict(service(stage))["Restart"] == "always"
    assert dict(service(stage))["RestartSec"] == "5"


def test_work_outlives_a_child_that_the_kernel_ends() -> None:
    work = dict(service("work"))
    assert (work["OOMPolicy"], work["Restart"]) == ("continue", "always")


def test_the_page_is_ended_before_inference_feels_how_much_it_takes() -> None:
    page, work = dict(service("web")), dict(service("work"))
    room_mb = child.ROOM_BYTES >> 20
    assert 300 + room_mb < int(page["MemoryMax"].removesuffix("M")) < 2048
    assert page["MemoryHigh"].endswith("M")
    assert int(page["MemoryHigh"][:-1]) < int(page["MemoryMax"][:-1])
    assert page["OOMPolicy"] == "continue", "the child that decodes may be ended, not the page"
    assert int(page["OOMScoreAdjust"]) > int(work["OOMScoreAdjust"])
    assert page["Environment"] == "MALLOC_ARENA_MAX=2"
