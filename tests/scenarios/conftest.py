"""The whole product on one machine, for scenarios: real processes, real peers, made-up patients.

    mosquitto  <-  scanside run  <-  dcmtk storescu
        +-> mosquitto_sub, a separate subscriber

The bundle is the tiny one with a lung network that leaves the skin out, so that the phantom's lungs
are covered; it takes the name of the factory's, so that no other bundle answers for chest CT.
"""

from __future__ import annotations

import contextlib
import copy
import getpass
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pynetdicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from appliance.demo.child import child, free_port
from appliance.phantom import instances
from appliance.phantom.chest import Phantom, chest
from appliance.report import Report, pseudonym
from appliance.results.message import series_id
from appliance.settings import Settings, load
from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.store.site_key import site_key

BUNDLE = "lung-nodule"
PHI = {
    "PatientName": "Zyxwvut^Hidden",
    "PatientID": "PID-778899",
    "PatientBirthDate": "19410203",
    "AccessionNumber": "ACC-445566",
    "StudyDescription": "Secret description",
    "ReferringPhysicianName": "Quacksalver^Doc",
}
ENDINGS = ("analysed", "not_analysed", "failed")
WAIT_S = 40.0
Message = dict[str, Any]
Change = Callable[[Dataset, int], Dataset | None]


def program(name: str) -> str:
    """A peer's program outside the virtual environment, whose scripts shadow dcmtk's."""
    found = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


# Series.


@dataclass(frozen=True)
class Scan:
    """A series as files in a folder, in order of Instance Number (head first)."""

    folder: Path
    study: str
    series: str
    files: tuple[Path, ...]


@dataclass
class Scans:
    """Makes series of the phantoms."""

    root: Path
    coarse: Phantom
    """5 mm: the usual one."""
    finer: Phantom
    """4 mm, the same anatomy."""
    made: list[Scan] = field(default_factory=list)

    def make(
        self,
        change: Change = lambda image, index: image,
        *,
        phantom: Phantom | None = None,
        study: str | None = None,
        under: str = "",
    ) -> Scan:
        """A new series (of a new study unless one is given); `change` may alter or drop images."""
        study = study or _uid()
        series = _uid()
        folder = self.root / under / series
        folder.mkdir(parents=True)
        files = []
        made = instances.series(phantom or self.coarse, study_uid=study, series_uid=series)
        for index, image in enumerate(made):
            for name, value in PHI.items():
                setattr(image, name, value)
            del image.ImagesInAcquisition  # no expectation, unless `change` gives one
            image.PatientAge = "060Y"
            if (changed := change(image, index)) is not None:
                path = folder / f"{index:04d}.dcm"
                changed.save_as(path, enforce_file_format=True)
                files.append(path)
        self.made.append(Scan(folder, study, series, tuple(files)))
        return self.made[-1]

    def recoded(self, scan: Scan, *command: str) -> Scan:
        """The same images in another transfer syntax, by dcmtk; made once."""
        folder = self.root / f"{scan.series}-{command[0]}"
        if not folder.exists():
            folder.mkdir()
            for path in scan.files:
                options = [program(command[0]), *command[1:], str(path), str(folder / path.name)]
                subprocess.run(options, check=True, timeout=60)
        return Scan(folder, scan.study, scan.series, tuple(sorted(folder.iterdir())))


def _uid() -> str:
    return f"2.25.{uuid.uuid4().int}"


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Scans:
    coarse = chest(spacing_mm=(5.0, 2.8, 2.8), noise_hu=8.0)
    finer = chest(spacing_mm=(4.0, 2.8, 2.8), noise_hu=8.0)
    return Scans(tmp_path_factory.mktemp("scans"), coarse, finer)


# Bundles.


@dataclass(frozen=True)
class Bundles:
    """Files for `scanside bundle add`."""

    usual: Path
    newer: Path
    """The same name and networks, the next version."""
    broken: Path
    """For children only; its lung network fails on every real series, not on its golden case."""


