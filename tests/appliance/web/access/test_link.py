"""One-time links: a secret behind the #, spent once, within ten minutes, for the loopback alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.errors import SettingsInvalid
from appliance.settings import Settings
from appliance.web.access import link, moment
from appliance.web.access.moment import Moment


def settings(state: Path, **web: object) -> Settings:
    return Settings.model_validate({"state": state, "web": {"port": 8042, **web}})


def secret(address: str) -> str:
    return address.partition("#")[2]


def test_a_link_is_spent_once(tmp_path: Path) -> None:
    address = link.make(settings(tmp_path))
    assert address.startswith("http://127.0.0.1:8042/start#")
    assert len(secret(address)) == 43, "256 bits"
    spent = link.spend(tmp_path, secret(address))
    assert spent is not None
    assert (spent.kind, spent.role) == ("page", "radiologist")
    assert link.spend(tmp_path, secret(address)) is None


def test_only_a_digest_is_at_rest(tmp_path: Path) -> None:
    address = link.make(settings(tmp_path))
    stored = (tmp_path / "web" / "links.json").read_text()
    assert secret(address) not in stored
    digest = stored.partition('"id": "')[2].partition('"')[0]
    assert link.spend(tmp_path, digest) is None


def test_a_link_that_is_spent_many_times_at_once_lets_one_in(tmp_path: Path) -> None:
    address = link.make(settings(tmp_path))
    with ThreadPoolExecutor(12) as pages:
        tries = [pages.submit(link.spend, tmp_path, secret(address)) for _ in range(12)]
        assert sum(one.result() is not None for one in tries) == 1


@pytest.mark.parametrize("forged", ["", "x" * 43, "\udcff"])
def test_another_secret_opens_nothing_and_spends_nothing(tmp_path: Path, forged: str) -> None:
    address = link.make(settings(tmp_path))
    assert link.spend(tmp_path, forged) is None
    assert link.spend(tmp_path, secret(address)) is not None


@pytest.mark.parametrize(("after_s", "opens"), [(599.0, True), (601.0, False), (-5.0, False)])
def test_it_lasts_ten_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float, opens: bool
) -> None:
    made = Moment(wall=1e9, boot="a", tick=100.0)
    monkeypatch.setattr(moment, "now", lambda: made)
    address = link.make(settings(tmp_path))
    later = Moment(wall=1e9 + after_s, boot="a", tick=100.0 + after_s)
    monkeypatch.setattr(moment, "now", lambda: later)
    assert (link.spend(tmp_path, secret(address)) is not None) is opens


def test_a_start_of_the_machine_with_another_clock_makes_no_old_link_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment, "now", lambda: Moment(wall=1e9, boot="a", tick=100.0))
    address = link.make(settings(tmp_path))
    monkeypatch.setattr(moment, "now", lambda: Moment(wall=9e8, boot="b", tick=1.0))
    assert link.spend(tmp_path, secret(address)) is None


def test_the_display_is_bound_by_the_link_that_was_spent_last(tmp_path: Path) -> None:
    one, other = (secret(link.make(settings(tmp_path), "display")) for _ in range(2))
    assert link.display(tmp_path) is None
    first = link.spend(tmp_path, one)
    assert first is not None
    assert first.role == "display"
    assert link.display(tmp_path) == first.id
    second = link.spend(tmp_path, other)
    assert second is not None
    assert link.display(tmp_path) == second.id != first.id


def test_revoked_is_the_display_and_every_link_of_it(tmp_path: Path) -> None:
    bound, waits = (secret(link.make(settings(tmp_path), "display")) for _ in range(2))
    page = secret(link.make(settings(tmp_path)))
    link.spend(tmp_path, bound)
    assert link.revoke(tmp_path)
    assert link.display(tmp_path) is None
    assert link.spend(tmp_path, waits) is None
    assert link.spend(tmp_path, page) is not None
    assert not link.revoke(tmp_path)


def test_links_that_nobody_spends_are_bounded(tmp_path: Path) -> None:
    made = [secret(link.make(settings(tmp_path))) for _ in range(link.MOST + 4)]
    opens = [link.spend(tmp_path, one) is not None for one in made]
    assert opens == [False] * 4 + [True] * link.MOST


TLS = {"certificate": "a.pem", "key": "b.pem"}
ANY = "0.0.0.0"  # noqa: S104 - nothing listens here


@pytest.mark.parametrize(
    ("web", "begins"),
    [
        ({"host": "::1"}, "http://[::1]:8042/"),
        ({"host": "127.0.0.9"}, "http://127.0.0.9:8042/"),
        ({"host": ANY, "tls": TLS}, "https://127.0.0.1:8042/"),
        ({"host": "::", "tls": TLS}, "https://[::1]:8042/"),
    ],
)
def test_it_leads_to_the_loopback(tmp_path: Path, web: dict[str, object], begins: str) -> None:
    assert link.make(settings(tmp_path, **web)).startswith(begins)


def test_a_page_that_is_not_on_the_loopback_has_no_links(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="loopback") as raised:
        link.make(settings(tmp_path, host="192.0.2.7", tls=TLS))
    assert ANY in raised.value.remedy
