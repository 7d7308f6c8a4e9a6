"""Settings: every key is known, defaults deny, and an error names file and key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.errors import SettingsInvalid
from appliance.settings import TLS, Allow, Settings, default_state, find, load


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def written(text: str) -> Path:
        path = tmp_path / "scanside.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_without_a_file_the_defaults_deny_everyone() -> None:
    settings = load(None)
    assert settings.dicom.allow == ()
    assert settings.dicom.tls is None
    assert not settings.site.publish_uids
    assert (settings.dicom.ae_title, settings.dicom.port) == ("SCANSIDE", 11112)
    assert settings.mqtt.host == "127.0.0.1"
    assert settings.mqtt.password_file is None


def test_an_empty_file_is_the_defaults(write) -> None:  # type: ignore[no-untyped-def]
    assert load(write("")) == load(None)


def test_a_whole_file_is_read(write) -> None:  # type: ignore[no-untyped-def]
    settings = load(
        write(
            """
            state = "/srv/scanside"
            [site]
            name = "st-anna"
            publish_uids = true
            [dicom]
            port = 104
            tls = {ca = "/etc/ca.pem", cert = "/etc/box.pem", key = "/etc/box.key"}
            [[dicom.allow]]
            ae_title = "CT1"
            host = "10.1.2.0/24"
            quiet_s = 12
            [[dicom.allow]]
            ae_title = "*"
            host = "::1"
            [mqtt]
            tls = {ca = "/etc/ca.pem"}
            password_file = "/etc/mqtt.password"
            [work]
            backend = "onnxruntime"
            """
        )
    )
    assert settings.state == Path("/srv/scanside")
    assert settings.dicom.tls == TLS(
        ca=Path("/etc/ca.pem"), cert=Path("/etc/box.pem"), key=Path("/etc/box.key")
    )
    assert settings.mqtt.tls == TLS(ca=Path("/etc/ca.pem"))
    assert settings.dicom.allow == (
        Allow(ae_title="CT1", host="10.1.2.0/24", quiet_s=12),
        Allow(ae_title="*", host="::1"),
    )
    assert settings.mqtt.password_file == Path("/etc/mqtt.password")


BAD = {
    # text of the file: what the error names
    "prot = 1": "prot",
    "[dicom]\nprot = 104": "dicom.prot",
    "[dicomm]\nport = 104": "dicomm",
    "[[dicom.allow]]\nae_title = 'CT1'\nhost = '10.0.0.1'\nquiet = 3": "dicom.allow.0.quiet",
    "[[dicom.allow]]\nae_title = 'CT1'\nhost = '10.0.0.300'": "dicom.allow.0.host",
    "[[dicom.allow]]\nae_title = 'CT1'\nhost = '10.0.0.0/33'": "dicom.allow.0.host",
    "[[dicom.allow]]\nae_title = 'CT1'\nhost = 'scanner.local'": "dicom.allow.0.host",
    "[[dicom.allow]]\nhost = '10.0.0.1'": "dicom.allow.0.ae_title",
    "[[dicom.allow]]\nae_title = 'AN AE TITLE TOO LONG'\nhost = '10.0.0.1'": "dicom.allow.0",
    "[dicom]\nae_title = 'BACK\\\\SLASH'": "dicom.ae_title",
    "[dicom]\nport = 70000": "dicom.port",
    "[dicom]\ntls = {cert = '/x'}": "dicom.tls.ca",
    "[dicom]\ntls = {ca = '/x', verify = false}": "dicom.tls.verify",
    "[site]\nname = 'a/b'": "site.name",
    "[site]\ndevice = '+'": "site.device",
    "[work]\nquiet_s = 0": "work.quiet_s",
    "[work]\nquiet_s = nan": "work.quiet_s",
    "[work]\nbackend = 'tensorflow'": "work.backend",
    "[mqtt]\nprotocol = '4'": "mqtt.protocol",
    "[retain]\ndays = -1": "retain.days",
    "[dicom\nport = 1": "not TOML",
}


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_file_is_one_line_that_names_file_and_key(text: str, write) -> None:  # type: ignore[no-untyped-def]
    path = write(text)
    with pytest.raises(SettingsInvalid) as caught:
        load(path)
    assert str(path) in caught.value.text
    assert BAD[text] in caught.value.text
    assert "\n" not in caught.value.one_line()
    assert caught.value.code == "settings_invalid"


def test_a_file_that_is_not_there_or_no_text_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(SettingsInvalid, match=str(path)) as caught:
            load(path)
        assert "--config" in caught.value.remedy
    binary = tmp_path / "latin.toml"
    binary.write_bytes(b'[site]\nname = "\xe9"')
    with pytest.raises(SettingsInvalid, match="not TOML"):
        load(binary)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().state = Path("/")  # type: ignore[misc]


# Where things are


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings of the machine that runs this test."""
    for name in ("SCANSIDE_CONFIG", "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_settings_are_found_in_the_order_of_the_rules(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(None) in {None, Path("/etc/scanside/scanside.toml")}
    (alone / "scanside.toml").write_text("")
    assert find(None) == Path("scanside.toml")
    monkeypatch.setenv("SCANSIDE_CONFIG", "/named.toml")
    assert find(None) == Path("/named.toml")
    assert find(Path("/explicit.toml")) == Path("/explicit.toml")


@pytest.mark.usefixtures("alone")
def test_roots_state_is_under_var_lib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state() == Path("/var/lib/scanside")


def test_a_users_state_is_in_the_xdg_folder(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_state() == alone / ".local" / "state" / "scanside"
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert default_state() == Path("/xdg/scanside")
    assert Settings().state == Path("/xdg/scanside")


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.usefixtures("alone")
def test_systemd_says_where_the_state_is(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/private/scanside")
    assert default_state() == Path("/var/lib/private/scanside")


def test_what_may_be_asked_over_mqtt_is_a_list_of_known_verbs(write) -> None:  # type: ignore[no-untyped-def]
    assert load(None).mqtt.commands == ("ping", "resend", "stat", "resume")
    assert load(write('[mqtt]\ncommands = ["pause"]')).mqtt.commands == ("pause",)
    assert load(write("[mqtt]\ncommands = []")).mqtt.commands == ()
    with pytest.raises(SettingsInvalid, match=r"mqtt\.commands"):
        load(write('[mqtt]\ncommands = ["reboot"]'))
    with pytest.raises(SettingsInvalid, match=r"mqtt\.pause_s"):
        load(write("[mqtt]\npause_s = 0"))


ALLOWED = "[bundles]\nallow_unsigned = true\n"


def test_what_only_root_may_allow_is_refused_in_a_file_that_others_can_write(
    tmp_path: Path,
) -> None:
    path = tmp_path / "scanside.toml"
    path.write_text(ALLOWED)
    path.chmod(0o664)
    with pytest.raises(SettingsInvalid, match="allow_unsigned: others than root") as caught:
        load(path)
    assert "sudo chown root" in caught.value.remedy
    path.write_text("[bundles]\nallow_unsigned = false\n")
    assert not load(path).bundles.allow_unsigned


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a file of root")
def test_what_only_root_may_allow_is_obeyed_in_a_file_of_root(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    path = folder / "scanside.toml"
    path.write_text(ALLOWED)
    path.chmod(0o644)
    assert load(path).bundles.allow_unsigned
    folder.chmod(0o777)
    with pytest.raises(SettingsInvalid, match="others than root"):
        load(path)
    folder.chmod(0o755)
    os.chown(path, 12345, -1)
    with pytest.raises(SettingsInvalid, match="others than root"):
        load(path)


SENDER = '[[dicom.allow]]\nae_title = "CT1"\nhost = "10.0.0.5"\n'
PACS = '[[deliver]]\nname = "pacs"\nhost = "10.0.0.9"\ncalled_ae = "PACS"\n'


def test_an_archive_gets_final_reports_as_sr_unless_told_otherwise(write) -> None:  # type: ignore[no-untyped-def]
    (one,) = load(write(PACS)).deliver
    assert (one.kind, one.port, one.ae_title) == ("dicom", 104, "SCANSIDE")
    assert (one.profile, one.when) == (("sr",), "final")
    (both,) = load(write(PACS + 'profile = ["sr", "seg"]\nwhen = "preliminary"\n')).deliver
    assert (both.profile, both.when) == (("sr", "seg"), "preliminary")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (PACS + 'kind = "stow"\n', "deliver.0.kind: .*stow.*not spoken yet"),
        (PACS + "profile = []\n", r"deliver.0.profile"),
        (PACS + 'profile = ["sr", "sr"]\n', "deliver.0.profile: .*twice"),
        (PACS + 'profile = ["pdf"]\n', "deliver.0.profile"),
        (PACS.replace('"pacs"', '"mqtt"'), "deliver.0.name: .*the broker"),
        (PACS + 'certificate = "two words"\n', "deliver.0.certificate"),
        ('[dicom]\ncommitment = "relay"\n' + PACS, r"needs a \[\[deliver\]\] with commitment"),
        ('[dicom]\ncommitment = "on"\n', "dicom.commitment"),
        (SENDER + 'certificate = "ct1.ward"\n', r"needs \[dicom.tls\]"),
        (SENDER + 'commitment = "CT1"\n', "dicom.allow.0.commitment"),
        (SENDER + 'commitment = "CT1@10.0.0.5:0"\n', "dicom.allow.0.commitment: .*1 to 65535"),
        (PACS + PACS, r"two \[\[deliver\]\] have the name 'pacs'"),
    ],
)
def test_an_archive_that_makes_no_sense_is_named(write, text: str, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingsInvalid, match=says):
        load(write(text))