@pytest.fixture(scope="session")
def bundles(_tiny_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    from compile.pack import pack  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    folder = tmp_path_factory.mktemp("bundles")

    def packed(name: str, version: str, age: list[float], segment: bytes) -> Path:
        source = json.loads(_tiny_files["source.json"])
        source |= {"name": name, "version": version}
        source["accepts"]["age_years"] = age
        source["line"]["segment"]["min_ml"] = 800.0  # a lung, not the table
        source["line"]["propose"]["top_k"] = 6
        for op in source["networks"]["propose"]["preprocess"]:
            if op["op"] == "resample":
                op["spacing_mm"] = [2.5, 2.5, 2.5]
        files = {
            **copy.copy(_tiny_files),
            "source.json": json.dumps(source).encode(),
            "segment.onnx": segment,
            "golden/segment.npz": _golden(segment),
        }
        at = folder / f"{name}-{version}"
        (at / "golden").mkdir(parents=True)
        for file, data in files.items():
            (at / file).write_bytes(data)
        path = folder / f"{name}-{version}.scanside"
        path.write_bytes(pack(at))
        return path

    return Bundles(
        packed(BUNDLE, "90.0.0", [18.0, 120.0], _lungs(whole=True)),
        packed(BUNDLE, "90.1.0", [18.0, 120.0], _lungs(whole=True)),
        packed("broken", "1.0.0", [0.0, 17.0], _lungs(whole=False)),
    )


def _lungs(*, whole: bool) -> bytes:
    """Where the mean of 5 x 5 x 5 voxels is near -850 HU. Not `whole`: 16 x 16 x 16 of it only."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    weights = {
        "w1": np.array([1.0, -1.0]).reshape(2, 1, 1, 1, 1),
        "b1": np.array([-0.12, 0.12]),
        "w2": np.array([-25.0, -25.0]).reshape(1, 2, 1, 1, 1),
        "b2": np.array([2.0]),
        "low": np.array(-6.0),
        "high": np.array(2.0),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["sides"]),
        helper.make_node("Relu", ["sides"], ["distance"]),
        helper.make_node("Conv", ["distance", "w2", "b2"], ["near"]),
        helper.make_node("Clip", ["near", "low", "high"], ["clipped"]),
        helper.make_node("AveragePool", ["clipped"], ["all"], kernel_shape=[5] * 3, pads=[2] * 6),
    ]
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    if whole:
        nodes.append(helper.make_node("Identity", ["all"], ["lungs"]))
    else:
        nodes.append(helper.make_node("Slice", ["all", "from", "to", "axes"], ["lungs"]))
        for name, values in {"from": [0, 0, 0], "to": [16] * 3, "axes": [2, 3, 4]}.items():
            tensors.append(numpy_helper.from_array(np.array(values, np.int64), name))
    volume = [1, 1, "z", "y", "x"]
    graph = helper.make_graph(
        nodes,
        "lungs",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, volume)],
        [helper.make_tensor_value_info("lungs", TensorProto.FLOAT, [1, 1, "a", "b", "c"])],
        tensors,
    )
    opset = helper.make_opsetid("", 18)
    data: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    return data


def _golden(model: bytes) -> bytes:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(7).random((1, 1, 16, 16, 16), dtype=np.float32)
    case = io.BytesIO()
    np.savez_compressed(case, input=image, lungs=session.run(None, {"image": image})[0])
    return case.getvalue()


# Processes.


class Broker:
    """mosquitto, which may be away for a while; it keeps what its subscribers have not heard."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        kept = folder / "mosquitto"
        kept.mkdir()
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nlog_type error\n"
            f"user {getpass.getuser()}\npersistence true\npersistence_location {kept}/\n"
        )
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        command = [program("mosquitto"), "-c", str(self._config)]
        process = self._stack.enter_context(child(command))
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert process.poll() is None, "mosquitto ended"
            time.sleep(0.05)
        raise AssertionError("mosquitto does not listen")

    def stop(self) -> None:
        self._stack.close()


