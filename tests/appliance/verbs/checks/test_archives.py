"""The doctor and the archives: each is asked, nothing is stored, and the line is named."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from appliance.demo.child import free_port
from appliance.dicom.commitment import PUSH_MODEL
from appliance.settings import Settings
from appliance.verbs.checks.archives import archives
from appliance.verbs.checks.check import Check, Device
from rigs.archive import ALL, COMPREHENSIVE, ENHANCED, TITLE, serving
from rigs.authority import DAY, Authority
from rigs.peers import until
from rigs.web_archive import WebArchive, serving_web


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., Check]:
    """Ports by name -> the check of these archives. web: lines of one that is named `web`."""

    def check(
        profile: tuple[str, ...] = ("sr", "seg"),
        tls: Path | None = None,
        web: Mapping[str, object] | None = None,
        commitment: bool = False,
        **ports: int,
    ) -> Check:
        rows: list[dict[str, object]] = [
            {
                "name": name, "host": "127.0.0.1", "port": port, "called_ae": TITLE,
                "commitment": commitment, "profile": profile, "tls": {"ca": tls} if tls else None,
            }
            for name, port in ports.items()
        ]  # fmt: skip
        rows += [{"name": "web", "kind": "stow", **web}] if web else []
        settings = Settings.model_validate({"state": tmp_path, "deliver": rows})
        return archives(Device(settings, "scanside.toml"))

    return check


def test_without_archives_there_is_nothing_to_ask(checked: Callable[..., Check]) -> None:
    found = checked()
    assert (found.ok, found.remedy) == (True, "")
    assert "no [[deliver]]" in found.text


def test_an_archive_that_takes_all_is_well_and_gets_nothing(checked: Callable[..., Check]) -> None:
    with serving() as archive:
        found = checked(pacs=archive.port)
        until(lambda: archive.released == 1)
    assert found.ok
    assert found.text == f"pacs: PACS@127.0.0.1:{archive.port} answers C-ECHO with 0x0000"
    assert archive.came == []


def test_an_archive_of_the_older_class_is_well_and_it_is_said(
    checked: Callable[..., Check],
) -> None:
    with serving(classes=[ENHANCED, COMPREHENSIVE]) as archive:
        found = checked(("sr",), pacs=archive.port)
    assert found.ok
    assert "older class only" in found.text


def test_an_archive_that_promises_nothing_is_named_where_it_is_to(
    checked: Callable[..., Check],
) -> None:
    with serving() as archive:
        assert checked(pacs=archive.port).ok
        found = checked(commitment=True, pacs=archive.port)
    assert not found.ok
    assert "does not accept storage commitment" in found.text
    assert 'name = "pacs": commitment' in found.remedy
    with serving(classes=[*ALL, PUSH_MODEL]) as archive:
        assert checked(commitment=True, pacs=archive.port).ok


def test_classes_that_are_not_accepted_are_named_with_the_line(
    checked: Callable[..., Check],
) -> None:
    with serving(classes=[ENHANCED, COMPREHENSIVE]) as archive:
        found = checked(pacs=archive.port)
    assert not found.ok
    assert "1.2.840.10008.5.1.4.1.1.66.4" in found.text
    assert 'scanside.toml: [[deliver]] name = "pacs"' in found.remedy
    assert "`profile`" in found.remedy


def test_each_archive_is_asked_and_the_lines_of_those_that_fail_are_named(
    checked: Callable[..., Check],
) -> None:
    with serving() as well, serving(callers=["OTHER"]) as strict:
        found = checked(well=well.port, strict=strict.port, gone=free_port())
    assert not found.ok
    first, second, third = found.text.splitlines()
    assert first.startswith("well: ")
    assert "calling AE title not recognized" in second
    assert "no connection" in third
    of_strict, of_gone = found.remedy.splitlines()
    assert 'name = "strict": ae_title and called_ae' in of_strict
    assert 'name = "gone": host and port' in of_gone


@pytest.mark.parametrize(("days", "ok"), [(30, True), (3, False)])
def test_the_days_of_a_certificate_are_counted(
    checked: Callable[..., Check], tmp_path: Path, days: int, ok: bool
) -> None:
    authority = Authority(tmp_path, "hospital")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("pacs", "127.0.0.1", ends=(days + 0.2) * DAY))
    with serving(tls=context) as archive:
        found = checked(tls=authority.ca, pacs=archive.port)
    assert found.ok is ok
    assert f"its certificate ends in {days} days" in found.text
    assert bool(found.remedy) is not ok


def test_a_certificate_of_another_authority_names_the_line_of_tls(
    checked: Callable[..., Check], tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path, "hospital").issue("pacs", "127.0.0.1"))
    with serving(tls=context) as archive:
        found = checked(tls=Authority(tmp_path, "stranger").ca, pacs=archive.port)
    assert not found.ok
    assert found.remedy.endswith('[[deliver]] name = "pacs": tls.')


@pytest.mark.parametrize("status", [200, 202, 204, 400, 409, 422, 500])
def test_a_service_of_dicomweb_that_hears_us_is_well_and_gets_nothing(
    checked: Callable[..., Check], tmp_path: Path, status: int
) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    token.chmod(0o600)
    with serving_web(WebArchive(empty=status)) as archive:
        found = checked(web={"url": archive.url, "token_file": token})
    assert (found.ok, found.remedy) == (True, "")
    assert found.text.endswith(f"answers a request without an object with HTTP {status}")
    assert archive.came == []
    assert [one["Authorization"] for one in archive.asked] == ["Bearer abc"]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "token_file"),
        (403, "token_file"),
        (404, "url"),
        (405, "url"),
        (307, "url"),
        (415, "multipart/related"),
        (429, "busy"),
        (502, "log of the archive"),
        (503, "busy"),
    ],
)
def test_a_service_of_dicomweb_that_takes_nothing_is_named_with_the_line(
    checked: Callable[..., Check], status: int, says: str
) -> None:
    with serving_web(WebArchive(empty=status)) as archive:
        found = checked(web={"url": archive.url})
    assert not found.ok
    assert f"HTTP {status}" in found.text
    assert says in found.remedy
    assert found.remedy.endswith('scanside.toml: [[deliver]] name = "web".')


def test_a_service_of_dicomweb_that_is_away_or_no_such_service_names_the_url(
    checked: Callable[..., Check],
) -> None:
    gone = checked(web={"url": f"http://127.0.0.1:{free_port()}"})
    assert not gone.ok
    assert gone.remedy.endswith('[[deliver]] name = "web": url.')
    with serving() as archive:  # it speaks DICOM
        odd = checked(web={"url": f"http://127.0.0.1:{archive.port}"})
    assert not odd.ok
    assert odd.remedy.endswith('[[deliver]] name = "web": url.')


def test_a_secret_that_others_can_read_is_named_with_what_to_type(
    checked: Callable[..., Check], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    token.chmod(0o644)
    with serving_web() as archive:
        found = checked(web={"url": archive.url, "token_file": token})
        assert archive.connections == 0
    assert not found.ok
    assert f"chmod 600 {token}" in found.remedy


@pytest.mark.parametrize(("days", "ok"), [(30, True), (3, False)])
def test_the_days_of_the_certificate_of_a_service_are_counted(
    checked: Callable[..., Check], tmp_path: Path, days: int, ok: bool
) -> None:
    authority = Authority(tmp_path, "hospital")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("pacs", "127.0.0.1", ends=(days + 0.2) * DAY))
    with serving_web(tls=context) as archive:
        found = checked(web={"url": archive.url, "tls": {"ca": authority.ca}})
        stranger = Authority(tmp_path, "stranger").ca
        foreign = checked(web={"url": archive.url, "tls": {"ca": stranger}})
    assert found.ok is ok
    assert f"its certificate ends in {days} days" in found.text
    assert not foreign.ok
    assert foreign.remedy.endswith('[[deliver]] name = "web": tls.')
