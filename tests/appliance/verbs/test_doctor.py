"""The doctor finds what is wrong, names the line, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance import settings as site
from appliance.bundle import trust
from appliance.errors import StateUnusable
from appliance.host import clock, driver
from appliance.report import SeriesKey
from appliance.results.message import of_series
from appliance.results.mqtt import enveloped
from appliance.results.owed import Owed
from appliance.runtime import gpu as runtime_gpu
from appliance.runtime.engine_shelf import Here
from appliance.store.events import BrokerConnected
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, damage
from appliance.store.lock import alone
from appliance.verbs import doctor
from appliance.verbs.checks.check import Check
from rigs.reports import NAMING


def a_free_port() -> int:
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Write a settings file; keys of [dicom] and [mqtt] as TOML."""

    def write(dicom: str = "", mqtt: str = "", rest: str = "") -> Path:
        path = tmp_path / "scanside.toml"
        path.write_text(
            f'state = "{tmp_path}/state"\n[retain]\nreserve_mb = 1\n'
            f"[dicom]\nport = {a_free_port()}\n{dicom}\n"
            f"[mqtt]\nport = {a_free_port()}\n{mqtt}\n{rest}\n"
        )
        return path

    return write


def found(path: Path, name: str) -> Check:
    (check,) = (c for c in doctor.examine(path).checks if c.name == name)
    return check


def test_every_link_is_checked_once_and_each_failure_says_what_to_do(config) -> None:
    examination = doctor.examine(config())
    names = [check.name for check in examination.checks]
    assert (
        len(names) == len(set(names)) == len(doctor.CHECKS) + 2
    )  # the settings before, a Jetson after
    for check in examination.checks:
        assert check.ok or check.remedy, check.name


def test_settings_that_cannot_be_read_are_the_one_failure(tmp_path: Path) -> None:
    path = tmp_path / "scanside.toml"
    path.write_text("[mqtt]\nhots = 'x'\n")
    (only,) = doctor.examine(path).checks
    assert not only.ok
    assert "mqtt.hots" in only.text
    assert str(path) in only.text


def test_an_empty_allow_list_names_the_lines_to_add(config) -> None:
    path = config()
    check = found(path, "allowed senders")
    assert not check.ok
    assert str(path) in check.remedy
    assert '[[dicom.allow]]\nae_title = "CT1"\nhost = "192.0.2.10"' in check.remedy
    config(rest=check.remedy.partition(":\n")[2])
    assert found(path, "allowed senders").ok


def test_a_broker_that_is_away_names_the_setting(config) -> None:
    path = config()
    check = found(path, "broker")
    assert not check.ok
    assert f"{path}: [mqtt] host and port" in check.remedy