@dataclass
class Site:
    """A running appliance with its broker and its subscriber."""

    folder: Path
    config: Path
    settings: Settings
    broker: Broker
    process: subprocess.Popen[bytes]
    key: bytes
    said: list[tuple[str, str]] = field(default_factory=list)
    """(topic, payload) of every message that the subscriber heard."""
    heard: threading.Condition = field(default_factory=threading.Condition)

    # What the scanner does.

    def send(self, *what: Scan | Path, ae: str = "SCANNER", options: Sequence[str] = ()) -> int:
        """One association of storescu; its exit status."""
        return self.sending(*what, ae=ae, options=options).wait(60)

    def sending(
        self, *what: Scan | Path, ae: str = "SCANNER", options: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """storescu on its way."""
        paths = [str(w.folder if isinstance(w, Scan) else w) for w in what]
        command = [program("storescu"), "-aet", ae, "-aec", "SCANSIDE", "+sd", "+r", "-nh"]
        command += [*options, "127.0.0.1", str(self.settings.dicom.port), *paths]
        return subprocess.Popen(
            command,
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[Sequence[Path]], None]]:
        """An association that stays open until the end of the block; sends what it is given."""
        peer = pynetdicom.AE("SCANNER")
        peer.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = peer.associate("127.0.0.1", self.settings.dicom.port, ae_title="SCANSIDE")
        assert association.is_established
        # else Nagle and delayed ACK cost 40 ms an image
        association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def store(files: Sequence[Path]) -> None:
            for path in files:
                assert association.send_c_store(path).Status == 0

        try:
            yield store
        finally:
            if association.is_established:
                association.release()

    # What the subscriber heard.

    def messages(self) -> list[tuple[str, Message]]:
        return [(topic, json.loads(payload)) for topic, payload in list(self.said)]

    def events(self, scan: Scan, *names: str) -> list[Message]:
        """Study events of this series, in order; with `names` only those."""
        topic = f"/study/{pseudonym(self.key, scan.study)}/event"
        mine = str(series_id(scan.series))
        return [
            m
            for t, m in self.messages()
            if t.endswith(topic) and m["series"] == mine and (not names or m["event"] in names)
        ]

    def findings(self, report: Report) -> list[Message]:
        """Finding messages of this report."""
        return [
            m
            for t, m in self.messages()
            if "/finding/" in t and m["report_id"] == str(report.report_id)
        ]

    def until(self, found: Callable[[], Any], what: str, within_s: float = WAIT_S) -> Any:
        """Wait until `found` gives something; look again at each message."""
        end = time.monotonic() + within_s
        while not (answer := found()):
            left = end - time.monotonic()
            if left <= 0:
                log = self.log().splitlines()[-15:]
                raise AssertionError(f"no {what} within {within_s:.0f} s\n" + "\n".join(log))
            with self.heard:
                self.heard.wait(min(left, 0.2))
        return answer

    def ending(self, scan: Scan, count: int = 1) -> Message:
        """The count-th event of this series that ends it."""
        found = self.until(
            lambda: self.events(scan, *ENDINGS)[count - 1 :], f"ending {count} of {scan.series}"
        )
        message: Message = found[0]
        return message

    def report(self, scan: Scan, count: int = 1) -> Report:
        """The report of the count-th ending, with all its findings heard."""
        report = Report.model_validate(self.ending(scan, count)["report"])
        self.until(lambda: len(self.findings(report)) == len(report.findings), "findings")
        return report

    def settled(self) -> None:
        """Nothing waits in the outbox and nothing is being followed."""
        with self.journal() as journal:
            self.until(
                lambda: not journal.series("open") and not journal.outbox_counts().waiting,
                "rest",
            )

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        with Journal.open(self.settings.state / JOURNAL_NAME) as journal:
            yield journal

    def log(self) -> str:
        return (self.folder / "appliance.log").read_text(errors="replace")

    # What the operator does.

    def analyze(self, folder: Path) -> list[Report]:
        """`scanside analyze` with the same settings and state."""
        said = json.loads(self.scanside("analyze", str(folder), "--json"))
        return [Report.model_validate(one) for one in said]

    def scanside(self, *arguments: str) -> str:
        """A verb with this site's settings; its output."""
        command = [sys.executable, "-m", "appliance", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, path: Path, name: str, version: str) -> None:
        self.scanside("bundle", "add", str(path), "--allow-unsigned")
        self.scanside("bundle", "activate", name, version)

    def command(self, verb: str, **payload: Any) -> Message:
        """Ask over MQTT and wait for the reply."""
        ask = uuid.uuid4().hex
        root = f"scanside/v1/{self.settings.site.name}/{self.settings.site.device}"
        body = json.dumps({"id": ask, "reply_to": f"{root}/reply/tests", **payload})
        command = [program("mosquitto_pub"), "-p", str(self.broker.port), "-q", "1"]
        subprocess.run([*command, "-t", f"{root}/cmd/{verb}", "-m", body], check=True, timeout=20)
        replies = self.until(
            lambda: [
                m for t, m in self.messages() if t.endswith("/reply/tests") and m["id"] == ask
            ],
            f"reply to {verb}",
        )
        reply: Message = replies[0]
        return reply

    def stage(self, name: str) -> int:
        """The process id of a stage."""
        for pid in _children(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if name.encode() in words:
                return pid
        raise AssertionError(f"no stage {name}")

    def kill(self, name: str) -> None:
        """kill -9 for a stage and whatever it forked; `run` starts it again."""
        pid = self.stage(name)
        for one in (pid, *_children(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


SETTINGS = """state = "{folder}/state"
[site]
name = "ward"
device = "box-1"
[dicom]
bind = "127.0.0.1"
port = {port}
[[dicom.allow]]
ae_title = "SCANNER"
host = "127.0.0.0/8"
[[dicom.allow]]
ae_title = "EMERGENCY"
host = "127.0.0.0/8"
priority = "stat"
[mqtt]
port = {broker}
[work]
quiet_s = 1.2
released_quiet_s = 0.5
aborted_quiet_s = 3  # longer than `receive` needs to be started again
threads = 2
[retain]
reserve_mb = 64
target_free_mb = 64
"""


def _listen(site: Site, output: io.BufferedReader) -> None:
    for line in output:
        topic, _, payload = line.decode().rstrip("\n").partition(" ")
        with site.heard:
            site.said.append((topic, payload))
            site.heard.notify_all()


@contextlib.contextmanager
def running(folder: Path, bundle: Path) -> Iterator[Site]:
    """A site with this bundle active, until the end of the block."""
    broker = Broker(folder)
    broker.start()
    config = folder / "scanside.toml"
    config.write_text(SETTINGS.format(folder=folder, port=free_port(), broker=broker.port))
    settings = load(config)
    subscribe = [program("mosquitto_sub"), "-p", str(broker.port), "-q", "1", "-c", "-i", "ward"]
    subscribe += ["-V", "5", "-x", "3600", "-t", "scanside/v1/#", "-F", "%t %p"]
    ready_at = str(folder / "ready")
    environment = {**os.environ, "NOTIFY_SOCKET": ready_at}
    with contextlib.ExitStack() as stack:
        stack.callback(broker.stop)
        subscriber = stack.enter_context(
            child(subscribe, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        log = stack.enter_context((folder / "appliance.log").open("wb"))
        ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        ready.bind(ready_at)
        ready.settimeout(90)
        site = Site(folder, config, settings, broker, process=None, key=b"")  # type: ignore[arg-type]
        site.install(bundle, BUNDLE, "90.0.0")
        run = [sys.executable, "-m", "appliance", "run", "--config", str(config)]
        site.process = stack.enter_context(child(run, stderr=log, env=environment))
        assert b"READY=1" in ready.recv(4096), site.log()
        site.key = site_key(settings.state)
        listener = threading.Thread(target=_listen, args=(site, subscriber.stdout), daemon=True)
        listener.start()
        yield site


@pytest.fixture(scope="session")
def site(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One appliance for all scenarios; each sends series of its own."""
    with running(tmp_path_factory.mktemp("site"), bundles.usual) as running_site:
        yield running_site
        running_site.process.terminate()
        assert running_site.process.wait(45) == 0, "a stage did not stop cleanly"


@pytest.fixture(scope="session")
def phi() -> dict[str, str]:
    """What every image says of its patient."""
    return PHI
