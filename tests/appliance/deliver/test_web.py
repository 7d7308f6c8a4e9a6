"""One archive of DICOMweb: what it answers, and what becomes of the object and of all behind it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from appliance.deliver import web
from appliance.deliver.courier import SR_CLASS_REFUSED
from appliance.demo.child import free_port
from appliance.dicom.requestor import Limits
from appliance.results import pacs
from appliance.store.delivery import State
from appliance.store.events import ArchiveAway, ArchiveReached
from appliance.store.rows import OwedRow
from rigs.authority import DAY, Authority
from rigs.peers import HANG_S, until
from rigs.web_archive import (
    Post,
    Response,
    WebArchive,
    heard,
    listed,
    saying,
    serving_web,
    taken,
)
from tests.appliance.deliver.conftest import KEY, QUICK, Device, Served

Make = Callable[..., Device]
Serve = Callable[..., Served]
QUICKEST = replace(QUICK, limits=Limits(answer_s=0.3, release_s=0.3))


def settled(device: Device) -> None:
    until(lambda: not device.journal.owed.counts("web").waiting)


def only(device: Device, state: State) -> OwedRow:
    (row,) = device.journal.owed.listed(state)
    return row


def aways(device: Device) -> list[tuple[str, str]]:
    return [(one.event.code, one.event.text) for one in device.journal.events.of(ArchiveAway)]


def box_of(make: Make, url: str, *names: str, **lines: Any) -> Device:
    box = make(web={"web": {"url": url, **lines}})
    box.composed(*names, to="web")
    return box


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("right\n")
    path.chmod(0o600)
    return path


def test_what_was_composed_goes_in_order_over_one_connection_that_ends_when_nothing_is_owed(
    device: Make, serve: Serve
) -> None:
    with serving_web() as archive:
        box = box_of(device, archive.url, "1.1", "1.2", "1.3")
        serve(box)
        settled(box)
        assert archive.uids == ["1.1", "1.2", "1.3"]
        assert archive.connections == 1
        for post in archive.came:
            path = box.settings.state / "outgoing" / f"{post.uid}.dcm"
            assert post.whole == path.read_bytes()
            assert post.dataset() == dcmread(path)
            assert (post.path, post.headers["Accept"]) == (
                "/dicom-web/studies", "application/dicom+json",
            )  # fmt: skip
            assert "Authorization" not in post.headers
    rows = box.journal.owed.listed(State.DELIVERED)
    assert [row.last_error for row in rows] == [None] * 3
    assert aways(box) == []


def test_who_we_are_is_read_anew_for_each_connection(
    device: Make, serve: Serve, token: Path
) -> None:
    def answer(post: Post) -> Response:
        known = post.headers.get("Authorization") == "Bearer renewed"
        return taken(post) if known else Response(401)

    with serving_web(WebArchive(answer=answer)) as archive:
        box = box_of(device, archive.url, "1.1", "1.2", token_file=str(token))
        served = serve(box)
        until(lambda: served.deliverer._couriers[0].away)
        assert {one.headers["Authorization"] for one in archive.came} == {"Bearer right"}
        token.write_text("renewed\n")
        settled(box)
    assert box.journal.owed.counts("web").delivered == 2
    (said,) = aways(box)
    assert said == ("peer_rejects", f"{archive.url} refuses us: HTTP 401")


def test_a_secret_that_others_can_read_is_not_shown_and_the_archive_waits_for_another(
    device: Make, serve: Serve, token: Path
) -> None:
    token.chmod(0o644)
    with serving_web() as archive, serving_web() as well:
        box = device(web={
            "web": {"url": archive.url, "token_file": str(token)}, "well": {"url": well.url},
        })  # fmt: skip
        box.composed("1.1", to="web")
        box.composed("2.1", to="well")
        served = serve(box)
        until(lambda: box.journal.owed.counts("well").delivered)
        until(lambda: served.deliverer._couriers[0].away)
        assert "token_file" in str(served.deliverer._couriers[0].away)
        assert archive.connections == 0
        token.chmod(0o600)
        settled(box)
    assert [code for code, _ in aways(box)] == [web.CREDENTIALS]


@pytest.mark.parametrize(("failure", "mark"), [(0x0111, "0x0111"), (0xB00E, "0xB00E")])
def test_a_duplicate_is_sent_and_what_was_answered_is_kept(
    device: Make, serve: Serve, failure: int, mark: str
) -> None:
    with serving_web(
        WebArchive(answer=lambda post: Response(409, listed(post.uid, failure=failure)))
    ) as archive:
        box = box_of(device, archive.url, "1.1")
        serve(box)
        settled(box)
    assert mark in str(only(box, State.DELIVERED).last_error)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _post: Response(400),
        lambda _post: Response(404, b"<html>", "text/html"),
        lambda _post: Response(413),
        lambda _post: Response(409, b"<html>", "text/html"),
        lambda post: Response(200, listed(post.uid, failure=0xA900)),
        lambda post: Response(409, listed(post.uid, failure=0xA901)),
        lambda post: Response(202, listed(post.uid, failure=0x0124)),
    ],
)
def test_what_never_changes_by_itself_is_dead_at_once_and_the_rest_goes_on(
    device: Make, serve: Serve, answer: Callable[[Post], Response]
) -> None:
    archive = WebArchive(answer=lambda post: answer(post) if post.uid == "1.1" else taken(post))
    with serving_web(archive):
        box = box_of(device, archive.url, "1.1", "1.2")
        serve(box)
        settled(box)
    dead = only(box, State.DEAD)
    assert (dead.key, dead.attempts) == ("1.1", 1)
    assert str(dead.last_error).startswith("STOW-RS")
    assert str(dead.last_error).endswith(".")
    assert archive.uids == ["1.1", "1.2"]
    assert archive.connections == 1, "an answer ends no connection"


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (Response(401), "peer_rejects", "refuses us: HTTP 401"),
        (Response(403), "peer_rejects", "refuses us: HTTP 403"),
        (Response(408), "peer_busy", "is busy: HTTP 408"),
        (Response(429), "peer_busy", "is busy: HTTP 429"),
        (Response(500), "peer_fails", "fails: HTTP 500"),
        (Response(502, b"<html>", "text/html"), "peer_fails", "fails: HTTP 502"),
        (Response(503), "peer_busy", "is busy: HTTP 503"),
        (Response(301), "peer_redirects", "redirects: HTTP 301"),
        (
            Response(307, headers={"Location": "http://127.0.0.1:1/x?token=abc"}),
            "peer_redirects",
            "redirects: HTTP 307 to http://127.0.0.1:1/x",
        ),
        (Response(200, b"<html>Log in</html>", "text/html"), "peer_odd", "answers 200 with text"),
        (Response(200, b"{", "application/dicom+json"), "peer_odd", "no JSON"),
    ],
)
def test_what_the_archive_does_not_do_now_waits_is_named_and_kills_nothing(
    device: Make, serve: Serve, answer: Response, code: str, says: str
) -> None:
    away = threading.Event()
    away.set()
    archive = WebArchive(answer=lambda post: answer if away.is_set() else taken(post))
    with serving_web(archive):
        box = box_of(device, archive.url, "1.1", "1.2")
        served = serve(box)
        until(lambda: len(archive.came) > 15)
        courier = served.deliverer._couriers[0]
        assert says in str(courier.away)
        assert "token=abc" not in str(courier.away)
        rows = box.journal.owed.waiting("web", 9)
        assert [row.attempts for row in rows] == [0, 0], "and none can die of that"
        assert says in str(rows[0].last_error)
        away.clear()
        settled(box)
    assert box.journal.owed.counts("web").delivered == 2
    ((said, text),) = aways(box)
    assert (said, says in text) == (code, True)
    assert [one.event.subject for one in box.journal.events.of(ArchiveReached)] == ["web"]


def test_a_redirect_is_not_followed_to_another_host_nor_to_the_same(
    device: Make, serve: Serve
) -> None:
    with serving_web() as elsewhere:
        asked = threading.Event()

        def answer(post: Post) -> Response:
            there = (asked.is_set() and elsewhere.url) or "/elsewhere"
            asked.set()
            return Response(308, headers={"Location": there})

        with serving_web(WebArchive(answer=answer)) as archive:
            box = box_of(device, archive.url, "1.1")
            serve(box)
            until(lambda: len(archive.came) > 3)
            assert {post.path for post in archive.came} == {"/dicom-web/studies"}
    assert elsewhere.connections == 0


def test_it_is_not_asked_before_the_time_that_it_names_and_that_is_said_at_once(
    device: Make, serve: Serve
) -> None:
    """The bound is a quarter of an hour: what is asked for here is more than this test takes."""
    answer = Response(503, headers={"Retry-After": str(10 * int(HANG_S))})
    with serving_web(WebArchive(answer=lambda _post: answer)) as archive:
        box = box_of(device, archive.url, "1.1", "1.2")
        served = serve(box)
        until(lambda: served.deliverer._couriers[0].away)
        box.composed("1.3", to="web")
        courier = served.deliverer._couriers[0]
        seen = courier.seen
        until(lambda: courier.seen > seen)
        assert archive.uids == ["1.1"], "asked once"
        served.stop()
        assert served.errors == []


def test_an_object_on_which_alone_it_fails_lets_the_others_pass_and_is_dead_in_the_end(
    device: Make, serve: Serve
) -> None:
    """Each failure that counts has others taken between."""
    archive = WebArchive(answer=lambda p: Response(500) if p.uid == "1.1" else taken(p))
    with serving_web(archive):
        box = box_of(device, archive.url, "1.1", "1.2")
        serve(box)
        until(lambda: archive.uids.count("1.1") >= 4)
        assert archive.uids.count("1.2") == 1
        for n in range(3, 30):
            box.composed(f"1.{n}", to="web")
            until(lambda: not box.journal.owed.waiting("web", 2)[1:])
            seen = archive.uids.count("1.1")
            until(
                lambda seen=seen: (
                    archive.uids.count("1.1") > seen or box.journal.owed.counts("web").dead
                )
            )
            if box.journal.owed.counts("web").dead:
                break
        dead = only(box, State.DEAD)
    assert dead.key == "1.1"
    assert "HTTP 500, while it took others" in str(dead.last_error)


def test_an_object_that_alone_is_forbidden_lets_the_others_pass_and_never_dies_of_it(
    device: Make, serve: Serve
) -> None:
    archive = WebArchive(answer=lambda p: Response(403) if p.uid == "1.1" else taken(p))
    with serving_web(archive):
        box = box_of(device, archive.url, "1.1", *(f"1.{n}" for n in range(2, 12)))
        serve(box)
        until(lambda: box.journal.owed.counts("web").delivered == 10)
        for n in range(20, 30):
            seen = archive.uids.count("1.1")
            until(lambda seen=seen: archive.uids.count("1.1") > seen)
            box.composed(f"1.{n}", to="web")
            until(lambda n=n: box.journal.owed.counts("web").delivered == n - 9)
        (row,) = box.journal.owed.waiting("web", 9)
        assert (row.key, row.attempts) == ("1.1", 0)


def test_an_archive_that_is_full_is_asked_again_until_it_has_room(
    device: Make, serve: Serve
) -> None:
    full = threading.Event()
    full.set()

    def answer(post: Post) -> Response:
        return Response(409, listed(post.uid, failure=0xA700)) if full.is_set() else taken(post)

    with serving_web(WebArchive(answer=answer)) as archive:
        box = box_of(device, archive.url, "1.1", "1.2")
        serve(box)
        until(lambda: len(archive.came) > 5)
        assert set(archive.uids) == {"1.1"}, "only one of them is asked about"
        full.clear()
        settled(box)
        assert archive.uids[-2:] == ["1.1", "1.2"]
    assert [code for code, _ in aways(box)] == ["archive_full"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda post: Response(200, listed(post.uid, failure=0xC122)),
        lambda post: Response(202, listed(post.uid, failed=True)),
        lambda _post: Response(200, listed("9.9")),
    ],
)
def test_what_is_refused_without_a_clear_word_is_tried_five_times_and_the_rest_goes_on(
    device: Make, serve: Serve, answer: Callable[[Post], Response]
) -> None:
    archive = WebArchive(answer=lambda post: answer(post) if post.uid == "1.1" else taken(post))
    with serving_web(archive):
        box = box_of(device, archive.url, "1.1", "1.2")
        serve(box)
        settled(box)
    assert archive.uids.count("1.1") == 5
    assert archive.uids.count("1.2") == 1
    assert only(box, State.DEAD).key == "1.1"


def test_a_3d_report_whose_class_is_refused_is_ordered_in_the_older_class_once(
    device: Make, serve: Serve
) -> None:
    archive = WebArchive(answer=lambda post: Response(409, listed(post.uid, failure=0x0122)))
    with serving_web(archive):
        box = box_of(device, archive.url, "1.1")
        serve(box)
        (row,) = until(lambda: box.journal.owed.uncomposed(["web"], 9))
    order = pacs.ordered(row.body)
    assert order is not None
    assert (row.key, order.older_class) == ("1.1 older", True)
    assert str(only(box, State.DROPPED).last_error).startswith(SR_CLASS_REFUSED)


@pytest.mark.parametrize("how", ["gone", "broken"])
def test_an_object_whose_file_cannot_be_sent_is_dead_and_the_rest_goes_on(
    device: Make, serve: Serve, how: str
) -> None:
    with serving_web() as archive:
        box = box_of(device, archive.url, "1.1", "1.2")
        path = box.settings.state / "outgoing" / "1.1.dcm"
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(b"no object")
        serve(box)
        settled(box)
    assert archive.uids == ["1.2"]
    assert "object_unreadable" in str(only(box, State.DEAD).last_error)


def test_an_archive_that_is_away_gets_all_when_it_is_back_and_nothing_is_dead(
    device: Make, serve: Serve
) -> None:
    port = free_port()
    box = box_of(device, f"http://127.0.0.1:{port}/dicom-web", *(f"1.{n}" for n in range(1, 30)))
    served = serve(box)
    until(lambda: served.deliverer._couriers[0].away)
    with serving_web(port=port) as archive:
        settled(box)
        assert archive.uids == [f"1.{n}" for n in range(1, 30)]
    assert box.journal.owed.counts("web").delivered == 29


def silent(connection: socket.socket) -> None:
    heard(connection)
    connection.recv(1)


def garbage(connection: socket.socket) -> None:
    heard(connection)
    connection.sendall(b"220 mail.example ESMTP\r\n")


def endless(connection: socket.socket) -> None:
    heard(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


@pytest.mark.parametrize(
    ("speak", "code"), [(silent, "peer_silent"), (garbage, "peer_odd"), (endless, "peer_odd")]
)
def test_a_peer_that_does_not_answer_or_says_no_http_is_hung_up_on_and_kills_nothing(
    device: Make, serve: Serve, speak: Callable[[socket.socket], None], code: str
) -> None:
    with saying(speak) as port:
        box = box_of(device, f"http://127.0.0.1:{port}", "1.1", "1.2")
        served = serve(box, QUICKEST)
        until(lambda: served.deliverer._couriers[0].away)
        rows = box.journal.owed.waiting("web", 9)
    assert [(row.key, row.attempts) for row in rows] == [("1.1", 0), ("1.2", 0)]
    assert aways(box)[0][0] == code


def test_a_connection_that_the_archive_ended_while_idle_is_opened_anew_without_a_word(
    device: Make, serve: Serve
) -> None:
    port = free_port()
    box = box_of(device, f"http://127.0.0.1:{port}/dicom-web", "1.1")
    pace = replace(QUICK, idle_s=3600.0)
    with serving_web(port=port):
        serve(box, pace)
        settled(box)
    with serving_web(port=port) as archive:
        box.composed("1.2", to="web")
        settled(box)
        assert archive.uids == ["1.2"]
    assert aways(box) == []


def test_a_connection_that_the_archive_ends_after_each_object_is_opened_anew(
    device: Make, serve: Serve
) -> None:
    def answer(post: Post) -> Response:
        return Response(200, listed(post.uid), headers={"Connection": "close"})

    with serving_web(WebArchive(answer=answer)) as archive:
        box = box_of(device, archive.url, "1.1", "1.2", "1.3")
        serve(box)
        settled(box)
        assert (archive.uids, archive.connections) == (["1.1", "1.2", "1.3"], 3)
    assert aways(box) == []


@pytest.fixture
def secured(tmp_path: Path) -> Callable[..., tuple[ssl.SSLContext, Mapping[str, str]]]:
    """What a service with a certificate speaks, and the `tls` of the settings."""
    authority = Authority(tmp_path, "hospital")

    def make(**more: Any) -> tuple[ssl.SSLContext, Mapping[str, str]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("pacs", "127.0.0.1", **more))
        return context, {"ca": str(authority.ca)}

    return make


def test_over_https_objects_and_secret_go_to_who_has_the_right_certificate(
    device: Make,
    serve: Serve,
    token: Path,
    secured: Callable[..., tuple[ssl.SSLContext, Mapping[str, str]]],
) -> None:
    context, believed = secured()
    with serving_web(tls=context) as archive:
        box = box_of(device, archive.url, "1.1", "1.2", tls=believed, token_file=str(token))
        serve(box)
        settled(box)
        assert archive.uids == ["1.1", "1.2"]
        assert {one.headers["Authorization"] for one in archive.came} == {"Bearer right"}
        assert archive.connections == 1


def test_a_wrong_certificate_is_named_gets_neither_object_nor_secret_and_kills_nothing(
    device: Make,
    serve: Serve,
    token: Path,
    secured: Callable[..., tuple[ssl.SSLContext, Mapping[str, str]]],
) -> None:
    context, believed = secured(ends=-DAY / 2)
    with serving_web(tls=context) as archive:
        box = box_of(device, archive.url, "1.1", tls=believed, token_file=str(token))
        served = serve(box)
        until(lambda: served.deliverer._couriers[0].away)
        assert "the clock of this machine says" in str(served.deliverer._couriers[0].away)
        assert archive.came == []
    assert {code for code, _ in aways(box)} == {"peer_tls"}
    assert box.journal.owed.waiting("web", 9)[0].attempts == 0


def test_what_is_not_composed_yet_is_not_sent(device: Make, serve: Serve) -> None:
    with serving_web() as archive:
        box = box_of(device, archive.url, "1.1")
        box.journal.owed.add([pacs.Owed("web", "1.0", KEY, b"{}")])
        serve(box)
        until(lambda: box.journal.owed.counts("web").delivered == 1)
    assert archive.uids == ["1.1"]
