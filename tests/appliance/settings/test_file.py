"""Settings: every key is known, defaults deny, and an error names file and key."""

from __future__ import annotations

import os
import re
from datetime import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.errors import SettingsInvalid
from appliance.settings import TLS, Allow, Query, Settings, Stow, default_state, find, load


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
    "[[priors.query]]\nname = 'p'\naddress = 'PACS@h:0'": "priors.query.0.address",
    "[[priors.query]]\nname = 'p'\naddress = 'h:104'": "priors.query.0.address",
    "[[priors.query]]\nname = 'p'\naddress = 'P@h:1'\ncertificate = 'h'": "[priors.query.tls]",
    "[[priors.query]]\nname = 'p'\naddress = 'P@h:1'\n" * 2: "two [[priors.query]]",
    "[priors]\nkeep = false\n[[priors.query]]\nname = 'p'\naddress = 'P@h:1'": "keep = false",
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
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/scanside:/var/lib/scanside/spool")
    assert default_state() == Path("/var/lib/scanside"), "a unit that names folders in it too"


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
        (PACS + 'kind = "ftp"\n', "deliver.0: .*kind is dicom or stow, and not 'ftp'"),
        (PACS + "profile = []\n", r"deliver.0.profile"),
        (PACS + 'profile = ["sr", "sr"]\n', "deliver.0.profile: .*twice"),
        (PACS + 'profile = ["pdf"]\n', "deliver.0.profile"),
        (PACS.replace('"pacs"', '"mqtt"'), "deliver.0.name: .*the broker"),
        (PACS + 'profile = ["sc"]\nrejection_note = true\n', "deliver.0: .*rejects reports"),
        (PACS + 'certificate = "two words"\n', "deliver.0.certificate"),
        (PACS + 'certificate = "pacs.ward"\n', r"'pacs' needs \[deliver.tls\]"),
        (
            PACS + 'certificate = "pacs.ward"\ncommitment = true\n[deliver.tls]\nca = "a"\n',
            r"with commitment it needs \[dicom.tls\] too",
        ),
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


WEB = '[[deliver]]\nname = "web"\nkind = "stow"\n'
URL = WEB + 'url = "https://pacs.example/dicom-web/"\n'
CA = '[deliver.tls]\nca = "/etc/scanside/hospital.pem"\n'


def test_an_archive_of_dicomweb_is_a_url_with_what_is_believed_and_who_we_are(write) -> None:  # type: ignore[no-untyped-def]
    (one,) = load(write(URL + 'token_file = "/etc/scanside/token"\n' + CA)).deliver
    assert isinstance(one, Stow)
    assert (one.url, one.profile, one.when) == ("https://pacs.example/dicom-web", ("sr",), "final")
    assert one.tls is not None
    assert one.token_file == Path("/etc/scanside/token")
    basic = 'username = "box"\npassword_file = "/p"\nproxy = "http://proxy:3128"\n'
    (one,) = load(write(URL + basic + CA)).deliver
    assert isinstance(one, Stow)
    assert (one.username, one.proxy) == ("box", "http://proxy:3128")
    for host in ("127.0.0.1:8042", "[::1]:8042", "localhost"):
        (one,) = load(write(WEB + f'url = "http://{host}/dicom-web"\n')).deliver
        assert isinstance(one, Stow)
        assert one.tls is None


def test_archives_of_both_kinds_stand_side_by_side(write) -> None:  # type: ignore[no-untyped-def]
    web, pacs = load(write(URL + CA + PACS)).deliver
    assert (web.kind, pacs.kind) == ("stow", "dicom")
    with pytest.raises(SettingsInvalid, match=r"two .* have the name 'web'"):
        load(write(URL + CA + PACS.replace('"pacs"', '"web"')))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WEB, "deliver.0.url: Field required"),
        (PACS + 'url = "https://pacs.example/"\n', 'deliver.0: .*url is for kind = "stow" alone'),
        (PACS + 'token_file = "/t"\n', 'deliver.0: .*token_file is for kind = "stow" alone'),
        (URL + 'host = "10.0.0.9"\n' + CA, 'deliver.0: .*host is for kind = "dicom" alone'),
        (URL + "port = 443\n" + CA, 'deliver.0: .*port is for kind = "dicom" alone'),
        (URL + 'called_ae = "P"\n' + CA, 'deliver.0: .*called_ae is for kind = "dicom" alone'),
        (URL + 'ae_title = "A"\n' + CA, 'deliver.0: .*ae_title is for kind = "dicom" alone'),
        (URL + "commitment = true\n" + CA, "deliver.0.*commitment"),
        (URL, "deliver.0: .*https needs .*ca"),
        (URL + 'token = "secret"\n' + CA, "deliver.0.token"),
        (URL + 'password = "secret"\n' + CA, "deliver.0.password"),
        (URL + 'username = "box"\n' + CA, "username and password_file go together"),
        (URL + 'password_file = "/p"\n' + CA, "username and password_file go together"),
        (URL + 'username = "a:b"\npassword_file = "/p"\n' + CA, "deliver.0.username"),
        (
            URL + 'username = "a"\npassword_file = "/p"\ntoken_file = "/t"\n' + CA,
            "token_file, or username",
        ),
        (URL + 'proxy = "https://proxy:3128"\n' + CA, "deliver.0.proxy: .*begins with http"),
        (URL + 'proxy = "http://me:pw@proxy:3128"\n' + CA, "deliver.0.proxy: .*no password"),
        (URL + 'proxy = "http://proxy:3128/x"\n' + CA, "deliver.0.proxy: .*nothing behind"),
        (WEB + 'url = "http://127.0.0.1/"\nproxy = "http://p"\n', "url with https alone"),
        (WEB + 'url = "http://127.0.0.1/"\n' + CA, "url with https alone"),
        (WEB + 'url = "http://pacs.example/"\n', "deliver.0.url: .*127.0.0.1 alone"),
        (WEB + 'url = "http://127.0.0.1.example/"\n', "deliver.0.url: .*127.0.0.1 alone"),
        (WEB + 'url = "ftp://pacs.example/"\n', "deliver.0.url: .*begins with https or http"),
        (WEB + 'url = "https:///dicom-web"\n', "deliver.0.url: .*and a host"),
        (WEB + 'url = "https://me:pw@pacs.example/"\n', "deliver.0.url: .*no password"),
        (WEB + 'url = "https://pacs.example/?a=b"\n', r"deliver.0.url: .*from \? or # on"),
        (WEB + 'url = "https://pacs.example/x/studies/"\n', "deliver.0.url: .*/studies"),
        (WEB + 'url = "https://pacs.example:99999/"\n', "deliver.0.url: .*[Pp]ort"),
        (WEB + 'url = "https://pacs.example/a\\r\\nHost: b"\n', "deliver.0.url: .*no blanks"),
    ],
)
def test_an_archive_of_dicomweb_that_makes_no_sense_is_named(write, text: str, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingsInvalid, match=says):
        load(write(text))


