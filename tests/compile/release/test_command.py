"""The verbs as a person types them: the ceremony of docs/keys.md, word for word, and over HTTP."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import BadVersionNumberError
from tuf.ngclient import Updater

from appliance.release.record import Release, read_release
from compile import lock
from compile.__main__ import main
from compile.release import command
from rigs.bundles import BUNDLE, called
from rigs.releasing import SBOM, VEX
from rigs.wheels import requirements, wheel

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "keys.md"
WORDS = "four words nobody guesses"
TEXT = DOCUMENT.read_text("utf-8").replace("\\\n", "")
BLOCKS = re.findall(r"^```(sh|toml)\n(.*?)^```", TEXT, re.M | re.S)
COMMANDS = [line for kind, text in BLOCKS for line in text.splitlines() if kind == "sh"]


class Person:
    """Answers what is asked: `yes` to a question, the passphrase to anything else."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.seen = ""

    def isatty(self) -> bool:
        return False

    def readline(self) -> str:
        asked = self._capsys.readouterr().out
        self.seen += asked
        return "yes\n" if asked.rstrip().endswith("yes or no:") else f"{WORDS}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bytes: bytes) -> Path:
    """A folder with all that the ceremony names."""
    monkeypatch.chdir(tmp_path)
    libraries = dict([wheel("liba"), wheel("libb", "2.1")])
    for folder in ("dist", "locks", "index"):
        (tmp_path / folder).mkdir()
    for name, data in libraries.items():
        (tmp_path / "index" / name).write_bytes(data)
    (tmp_path / "locks" / "device.txt").write_bytes(requirements(libraries))
    name, data = wheel("scanside", "0.2.0")
    (tmp_path / "dist" / name).write_bytes(data)
    (tmp_path / "dist" / "sbom.json").write_bytes(SBOM)
    (tmp_path / "dist" / "vex.json").write_bytes(VEX)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "lung-nodule.scanside").write_bytes(called(BUNDLE, tiny_bytes))
    (tmp_path / "passphrase").write_text(f"{WORDS}\n")
    (tmp_path / "release.toml").write_text(next(text for kind, text in BLOCKS if kind == "toml"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    return tmp_path


def typed(line: str, place: Path) -> int:
    """One line of the document: ours in this process, another program's as it stands."""
    words = shlex.split(line)
    if words[:3] == ["python", "-m", "compile"]:
        return main(words[3:])
    if words[:3] == ["python", "-m", "compile.lock"]:
        found = lock.fetch("device", words[words.index("--machine") + 1], Path(words[4]), place)
        return 0 if found else 1
    return subprocess.run(words, check=False).returncode


@pytest.fixture
def person(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Person:
    found = Person(capsys)
    monkeypatch.setattr("sys.stdin", found)
    return found


def test_the_ceremony_can_be_followed_word_for_word(
    place: Path, person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(COMMANDS) > 80
    for line in COMMANDS:
        code = typed(line, place)
        told = capsys.readouterr()
        person.seen += told.out
        assert code == 0, f"{line}\n{told.err}"
    assert "repo: whole" in person.seen
    assert "stick: whole" in person.seen
    assert "RECALLS bundle lung-nodule 1.0.0" in person.seen
    assert "comes: lena" in person.seen
    assert "appliance 0.2.0: scanside-0.2.0-py3-none-any.whl, sha256" in person.seen
    assert WORDS not in person.seen


def test_every_verb_is_in_the_ceremony() -> None:
    used = {line.split()[4] for line in COMMANDS if line.startswith("python -m compile release ")}
    assert used == set(command.VERBS)
    assert command.__doc__ is not None
    for verb in command.VERBS:
        assert re.search(rf"^    {verb} ", command.__doc__, re.M)


@pytest.fixture
def published(place: Path, person: Person, capsys: pytest.CaptureFixture[str]) -> Path:
    """The repository of the ceremony after its first stable release."""
    until = next(n for n, line in enumerate(COMMANDS) if line.startswith("rm -r"))
    shutil.copytree(place / "index", place / "wheels" / "x86-64")
    for line in COMMANDS[: until + 1]:
        assert "--fetch" in line or typed(line, place) == 0, line
    capsys.readouterr()
    return place / "repo"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a folder on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout=60)
        server.server_close()


def taken(folder: Path, box: Path, root: bytes) -> Release:
    """What a plain client of python-tuf takes from a folder over HTTP, as stable/1.json."""
    for name in ("metadata", "targets"):
        (box / name).mkdir(parents=True, exist_ok=True)
    with serving(folder) as address:
        updater = Updater(
            str(box / "metadata"),
            f"{address}/metadata/",
            str(box / "targets"),
            f"{address}/targets/",
            bootstrap=root,
        )
        updater.refresh()
        line = updater.get_targetinfo("stable/1.json")
        assert line is not None
        return read_release(Path(updater.download_target(line)).read_bytes(), "stable/1.json")


def test_a_plain_client_of_python_tuf_goes_from_the_network_to_a_stick_and_back(
    published: Path, tmp_path: Path, person: Person
) -> None:
    root = (published / "public" / "metadata" / "1.root.json").read_bytes()
    box, keys = tmp_path / "box", ["--key", "which.key", "--key", "when.key"]
    release = taken(published / "public", box, root)
    assert release.appliance.version == "0.2.0"
    assert [one.version for one in release.bundles] == ["1.0.0"]
    stick = tmp_path / "some-stick"
    assert main(["release", "stick", str(published), str(stick), "--days", "90", *keys]) == 0
    assert taken(stick, box, root) == release
    with pytest.raises(BadVersionNumberError):
        taken(published / "public", box, root)
    assert main(["release", "publish", str(published), "--key", "first.key", *keys]) == 0
    assert taken(published / "public", box, root) == release
    with pytest.raises(BadVersionNumberError):
        taken(stick, box, root)
    assert main(["release", "stick", str(published), str(stick), "--days", "9", *keys]) == 1


def test_only_the_newest_release_of_a_channel_lies_on_a_stick(
    published: Path, tmp_path: Path, person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    stick = tmp_path / "some-stick"
    keys = ["--key", "which.key", "--key", "when.key"]
    words = ["release", "stick", str(published), str(stick), "--days", "9", *keys]
    assert main([*words, "--channel", "beta"]) == 1
    assert "there is no channel beta" in capsys.readouterr().err
    assert main([*words, "--channel", "stable"]) == 0
    assert list((stick / "targets").iterdir()) == [stick / "targets" / "stable"]
    assert main(["release", "check", str(stick)]) == 0
    assert "made for a stick" in capsys.readouterr().out


def test_what_is_wrong_is_listed_with_its_remedy(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = next((published / "public" / "blobs").rglob("*.zst"))
    blob.write_bytes(blob.read_bytes()[:-1])
    other = next(one for one in (published / "public" / "blobs").rglob("*.zst") if one != blob)
    other.unlink()
    assert main(["release", "check", str(published)]) == 1
    told = capsys.readouterr()
    assert f"{blob.name} has" in told.out
    assert f"{other.name} is missing" in told.out
    assert all("Copy" in line for line in told.out.splitlines() if line.startswith("WRONG"))
    assert "things are wrong" in told.err


def test_check_begins_with_the_root_that_a_box_has(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = published / "public" / "metadata" / "1.root.json"
    assert main(["release", "check", str(published), "--root", str(root)]) == 0
    said = json.loads(root.read_bytes())
    said["signatures"] = said["signatures"][:1]
    (tmp_path / "other.json").write_text(json.dumps(said))
    words = ["release", "check", str(published), "--root", str(tmp_path / "other.json")]
    assert main(words) == 1
    assert "1 of the 2 keys" in capsys.readouterr().out


def test_no_answer_signs_nothing(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "add", str(published), "canary", "--like", "stable/1"]) == 0
    answers = iter([f"{WORDS}\n", "no\n", f"{WORDS}\n", ""])
    monkeypatch.setattr("sys.stdin.readline", lambda: next(answers), raising=False)
    assert main(["release", "sign", str(published), "--key", "jan.key"]) == 1
    assert "nothing was signed" in capsys.readouterr().err
    assert main(["release", "sign", str(published), "--key", "jan.key"]) == 1
    assert "there is no answer" in capsys.readouterr().err
    assert list((published / "drafts" / "canary").iterdir()) == [
        published / "drafts" / "canary" / "metadata.json"
    ]
