"""`scanside enroll`: the settings keep what they had, and the key stays on the box."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from appliance import settings as site
from appliance.errors import SettingsInvalid, StateUnusable
from appliance.verbs import enroll
from rigs.authority import DAY, Authority

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may enroll a box")

BY_HAND = """# the box beside CT 1
[dicom]
ae_title = "SCANSIDE"   # as on the sticker

[[dicom.allow]]         # [site] of the other box: 192.0.2.18
ae_title = "CT1"
host = "192.0.2.17"

[mqtt]
host = "192.0.2.99"
commands = ["ping"]

[retain]
days = 3
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "broker-ca")


@pytest.fixture
def file(tmp_path: Path, authority: Authority) -> Path:
    path = tmp_path / "ct-1.toml"
    path.write_text(
        f"""schema = "scanside.enroll/1"
site = "radiology"
device = "ct-1"
channel = "stable"
[broker]
host = "192.0.2.2"
ca = '''{authority.ca.read_text()}'''
[update]
url = "https://releases.example/scanside"
window = "22:00-05:00"
"""
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "etc"
    made.mkdir()
    return made


def test_the_settings_get_what_the_file_says_and_keep_every_other_line(
    file: Path, folder: Path
) -> None:
    settings = folder / "scanside.toml"
    settings.write_text(BY_HAND)
    enroll.enroll(file, folder)
    text = settings.read_text()
    mqtt = BY_HAND[BY_HAND.index("[mqtt]") : BY_HAND.index("[retain]")]
    assert text.startswith(BY_HAND.replace(mqtt, "").rstrip("\n"))
    loaded = site.load(settings)
    assert (loaded.site.name, loaded.site.device) == ("radiology", "ct-1")
    assert (loaded.mqtt.host, loaded.mqtt.port, loaded.mqtt.commands) == (
        "192.0.2.2", 8883, ("ping",),
    )  # fmt: skip
    assert loaded.mqtt.tls is not None
    assert loaded.mqtt.tls.key == folder / "mqtt.key"
    assert loaded.update.url == "https://releases.example/scanside"
    assert loaded.update.channel == "stable"
    assert loaded.dicom.allow[0].host == "192.0.2.17"
    assert (folder / "scanside.toml.before").read_text() == BY_HAND


def test_the_same_file_again_changes_nothing_and_keeps_the_key(file: Path, folder: Path) -> None:
    enroll.enroll(file, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    enroll.enroll(file, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_only_a_request_leaves_the_box_and_the_key_is_for_root_and_the_stages(
    file: Path, folder: Path
) -> None:
    said = "\n".join(enroll.enroll(file, folder))
    request = file.with_name("radiology-ct-1.csr.pem")
    assert str(request) in said
    asked = x509.load_pem_x509_csr(request.read_bytes())
    assert asked.subject.rfc4514_string() == "CN=radiology/ct-1"
    assert b"PRIVATE" not in request.read_bytes()
    assert (folder / "mqtt.key").stat().st_mode & 0o007 == 0


def test_the_answer_is_taken_if_it_is_for_this_key_and_holds_now(
    file: Path, folder: Path, authority: Authority, tmp_path: Path
) -> None:
    answer = tmp_path / "answer.pem"
    enroll.enroll(file, folder)
    request = file.with_name("radiology-ct-1.csr.pem").read_bytes()
    answer.write_bytes(authority.sign(request))
    enroll.take(answer, folder)
    assert (folder / "mqtt.crt").read_bytes() == answer.read_bytes()

    answer.write_bytes(authority.sign(request, begins=-3 * DAY, ends=timedelta(0)))
    with pytest.raises(SettingsInvalid, match="holds from"):
        enroll.take(answer, folder)
    answer.write_bytes(authority.issue("another")[0].read_bytes())
    with pytest.raises(SettingsInvalid, match="another key"):
        enroll.take(answer, folder)
    assert x509.load_pem_x509_certificate((folder / "mqtt.crt").read_bytes())


def test_before_a_box_is_enrolled_no_answer_is_taken(folder: Path, authority: Authority) -> None:
    with pytest.raises(SettingsInvalid, match="not enrolled"):
        enroll.take(authority.ca, folder)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('root = "MIIB"', "root"),
        ('[trust]\nkeys = ["x"]', "trust"),
        ('[update2]\nurl = "x"', "update2"),
    ],
)
def test_the_file_can_change_neither_the_root_of_trust_nor_the_keys_of_bundles(
    file: Path, folder: Path, line: str, named: str
) -> None:
    text = file.read_text()
    file.write_text(f"{text}\n{line}\n" if line.startswith("[") else f"{line}\n{text}")
    with pytest.raises(SettingsInvalid, match=f"{named}.*[Ee]xtra"):
        enroll.enroll(file, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"stable"', '"beta"', "channel"),
        ('device = "ct-1"', 'device = "a/b"', "device"),
        ("BEGIN CERTIFICATE", "BEGIN CERTIFICAT", "certificate for broker-ca.pem"),
        ('"22:00-05:00"', '"at night"', "update.window"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_and_no_setting_changes(
    file: Path, folder: Path, old: str, new: str, why: str
) -> None:
    settings = folder / "scanside.toml"
    settings.write_text(BY_HAND)
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(SettingsInvalid, match=why):
        enroll.enroll(file, folder)
    assert settings.read_text() == BY_HAND
    assert list(folder.iterdir()) == [settings]


def test_who_is_not_root_is_told_what_to_type(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StateUnusable, match="only root") as told:
        enroll.enroll(file, folder)
    assert "sudo scanside enroll" in told.value.remedy
