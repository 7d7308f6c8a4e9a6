"""The installer on a bare Debian, without a network: what a technician does on the first day.

The system is made by debootstrap with the packages that docs/install.md names and nothing else
(.ci/setup test-long); it is entered by chroot in namespaces of its own.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compile import installer
from compile.demo.repository import Repository
from compile.wheel import packed
from rigs.authority import Authority

ROOT = installer.ROOT
DEBIAN, WHEELS = ROOT / "build" / "debian", ROOT / "build" / "wheels" / "x86_64"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENTER = """
set -e
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$1" /usr/bin/env -i PATH="$2" HOME=/root LANG=C.UTF-8 timeout 900 sh -c "$3"
"""
LOOPBACK = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 1))"
)
"""SIOCSIFFLAGS, IFF_UP (netdevice(7)): a new network namespace has a loopback that is down."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter another system"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the archive is for x86-64"),
    pytest.mark.skipif(
        not (DEBIAN / "usr/bin/python3").exists() or not WHEELS.is_dir(),
        reason="build/debian or build/wheels is not there: make setup-test-long",
    ),
]


@dataclass
class Machine:
    """A Debian in a folder, and the archive unpacked in its /root."""

    root: Path
    archive: Path

    def types(self, line: str) -> subprocess.CompletedProcess[str]:
        """What a technician types there, without a network."""
        namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child"]
        return subprocess.run(
            ["/usr/bin/unshare", *namespaces, "sh", "-c", ENTER, "enter", self.root, PATH, line],
            capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip

    def installs(self, words: str = "") -> subprocess.CompletedProcess[str]:
        return self.types(f"cd /root/{self.archive.name} && ./install.sh {words}")

    def files(self, *folders: str) -> dict[str, tuple[int, int, int]]:
        """Path -> mode, size, time of change, of all that the installer puts down."""
        found = {}
        for folder in folders:
            for path in (self.root / folder).rglob("*"):
                if "__pycache__" not in path.parts and not path.is_dir():
                    facts = path.lstat()
                    found[str(path)] = (facts.st_mode, facts.st_size, facts.st_mtime_ns)
        return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Repository]:
    """The archive of this checkout for that Debian, and whose releases it believes."""
    folder = tmp_path_factory.mktemp("installer")
    repository = Repository(
        folder / "r", ROOT / "locks" / "device.txt", WHEELS, python=("3.11", "3.12")
    )
    repository.begin()
    parts = installer.Parts(
        "x86-64", packed(ROOT, folder), WHEELS, repository.first_root, pythons=("3.11",)
    )
    return installer.installer(parts, folder).path, repository


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, archive: tuple[Path, Repository]
) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine") / "debian"
    # cp, as it copies devices as such: /dev/zero has no end
    subprocess.run(["/bin/cp", "-a", DEBIAN, root], check=True)
    with tarfile.open(archive[0]) as tar:
        tar.extractall(root / "root", filter="data")
    yield Machine(root, root / "root" / archive[0].stem)
    shutil.rmtree(root)


def test_check_says_what_is_missing_and_changes_nothing(machine: Machine) -> None:
    before = machine.files("etc", "opt", "usr/local", "var/lib")
    done = machine.installs("--check")
    assert done.returncode == 0, done.stdout
    assert "missing" not in done.stdout
    python = machine.root / "usr/bin/python3.11"
    python.rename(python.with_name("python3.11.away"))
    done = machine.installs("--check")
    python.with_name("python3.11.away").rename(python)
    assert done.returncode == 1
    assert "missing   no whole Python from 3.11, below 3.12" in done.stdout
    assert "sudo apt-get install -y python3" in done.stdout
    assert machine.files("etc", "opt", "usr/local", "var/lib") == before


def test_a_damaged_archive_is_refused_before_anything_is_changed(machine: Machine) -> None:
    unit = machine.archive / "units" / "scanside.target"
    whole = unit.read_bytes()
    unit.write_bytes(whole + b"# more\n")
    done = machine.installs()
    unit.write_bytes(whole)
    assert done.returncode == 1
    assert "a file of this archive is missing or damaged" in done.stdout
    assert not (machine.root / "opt" / "scanside").exists()