def test_the_page_is_off_and_on_the_loopback_until_the_settings_say_else() -> None:
    web = load(None).web
    assert not web.enabled
    assert not web.names
    assert web.host == "127.0.0.1"
    assert web.languages == ("en", "zh")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('host = "0.0.0.0"', "leaves this machine with TLS alone"),
        ('host = "192.0.2.7"', "leaves this machine with TLS alone"),
        ('host = "ward.example"', "does not appear to be an IPv4 or IPv6 address"),
        ('hosts = ["ward.example:8042"]', "pattern"),
        ("port = 0", "greater than or equal to 1"),
        ("session_hours = 0", "greater than 0"),
        ("languages = []", "at least 1"),
        ('languages = ["de"]', "'en' or 'zh'"),
        ('[web.tls]\ncertificate = "a.pem"', "tls.key"),
    ],
)
def test_a_page_that_makes_no_sense_is_named(write, lines: str, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingsInvalid) as raised:
        load(write(f"[web]\n{lines}\n"))
    assert "web" in raised.value.text
    assert says in raised.value.text


def test_a_page_with_a_certificate_may_be_asked_from_elsewhere(write) -> None:  # type: ignore[no-untyped-def]
    text = '[web]\nhost = "::"\n[web.tls]\ncertificate = "a.pem"\nkey = "b.pem"\n'
    assert load(write(text)).web.host == "::"


def test_nothing_is_asked_for_updates_until_a_url_is_named_and_only_security_comes_by_itself() -> (
    None
):
    update = Settings().update
    assert update.url is None
    assert update.auto == ("security",)
    assert update.open_at(time(12, 0))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('url = "ftp://a/b"', "update.url: Value error, a URL that begins with https or http"),
        ('url = "https://me:word@a/b"', "no name and no password stand in a URL"),
        ('url = "http://a"\nca = "ca.pem"', "ca is for a url with https"),
        ('proxy = "http://p:3128"', "proxy is for a url"),
        ('url = "http://a"\nproxy = "http://p/x"', "nothing behind it"),
        ('window = "22-5"', "update.window: String should match"),
        ('window = "22:00-25:00"', "update.window: Value error"),
        ('window = "05:00-05:00"', "ends at another time"),
        ('auto = ["all"]', "update.auto.0: Input should be"),
    ],
)
def test_updates_that_make_no_sense_are_named(write, lines: str, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingsInvalid, match=re.escape(says)):
        load(write(f"[update]\n{lines}\n"))


def test_a_window_may_pass_midnight(write) -> None:  # type: ignore[no-untyped-def]
    night = load(write('[update]\nwindow = "22:00-05:00"\nauto = []\n')).update
    day = load(write('[update]\nwindow = "09:30-10:00"\n')).update
    assert night.auto == ()
    inside = [time(22, 0), time(23, 59, 59), time(0, 0), time(4, 59, 59)]
    assert [night.open_at(at) for at in inside] == [True] * 4
    assert not night.open_at(time(5, 0))
    assert not night.open_at(time(21, 59, 59))
    assert day.open_at(time(9, 30))
    assert not day.open_at(time(10, 0))


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("PACS@192.0.2.30:104", ("PACS", "192.0.2.30", 104)),
        ("THE PACS@[2001:db8::1]:11112", ("THE PACS", "2001:db8::1", 11112)),
        ("P@pacs.ward:4242", ("P", "pacs.ward", 4242)),
    ],
)
def test_the_address_of_an_archive_of_earlier_exams_is_its_title_host_and_port(
    address: str, peer: tuple[str, str, int]
) -> None:
    assert Query(name="pacs", address=address).peer == peer