def test_a_missing_password_file_names_the_setting(config) -> None:
    check = found(config(mqtt='username = "box"\npassword_file = "/nowhere"'), "broker")
    assert not check.ok
    assert "password_file" in check.text


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[int]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    maker = shutil.which("mosquitto_passwd")
    if program is None or maker is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    port = a_free_port()
    table = tmp_path / "table"
    table.touch()
    subprocess.run([maker, "-b", str(table), "box", "s3cret"], check=True)
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(
        f"user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {table}\n"
    )
    child = subprocess.Popen([program, "-c", str(conf)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with closing(socket.socket()) as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield port
    child.terminate()
    child.wait(60)


def test_a_broker_with_right_and_wrong_credentials(config, mosquitto, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    for text, ok in (("s3cret", True), ("guess", False)):
        secret.write_text(f"{text}\n")
        for protocol in ("auto", "3.1.1"):
            path = config(
                mqtt=f'username = "box"\npassword_file = "{secret}"\nprotocol = "{protocol}"'
            )
            path.write_text(
                path.read_text().replace("[mqtt]\nport = ", f"[mqtt]\nport = {mosquitto} #")
            )
            check = found(path, "broker")
            assert check.ok == ok, check
            if not ok:
                assert "username and password_file" in check.remedy
                assert "uthori" in check.text


def test_a_port_taken_by_something_that_is_not_dicom(config) -> None:
    path = config()
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        path.write_text(path.read_text().replace("[dicom]\n", "[dicom]\nbind = '127.0.0.1'\n", 1))
        text = path.read_text()
        dicom_port = text.partition("[dicom]")[2].partition("port = ")[2].partition("\n")[0]
        path.write_text(text.replace(dicom_port, str(other.getsockname()[1]), 1))
        hang_up = threading.Thread(target=_hang_up_twice, args=(other,), daemon=True)
        hang_up.start()
        check = found(path, "dicom port")
    assert not check.ok
    assert "not DICOM" in check.text
    assert "[dicom] port" in check.remedy


def _hang_up_twice(server: socket.socket) -> None:
    for _ in range(2):
        server.accept()[0].close()


def test_a_receiver_of_ours_answers_c_echo_and_another_program_is_not_taken_for_it(config) -> None:
    from pynetdicom import AE  # noqa: PLC0415

    ae = AE(ae_title="SCANSIDE")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        path = config(dicom="bind = '127.0.0.1'")
        text = path.read_text()
        dicom_port = text.partition("[dicom]")[2].partition("port = ")[2].partition("\n")[0]
        path.write_text(text.replace(dicom_port, str(server.server_address[1]), 1))
        with alone(site.load(path).state, "receive"):
            check = found(path, "dicom port")
        assert check.ok
        assert "0x0000" in check.text
        check = found(path, "dicom port")  # whose lock nobody holds now
        assert not check.ok
        assert "receive is not running: that is another program" in check.text
        assert "[dicom] port" in check.remedy
    finally:
        server.shutdown()
        server.server_close()


def test_a_damaged_journal_is_found_and_told_until_it_is_confirmed(config, tmp_path: Path) -> None:
    path = config()
    state = tmp_path / "state"
    state.mkdir()
    with Journal.open(state) as journal:
        for n in range(100):
            journal.audit.add("anna", "login", note="x" * 300, n=n)
    data = bytearray((state / JOURNAL_NAME).read_bytes())
    data[-4096:] = bytes(4096)  # one bad page
    (state / JOURNAL_NAME).write_bytes(data)
    check = found(path, "journal")
    assert not check.ok
    assert "scanside work" in check.remedy
    with pytest.raises(StateUnusable) as heeded:  # so a `work` that runs starts again, and mends it
        damage.heed(state / JOURNAL_NAME)
    assert heeded.value.code == "journal_suspected"
    Journal.open(state, manner=Manner.MEND).close()
    damage.heed(state / JOURNAL_NAME)
    told = damage.read(state)
    assert told is not None
    check = found(path, "journal")
    assert not check.ok
    assert str(told.file) in check.text
    assert "scanside journal confirm" in check.remedy
    damage.confirm(state)
    assert found(path, "journal").ok


def test_a_broken_audit_chain_is_found(config, tmp_path: Path) -> None:
    path = config()
    state = tmp_path / "state"
    state.mkdir()
    with Journal.open(state) as journal:
        journal.audit.add("anna", "bundle_activate", name="x")
        journal.audit.add("anna", "bundle_activate", name="y")
    assert found(path, "journal").ok
    with closing(sqlite3.connect(state / JOURNAL_NAME)) as db:
        db.execute("DROP TRIGGER audit_never_changes")
        db.execute("UPDATE audit SET actor = 'nobody' WHERE id = 1")
        db.commit()
    check = found(path, "journal")
    assert not check.ok
    assert "row 1" in check.text


def test_dead_messages_are_a_failure_and_waiting_ones_are_not(config, tmp_path: Path) -> None:
    path = config()
    (tmp_path / "state").mkdir()
    at = clock.EARLIEST
    with Journal.open(tmp_path / "state") as journal:
        said = of_series("received", SeriesKey("1.2", "1.2.3"), naming=NAMING, slices=1, at=at)
        journal.owed.add([enveloped(said)])
        assert found(path, "outbox").ok
        journal.owed.never("mqtt", str(said.message.event_id), "PUBACK 0x90")
    check = found(path, "outbox")
    assert not check.ok
    assert "scanside outbox" in check.remedy


def test_what_is_owed_to_an_archive_that_no_line_names_any_more_is_a_failure(
    config, tmp_path: Path
) -> None:
    path = config()
    (tmp_path / "state").mkdir()
    with Journal.open(tmp_path / "state") as journal:
        journal.owed.add([Owed("old-pacs", "k", None, b"{}")])
        check = found(path, "outbox")
        assert not check.ok
        assert "outbox to old-pacs 1 waiting" in check.text
        assert "No [[deliver]]" in check.remedy
        assert "scanside outbox drop --to old-pacs" in check.remedy
        journal.owed.drop_all("anna", "old-pacs")
        assert found(path, "outbox").ok


def test_a_full_disk_names_the_reserve(config) -> None:
    path = config()
    path.write_text(path.read_text().replace("reserve_mb = 1", "reserve_mb = 999999999"))
    check = found(path, "state")
    assert not check.ok
    assert f"{path}: [retain] reserve_mb" in check.remedy


def test_a_backend_that_is_not_installed_names_the_setting(config, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    path = config(rest='[work]\nbackend = "openvino"')
    check = found(path, "backend")
    assert not check.ok
    assert "[work] backend" in check.remedy


def test_a_missing_decoder_names_the_package(config, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "jpeg_ls", None)
    check = found(config(), "decoders")
    assert not check.ok
    assert check.remedy == "pip install pyjpegls"


def test_a_clock_before_this_software_is_found(config, monkeypatch) -> None:
    monkeypatch.setattr(clock, "EARLIEST", clock.EARLIEST.replace(year=9000))
    assert not found(config(), "clock").ok


def test_a_clock_before_what_the_journal_holds_is_found(config, tmp_path: Path) -> None:
    path = config()
    assert found(path, "clock").ok
    (tmp_path / "state").mkdir()
    with Journal.open(tmp_path / "state", lambda: time.time() + 86400.0) as tomorrow:
        tomorrow.events.add(BrokerConnected(protocol="5"))
    check = found(path, "clock")
    assert not check.ok
    assert "later rows" in check.text


@pytest.mark.parametrize(("gate", "ok"), [("passed", True), ("failed", False), ("not run", True)])
def test_the_golden_cases_of_the_active_bundle_count(
    config, monkeypatch, tmp_path, gate, ok
) -> None:
    from appliance.bundle import shelf  # noqa: PLC0415

    entry = shelf.Shelf(tmp_path / "new").active()[-1]
    entry = replace(entry, gate=gate)
    monkeypatch.setattr(shelf.Shelf, "active", lambda _self: (entry,))
    check = found(config(), "bundles")
    assert check.ok == ok
    assert f"{entry.name} {entry.version}" in check.text


def test_an_unsigned_bundle_that_does_not_count_is_named(config, tmp_path, tiny_bundle) -> None:
    """As the release before has left it."""
    data = tiny_bundle.read_bytes()
    digest = trust.check(data).digest
    detail = {"name": "tiny-nodule", "version": "1.0.0", "digest": digest}
    folder = tmp_path / "state" / "bundles"
    (folder / "tiny-nodule").mkdir(parents=True)
    (folder / "tiny-nodule" / f"1.0.0-{digest[:12]}.scanside").write_bytes(data)
    line = {digest: {"name": "tiny-nodule", "version": "1.0.0", "signed_by": "unsigned"}}
    (folder / "installed.json").write_text(json.dumps(line))
    (folder / "active.json").write_text(json.dumps({"tiny-nodule": {"active": digest}}))
    with Journal.open(tmp_path / "state") as journal:
        journal.audit.add("tests", "bundle add", **detail, signed_by="unsigned")
        journal.audit.add("tests", "bundle activate", **detail, before="-")
    check = found(config(), "bundles")
    assert not check.ok
    assert "tiny-nodule 1.0.0 does not count: it is not signed" in check.text
    assert "add the bundle again" in check.remedy


@pytest.mark.parametrize(("megabytes", "ok"), [(1000, False), (8000, True), (None, True)])
def test_too_little_memory_for_the_active_bundle_is_found(
    config, monkeypatch, megabytes, ok
) -> None:
    from appliance.host import memory  # noqa: PLC0415

    there = None if megabytes is None else megabytes << 20
    monkeypatch.setattr(memory, "available", lambda: there)
    check = found(config(), "memory")
    assert check.ok == ok
    assert ok or ("MemoryMax" in check.remedy and "1000 MB available" in check.text)


def test_a_shelf_that_cannot_be_loaded_is_a_failure_with_a_text(config, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "appliance.bundle.shelf", None)
    check = found(config(), "bundles")
    assert not check.ok
    assert "cannot be loaded" in check.text


def test_without_a_gpu_the_cpu_serves_and_that_is_no_failure(config, monkeypatch) -> None:
    monkeypatch.setattr(driver, "NODES", ())
    monkeypatch.setattr(driver, "MODULES", ())
    check = found(config(), "gpu")
    assert check.ok
    assert check.text == "this machine shows no NVIDIA GPU: the CPU serves"
    assert not found(config(rest='[work]\nbackend = "gpu"'), "gpu").ok
    check = found(config(rest='[work]\nbackend = "onnxruntime"'), "gpu")
    assert (check.ok, check.text) == (True, "not asked for: onnxruntime is set")


def test_a_gpu_that_the_service_is_kept_from_is_a_failure_with_the_drop_in(
    config, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(driver, "NODES", ())
    monkeypatch.setattr(driver, "MODULES", (str(tmp_path),))
    check = found(config(), "gpu")
    assert not check.ok
    assert "sees no device file of it: the CPU serves" in check.text
    assert "cp -r systemd/gpu/. /etc/systemd/system/" in check.remedy
    root = Path(__file__).parents[3]
    assert (root / "systemd" / "gpu" / "scanside-work@.service.d").is_dir()


def test_a_gpu_whose_driver_or_engine_is_missing_is_a_failure(
    config, monkeypatch, tmp_path
) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(driver, "NODES", (str(tmp_path / "nvidiactl"),))
    monkeypatch.setattr(driver, "PROBE", "raise SystemExit('cuInit answers 100')")
    check = found(config(), "gpu")
    assert not check.ok
    assert "cuInit answers 100: the CPU serves" in check.text
    assert "driver" in check.remedy
    here = Here(
        library="tensorrt", version="10.16", architecture="sm_87", gpu="Orin", board=None,
        power_mode=None, appliance="0",
    )  # fmt: skip
    monkeypatch.setattr(runtime_gpu, "this_machine", lambda: SimpleNamespace(here=here))
    check = found(config(), "gpu")
    assert not check.ok
    assert "[engine_missing]; the CPU serves" in check.text
    assert "scanside work" in check.remedy
    assert "systemd/gpu" in check.remedy


def test_a_state_folder_of_another_user_is_a_failure_and_the_rest_is_checked(
    config, monkeypatch
) -> None:
    exists = Path.exists

    def denied(self: Path) -> bool:
        if self.name == JOURNAL_NAME:
            raise PermissionError(13, "Permission denied", str(self))
        return exists(self)

    path = config()
    monkeypatch.setattr(Path, "exists", denied)
    checks = doctor.examine(path).checks
    assert len(checks) == len(doctor.CHECKS) + 2
    failed = [check for check in checks if "Permission denied" in check.text]
    assert {check.name for check in failed} == {
        *("journal", "images", "outbox", "clock", "corrections"),
        *("bundles", "memory", "site_key"),  # the audit says which bundles and which key count
    }
    assert all(JOURNAL_NAME in c.text and "sudo -u" in c.remedy for c in failed)


def test_examining_leaves_nothing_behind(config, tmp_path: Path) -> None:
    doctor.examine(config())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scanside.toml"]


def test_json_and_table_and_the_exit_code(config, capsys) -> None:
    path = config()
    assert doctor.main(path, as_json=True) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "scanside.doctor/1"
    assert printed["ok"] is False
    assert {"name", "ok", "text", "remedy"} == set(printed["checks"][0])
    assert doctor.main(path, as_json=False) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_bind_that_the_socket_of_systemd_does_not_hold_names_the_line(config, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = config(dicom="bind = '127.0.0.1'")
        text = path.read_text()
        port = text.partition("[dicom]")[2].partition("port = ")[2].partition("\n")[0]
        path.write_text(text.replace(port, str(taken.getsockname()[1]), 1))
        run = site.load(path).state / "run"
        run.mkdir(parents=True, exist_ok=True)
        (run / "receive.address").write_text("::\n")
        check = found(path, "dicom port")
    assert not check.ok
    assert "ListenStream=127.0.0.1:" in check.remedy