def test_it_installs_enables_its_units_and_does_nothing_twice(machine: Machine) -> None:
    done = machine.installs()
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.types("scanside --version").stdout.startswith("scanside ")
    enabled = machine.types("systemctl is-enabled scanside.target scanside-receive.socket")
    assert enabled.stdout.split() == ["enabled", "enabled"]
    owners = machine.types("stat -c %U:%a /var/lib/scanside /var/lib/scanside-downloads").stdout
    assert owners.split() == ["scanside:700", "scanside-update:755"]
    placed = ("etc/systemd", "etc/scanside", "opt/scanside", "usr/local")
    before = machine.files(*placed)
    again = machine.installs()
    assert again.returncode == 0, again.stdout + again.stderr
    assert machine.files(*placed) == before


def test_it_is_enrolled_and_only_a_request_leaves_it(machine: Machine, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "broker")
    (machine.root / "root" / "ct-1.toml").write_text(
        'schema = "scanside.enroll/1"\nsite = "radiology"\ndevice = "ct-1"\nchannel = "stable"\n'
        f"[broker]\nhost = '192.0.2.2'\nca = '''{authority.ca.read_text()}'''\n"
    )
    done = machine.types("cd /root && scanside enroll ct-1.toml")
    assert done.returncode == 0, done.stderr
    request = machine.root / "root" / "radiology-ct-1.csr.pem"
    (machine.root / "root" / "answer.pem").write_bytes(authority.sign(request.read_bytes()))
    done = machine.types("cd /root && scanside enroll --cert answer.pem")
    assert done.returncode == 0, done.stderr
    settings = (machine.root / "etc/scanside/scanside.toml").read_text()
    assert 'root = "/opt/scanside"' in settings
    key = machine.types("stat -c %U:%G:%a /etc/scanside/mqtt.key").stdout.strip()
    assert key == "root:scanside:640"


RUN = """
set -e
cd /root
$slot/python -c {loopback}
cat >run.toml <<'END'
state = "/root/state"
[dicom]
bind = "127.0.0.1"
port = 11119
[[dicom.allow]]
ae_title = "*"
host = "127.0.0.1"
[retain]
reserve_mb = 64
target_free_mb = 64
[update]
root = "/opt/scanside"
trusted = "/root/trusted"
downloads = "/root/downloads"
END
mkdir -p trusted
cp /var/lib/scanside-update/1.root.json trusted/
scanside run --config run.toml >run.log 2>&1 &
pid=$!
$slot/python - <<'END'
import pathlib, time
from appliance.demo import scanner
from appliance.phantom import chest
port = pathlib.Path("/root/state/run/receive.port")
while not port.exists():
    time.sleep(0.2)
made = scanner.series(chest.chest())
scanner.send(made, scanner.Address("SCANSIDE", "127.0.0.1", int(port.read_text())))
while not list(pathlib.Path("/root/state/reports").rglob("*.json")):
    time.sleep(0.2)
END
kill $pid
wait $pid
"""


def test_what_was_installed_runs_and_analyses(machine: Machine) -> None:
    done = machine.types(
        "slot=/opt/scanside/current/bin\n" + RUN.format(loopback=shlex.quote(LOOPBACK))
    )
    log = machine.root / "root" / "run.log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    assert "final analysed" in log.read_text()


def test_another_root_of_trust_is_refused_and_nothing_is_changed_there(machine: Machine) -> None:
    root = machine.root / "var/lib/scanside-update/1.root.json"
    before = root.read_bytes()
    root.write_bytes(before + b"\n")
    done = machine.installs()
    assert done.returncode == 1
    assert "another root of trust" in done.stderr
    assert root.read_bytes() == before + b"\n"
    root.write_bytes(before)


def test_uninstalled_it_leaves_the_data_and_says_where(machine: Machine) -> None:
    done = machine.installs("--uninstall")
    assert done.returncode == 0, done.stderr
    assert not (machine.root / "opt" / "scanside").exists()
    assert not list((machine.root / "etc/systemd/system").glob("**/scanside*"))
    for place in ("/etc/scanside", "/var/lib/scanside", "/var/lib/scanside-update"):
        assert place in done.stdout
        assert (machine.root / place.lstrip("/")).is_dir()
