"""Who we are: from a file of its owner alone, and never shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from appliance.deliver import credentials
from appliance.errors import SettingsInvalid
from appliance.settings import Stow

SECRET = "s3cret"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\r\nwhat follows is not read\n")
    path.chmod(0o600)
    return path


def of(**lines: object) -> Stow:
    return Stow.model_validate({"name": "web", "url": "http://127.0.0.1/dicom-web", **lines})


def test_a_token_is_shown_as_bearer_and_a_password_as_basic(secret: Path) -> None:
    assert credentials.header(of()) == {}
    assert credentials.header(of(token_file=secret)) == {"Authorization": f"Bearer {SECRET}"}
    (basic,) = credentials.header(of(username="bøx", password_file=secret)).values()
    assert base64.b64decode(basic.removeprefix("Basic ")).decode() == f"bøx:{SECRET}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_file_that_others_may_read_or_write_is_not_used(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    for lines in ({"token_file": secret}, {"username": "a", "password_file": secret}):
        with pytest.raises(SettingsInvalid) as refused:
            credentials.header(of(**lines))
        assert refused.value.remedy == f"Type: chmod 600 {secret}"
        assert 'name = "web"' in refused.value.text
        assert "_file" in refused.value.text, "the line is named"


@pytest.mark.parametrize(
    "content", [b"", b"\nsecond", b"\xff\xfe\n", b"two words\n", b"a\x00b\n", "schlüssel".encode()]
)
def test_what_is_no_token_is_named_and_not_shown(secret: Path, content: bytes) -> None:
    secret.write_bytes(content)
    with pytest.raises(SettingsInvalid, match="its first line") as refused:
        credentials.header(of(token_file=secret))
    shown = refused.value.one_line()
    assert not any(word in shown for word in ("second", "two words", "schlüssel"))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r'\[\[deliver\]\] name = "web": token_file .*gone'):
        credentials.header(of(token_file=tmp_path / "gone"))
    with pytest.raises(SettingsInvalid, match="directory"):
        credentials.header(of(token_file=tmp_path))
