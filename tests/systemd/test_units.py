"""The systemd units: systemd itself reads them, and what the design promises stands in them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.host import driver, jetson
from appliance.stages import STAGES
from appliance.store import conditions, starts
from appliance.store.heartbeat import START
from appliance.web.pixels import child

UNITS = Path(__file__).parents[2] / "systemd"
DROP_IN = Path("scanside-work.service.d") / "50-gpu.conf"
NAMES = [stage.name for stage in STAGES]


def service(stage: str) -> list[tuple[str, str]]:
    """(key, value) of the [Service] section; a key may stand more than once."""
    lines = (UNITS / f"scanside-{stage}.service").read_text().split("[Service]")[1].splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as README installs them, the drop-in of a GPU too."""
    for unit in UNITS.glob("*.*"):  # what it starts must exist here, so this interpreter stands in
        text = unit.read_text().replace("/opt/scanside/bin/scanside", f"{sys.executable} -V")
        (tmp_path / unit.name).write_text(text)
    shutil.copytree(UNITS / "gpu", tmp_path, dirs_exist_ok=True)
    return tmp_path


def analyzed(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        [program, *words], capture_output=True, text=True, timeout=60, check=False
    )


def verified(folder: Path) -> tuple[int, list[str]]:
    """Exit code, and what systemd complains of."""
    units = sorted(str(path) for path in folder.iterdir() if path.is_file())
    done = analyzed("verify", "--man=no", *units)
    return done.returncode, [line for line in done.stderr.splitlines() if "scanside" in line]


def test_systemd_reads_every_unit_and_the_drop_in_without_a_complaint(installed: Path) -> None:
    assert verified(installed) == (0, [])
    drop_in = installed / DROP_IN
    drop_in.write_text(drop_in.read_text().replace("DevicePolicy=", "DevicesPolicy="))
    _, (complaint,) = verified(installed)  # so it did read the drop-in
    assert "Unknown key" in complaint
    assert "DevicesPolicy" in complaint


def exposure(folder: Path) -> tuple[float, str]:
    """systemd's own score of `work`, 0 (closed) to 10, and what it says of devices."""
    said = analyzed("security", "--offline=yes", str(folder / "scanside-work.service"))
    if "unrecognized option" in said.stderr:
        pytest.skip("this systemd-analyze has no --offline (systemd 250)")
    score = re.search(r"exposure level for scanside-work.service: ([\d.]+)", said.stdout)
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
    assert "cp systemd/*.* /etc/systemd/system/" in readme  # a pattern that leaves gpu/ out
    assert not [path for path in UNITS.glob("*.*") if path.is_dir()]


def test_the_target_starts_every_stage() -> None:
    parser = configparser.ConfigParser()
    parser.read(UNITS / "scanside.target")
    assert sorted(parser["Unit"]["Wants"].split()) == sorted(stage.unit for stage in STAGES)


@pytest.mark.parametrize("stage", NAMES)
def test_each_stage_is_a_verb_that_tells_when_it_is_ready(stage: str) -> None:
    pairs = dict(service(stage))
    assert pairs["ExecStart"] == f"/opt/scanside/bin/scanside {stage}"
    assert pairs["Type"] == "notify"
    assert pairs["User"] == "scanside"


def test_publish_cannot_see_pixels_and_work_has_no_network() -> None:
    hidden = {value for key, value in service("publish") if key == "InaccessiblePaths"}
    assert {"-/var/lib/scanside/spool", "-/var/lib/scanside/reports"} <= hidden
    work = dict(service("work"))
    assert work["PrivateNetwork"] == "yes"
    assert work["RestrictAddressFamilies"] == "AF_UNIX"


@pytest.mark.parametrize("stage", ["publish", "deliver", "receive"])
def test_who_has_no_need_of_names_cannot_see_them(stage: str) -> None:
    assert ("InaccessiblePaths", "-/var/lib/scanside/identities") in service(stage)


def test_deliver_sees_what_it_sends_and_publish_does_not() -> None:
    hidden = {value for key, value in service("deliver") if key == "InaccessiblePaths"}
    names = ("spool", "incoming", "quarantine", "reports", "identities", "site.key")
    assert hidden == {f"-/var/lib/scanside/{name}" for name in names}
    pairs = dict(service("deliver"))
    assert pairs["ReadOnlyPaths"] == "-/var/lib/scanside/outgoing"
    assert pairs["ExecCondition"] == "/opt/scanside/bin/scanside deliver --configured"
    assert ("InaccessiblePaths", "-/var/lib/scanside/outgoing") in service("publish")


@pytest.mark.parametrize("stage", NAMES)
def test_what_a_stage_must_not_see_or_write_is_there_before_it_starts(stage: str) -> None:
    """systemd.exec(5): what is not there at the start is not hidden once somebody makes it."""
    made = {f"-/var/lib/{name}" for name in dict(service(stage))["StateDirectory"].split()}
    kept = {v for key, v in service(stage) if key in {"InaccessiblePaths", "ReadOnlyPaths"}}
    ours = {path for path in kept if path.startswith("-/var/lib/scanside/")}
    assert ours - made <= {"-/var/lib/scanside/site.key"}, "a file, which `work` makes"


def test_web_shows_images_and_names_changes_none_and_sees_no_key() -> None:
    pairs = service("web")
    read_only = {value for key, value in pairs if key == "ReadOnlyPaths"}
    hidden = {value for key, value in pairs if key == "InaccessiblePaths"}
    state = "-/var/lib/scanside"
    assert read_only == {f"{state}/{name}" for name in ("spool", "reports", "identities")}
    assert hidden == {
        f"{state}/{name}" for name in ("incoming", "quarantine", "outgoing", "site.key")
    }
    assert dict(pairs)["ExecCondition"] == "/opt/scanside/bin/scanside web --configured"
    assert int(dict(pairs)["CPUWeight"]) < 100, "it is on nobody's way"


def test_the_example_of_a_kiosk_is_read_by_systemd_and_sees_no_state(tmp_path: Path) -> None:
    text = (UNITS / "examples" / "scanside-kiosk.service").read_text()
    assert "InaccessiblePaths=-/var/lib/scanside\n" in text
    assert "IPAddressDeny=any" in text
    (tmp_path / "scanside-kiosk.service").write_text(text.replace("/usr/bin/cage", sys.executable))
    assert verified(tmp_path) == (0, [])


def test_the_socket_is_the_port_of_the_default_settings() -> None:
    parser = configparser.ConfigParser()
    parser.read(UNITS / "scanside-receive.socket")
    assert parser["Socket"]["ListenStream"] == "11112"


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
    parser.read(UNITS / f"scanside-{stage}.service")
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert dict(service(stage))["Restart"] == "always"
    assert dict(service(stage))["RestartSec"] == "5"


def test_the_page_is_ended_before_inference_feels_how_much_it_takes() -> None:
    page, work = dict(service("web")), dict(service("work"))
    room_mb = child.ROOM_BYTES >> 20
    assert 300 + room_mb < int(page["MemoryMax"].removesuffix("M")) < 2048
    assert page["MemoryHigh"].endswith("M")
    assert int(page["MemoryHigh"][:-1]) < int(page["MemoryMax"][:-1])
    assert page["OOMPolicy"] == "continue", "the child that decodes may be ended, not the page"
    assert int(page["OOMScoreAdjust"]) > int(work["OOMScoreAdjust"])
    assert page["Environment"] == "MALLOC_ARENA_MAX=2"
