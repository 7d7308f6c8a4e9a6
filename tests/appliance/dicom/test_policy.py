"""Who may connect and what is negotiated: tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from pynetdicom.presentation import AllStoragePresentationContexts

from appliance.dicom import storage
from appliance.dicom.commitment import PUSH_MODEL
from appliance.dicom.policy import (
    ACCEPTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    NO_ABSTRACT_SYNTAX,
    NO_TRANSFER_SYNTAX,
    TRANSFER_SYNTAXES,
    Archive,
    Grants,
    Proposed,
    Roles,
    archives,
    are_priors,
    decide,
    holds,
    is_doctor,
    known_host,
    makes_exams,
    negotiate,
    priority,
    quiet_s,
    room,
    sends_priors,
    stores,
    unmapped,
)
from appliance.settings import TLS, Allow, Deliver, Dicom, Settings, Work

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
RLE, JPEG, J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"

SETTINGS = Dicom(
    allow=(
        Allow(ae_title="CT1", host="10.0.0.5"),
        Allow(ae_title="CT2", host="10.1.0.0/16"),
        Allow(ae_title="*", host="fd00::/8"),
    )
)


@pytest.mark.parametrize(
    ("calling", "host"),
    [
        ("CT1", "10.0.0.5"),
        (" CT1  ", "10.0.0.5"),
        ("CT1", "::ffff:10.0.0.5"),
        ("CT2", "10.1.200.3"),
        ("WHOEVER", "fd00::1"),
        ("WHOEVER", "fd00::1%eth0"),
    ],
)
def test_an_allowed_peer_gets_in(calling: str, host: str) -> None:
    assert decide(SETTINGS, calling_ae=calling, called_ae="SCANSIDE", host=host).allowed


@pytest.mark.parametrize(
    ("calling", "host"),
    [
        ("CT1", "10.0.0.6"),
        ("CT2", "10.0.0.5"),
        ("ct1", "10.0.0.5"),
        ("", "10.0.0.5"),
        ("*", "10.0.0.5"),
        ("CT1", "not an address"),
        ("WHOEVER", "fe80::1"),
    ],
)
def test_everyone_else_is_refused(calling: str, host: str) -> None:
    decision = decide(SETTINGS, calling_ae=calling, called_ae="SCANSIDE", host=host)
    assert decision.rejection == CALLING_AE_NOT_RECOGNIZED


def test_without_settings_nobody_gets_in() -> None:
    assert not decide(Dicom(), calling_ae="CT1", called_ae="SCANSIDE", host="127.0.0.1").allowed


def test_a_refusal_says_which_setting_to_change() -> None:
    decision = decide(Dicom(), calling_ae="CT1", called_ae="SCANSIDE", host="10.0.0.5")
    assert decision.text == "association refused: calling AE 'CT1' from 10.0.0.5 is not allowed"
    assert decision.remedy == 'add [[dicom.allow]] ae_title = "CT1" host = "10.0.0.5"'


def test_a_wrong_called_ae_is_told_apart() -> None:
    decision = decide(SETTINGS, calling_ae="CT1", called_ae="PACS", host="10.0.0.5")
    assert decision.rejection == CALLED_AE_NOT_RECOGNIZED
    assert "'PACS'" in decision.text


def test_an_ae_title_cannot_forge_a_log_line_or_a_setting() -> None:
    decision = decide(Dicom(), calling_ae='A"\nB\\', called_ae="SCANSIDE", host="10.0.0.5")
    assert 'ae_title = "A??B?"' in decision.remedy


def test_a_title_that_anyone_may_choose_cannot_forge_a_log_line() -> None:
    anyone = Dicom(allow=(Allow(ae_title="*", host="10.0.0.5"),))
    accepted = decide(anyone, calling_ae="A\nERROR b\x1b[2J", called_ae="SCANSIDE", host="10.0.0.5")
    assert accepted.allowed
    assert accepted.text.isprintable()


CT1, CT2 = ("CT1", "10.0.0.5"), ("CT2", "10.0.0.6")


@pytest.mark.parametrize(
    ("most", "share", "of_one"),
    [(100, 0.29, 29), (32, 0.75, 24), (4, 0.75, 3), (1, 0.75, 1), (2, 0.1, 1), (9, 1, 9)],
)
def test_one_sender_holds_no_more_than_its_share(most: int, share: float, of_one: int) -> None:
    dicom = Dicom(max_associations=most, share=share)
    assert room(dicom, [CT1] * (of_one - 1), calling_ae="CT1 ", host="10.0.0.5") is None
    refused = room(dicom, [CT1] * of_one, calling_ae="CT1 ", host="::ffff:10.0.0.5")
    assert refused is not None
    assert refused.rejection == LOCAL_LIMIT_EXCEEDED == (2, 3, 2)
    assert refused.of_share == (of_one < most)
    assert "[dicom]" in refused.remedy
    other = room(dicom, [CT1] * of_one, calling_ae="CT2", host="10.0.0.6")
    assert (other is None) == (of_one < most)


def test_all_places_together_are_no_more_than_there_are() -> None:
    full = room(Dicom(max_associations=2), [CT1, CT2], calling_ae="CT3", host="10.0.0.7")
    assert full is not None
    assert not full.of_share
    assert full.text == "association refused: 2 are open"


@pytest.mark.parametrize(
    ("calling", "host", "ours"),
    [
        ("SCANSIDE", "127.0.0.1", True),
        ("SCANSIDE ", "::1", True),
        ("SCANSIDE", "10.0.0.1", True),  # our own address
        ("SCANSIDE", "10.0.0.2", False),
        ("CT1", "127.0.0.1", False),
        ("SCANSIDE", "not an address", False),
    ],
)
def test_the_doctor_asks_under_our_own_name_from_this_machine(
    calling: str, host: str, ours: bool
) -> None:
    assert is_doctor(Dicom(bind="10.0.0.1"), calling_ae=calling, host=host) is ours


def test_hosts_of_any_allowed_peer_are_known() -> None:
    assert known_host(SETTINGS, "10.1.2.3")
    assert not known_host(SETTINGS, "192.168.1.1")


def test_the_quiet_time_is_the_peers_own_else_everyones_else_the_default() -> None:
    settings = Settings(
        dicom=Dicom(
            allow=(
                Allow(ae_title="*", host="10.0.0.0/8", quiet_s=7),
                Allow(ae_title="CT1", host="10.0.0.5", quiet_s=3),
                Allow(ae_title="CT2", host="10.0.0.6"),
            )
        ),
        work=Work(quiet_s=5),
    )
    assert [quiet_s(settings, ae) for ae in ("CT1 ", "CT2", "CT3")] == [3, 7, 7]
    assert quiet_s(Settings(), "CT1") == 5


def test_the_priority_of_a_sender_is_its_own_lines_word_else_that_of_the_star() -> None:
    settings = Settings(
        dicom=Dicom(
            allow=(
                Allow(ae_title="*", host="10.0.0.0/8", priority="stat"),
                Allow(ae_title="CT1", host="10.0.0.5"),
                Allow(ae_title="CT2", host="10.0.0.6", priority="stat"),
            )
        )
    )
    said = [priority(settings, ae) for ae in ("CT1 ", "CT2", "CT3")]
    assert said == ["routine", "stat", "stat"]
    assert priority(Settings(), "CT1") == "routine"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((IMPLICIT, EXPLICIT), EXPLICIT),
        ((EXPLICIT, IMPLICIT), EXPLICIT),
        ((J2K, JPEG, IMPLICIT), IMPLICIT),
        ((JPEG, J2K, BIG), BIG),
        ((JPEG, J2K, RLE), RLE),
        ((JPEG, J2K), J2K),
        (("1.2.3.4", JPEG), JPEG),
    ],
)
def test_uncompressed_comes_before_lossless_before_lossy_whatever_the_order_offered(
    offered: tuple[str, ...], chosen: str
) -> None:
    (answer,) = negotiate([Proposed(1, CT, offered)])
    assert (answer.result, answer.transfer_syntax) == (ACCEPTED, chosen)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.2.4.53",  # JPEG Spectral Selection, retired
        "1.2.840.10008.1.2.4.55",  # JPEG Full Progression, retired
        "1.2.840.10008.1.2.4.92",  # JPEG 2000 Multi-component Lossless
        "1.2.840.10008.1.2.4.93",
        "1.2.840.10008.1.2.4.110",  # JPEG XL
        "1.2.840.10008.1.2.4.111",
        "1.2.840.10008.1.2.4.112",
        "1.2.840.10008.1.2.8.1",  # Deflated Image Frame Compression
    ],
)
def test_a_transfer_syntax_that_nothing_here_decodes_is_not_accepted(uid: str) -> None:
    alone, beside = negotiate([Proposed(1, CT, (uid,)), Proposed(3, CT, (uid, RLE))])
    assert alone.result == NO_TRANSFER_SYNTAX
    assert (beside.result, beside.transfer_syntax) == (ACCEPTED, RLE)


def test_a_video_is_stored_but_not_as_an_image_that_is_analysed() -> None:
    endoscopy, mpeg = "1.2.840.10008.5.1.4.1.1.77.1.1.1", "1.2.840.10008.1.2.4.102"
    offered = [Proposed(n, uid, (mpeg,)) for n, uid in ((1, endoscopy), (3, CT))]
    assert [a.result for a in negotiate(offered)] == [ACCEPTED, NO_TRANSFER_SYNTAX]


def test_every_context_is_answered_in_its_order_with_a_reason() -> None:
    answers = negotiate(
        [
            Proposed(1, CT, ("1.2.3",)),
            Proposed(3, "1.2.840.10008.5.1.4.1.2.2.1", (IMPLICIT,)),
            Proposed(5, "1.2.840.10008.1.1", (IMPLICIT,)),
            Proposed(7, CT, ()),
            Proposed(9, CT, (RLE,)),
        ]
    )
    assert [(a.id, a.result) for a in answers] == [
        (1, NO_TRANSFER_SYNTAX),
        (3, NO_ABSTRACT_SYNTAX),
        (5, ACCEPTED),
        (7, NO_TRANSFER_SYNTAX),
        (9, ACCEPTED),
    ]


@pytest.mark.parametrize(
    "uid",
    [
        CT,
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
        "1.2.840.10008.5.1.4.1.1.1",  # CR
        "1.2.840.10008.5.1.4.1.1.1.1",  # DX for presentation
        "1.2.840.10008.5.1.4.1.1.1.1.1",  # DX for processing
        "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
        "1.2.840.10008.5.1.4.1.1.88.67",  # dose SR
        "1.2.840.10008.5.1.4.1.1.11.1",  # GSPS
        "1.2.840.10008.5.1.4.1.1.104.1",  # encapsulated PDF
        "1.2.840.10008.5.1.4.1.1.4",  # MR
        "1.2.840.10008.5.1.4.1.1.128",  # PET
        "1.2.840.113619.4.30",  # private
    ],
)
def test_whatever_a_scanner_stores_is_taken(uid: str) -> None:
    assert stores(uid)


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.1.9"]
)
def test_other_services_are_not(uid: str) -> None:
    assert not stores(uid)


def test_the_storage_classes_are_all_that_pynetdicom_knows() -> None:
    assert {str(c.abstract_syntax) for c in AllStoragePresentationContexts} == storage.CLASSES


def test_no_transfer_syntax_refers_to_pixels_elsewhere_and_none_is_listed_twice() -> None:
    assert len(set(TRANSFER_SYNTAXES)) == len(TRANSFER_SYNTAXES)
    assert not {"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95"} & set(TRANSFER_SYNTAXES)


@pytest.mark.parametrize("called", ["SCANSIDE", "PACS", ""])
def test_a_host_that_is_not_named_does_not_learn_our_ae_title(called: str) -> None:
    decision = decide(SETTINGS, calling_ae="CT1", called_ae=called, host="192.168.1.1")
    assert decision.rejection == CALLING_AE_NOT_RECOGNIZED


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        ("::ffff:192.0.2.17", "192.0.2.17"),
        ("::FFFF:c000:211", "192.0.2.17"),
        ("192.0.2.17", "192.0.2.17"),
        ("fe80::1%eth0", "fe80::1"),
        ("no address", "no address"),
    ],
)
def test_an_address_is_written_as_settings_have_it(shown: str, written: str) -> None:
    assert unmapped(shown) == written


def test_what_a_refusal_advises_is_accepted_by_the_settings() -> None:
    host = unmapped("::ffff:10.0.0.5")
    advised = decide(Dicom(), calling_ae="CT1", called_ae="SCANSIDE", host=host).remedy
    assert f'host = "{host}"' in advised
    allowed = Dicom(allow=(Allow(ae_title="CT1", host=host),))
    assert decide(allowed, calling_ae="CT1", called_ae="SCANSIDE", host="::ffff:10.0.0.5").allowed


def test_a_mapped_address_in_the_settings_names_the_one_to_write() -> None:
    with pytest.raises(ValidationError, match=r"write 192\.0\.2\.17"):
        Allow(ae_title="CT1", host="::ffff:192.0.2.17")


@pytest.mark.parametrize(
    ("bind", "bound", "held"),
    [
        ("0.0.0.0", "::", True),  # noqa: S104 - compared, not bound
        ("::", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "0.0.0.0", False),  # noqa: S104
        ("127.0.0.1", "::", False),
    ],
)
def test_a_bind_is_held_by_its_own_address_alone(bind: str, bound: str, held: bool) -> None:
    assert holds(bind, bound) is held


# Storage commitment

PACS = Archive("main", "PACS", "BOX", frozenset({"10.0.0.9"}))
NAMED = Archive("tls", "PACS", "BOX", frozenset({"10.0.0.9"}), certificate="pacs.ward")


@pytest.mark.parametrize(
    ("calling", "called", "host", "let_in"),
    [
        ("PACS", "BOX", "10.0.0.9", True),
        (" PACS ", "SCANSIDE", "::ffff:10.0.0.9", True),
        ("PACS", "OTHER", "10.0.0.9", False),
        ("PACS2", "BOX", "10.0.0.9", False),
        ("PACS", "BOX", "10.0.0.8", False),
        ("PACS", "BOX", "10.0.0.5", False),  # the address of an allowed sender
    ],
)
def test_an_archive_is_let_in_to_answer_and_may_do_nothing_else(
    calling: str, called: str, host: str, let_in: bool
) -> None:
    decision = decide(SETTINGS, calling_ae=calling, called_ae=called, host=host, archives=[PACS])
    assert decision.allowed == let_in
    if let_in:
        assert decision.grants == Grants(stores=False, archives=("main",))
        proposed = [Proposed(1, CT, (EXPLICIT,)), Proposed(3, "1.2.840.10008.1.1", (IMPLICIT,))]
        answers = negotiate(proposed, grants=decision.grants)
        assert [a.result for a in answers] == [NO_ABSTRACT_SYNTAX, ACCEPTED]


def test_an_archive_that_is_an_allowed_sender_too_may_do_both() -> None:
    both = Archive("main", "CT1", "BOX", frozenset({"10.0.0.5"}))
    sender = {"calling_ae": "CT1", "called_ae": "SCANSIDE", "host": "10.0.0.5"}
    assert decide(SETTINGS, **sender, archives=[both, PACS]).grants == Grants(archives=("main",))


def test_a_certificate_that_a_line_names_must_have_been_shown() -> None:
    archive = {"calling_ae": "PACS", "called_ae": "BOX", "host": "10.0.0.9"}
    refused = decide(SETTINGS, **archive, archives=[NAMED], shown={"ct1.ward"})
    assert refused.rejection == CALLING_AE_NOT_RECOGNIZED
    assert "has not shown its certificate" in refused.text
    assert "[[deliver]]" in refused.remedy
    assert decide(SETTINGS, **archive, archives=[NAMED], shown={"pacs.ward"}).allowed
    one_of_two = decide(SETTINGS, **archive, archives=[NAMED, PACS])
    assert one_of_two.grants.archives == ("main",)
    line = Allow(ae_title="CT1", host="10.0.0.5", certificate="A" * 64)
    allowed = Dicom(allow=(line,), tls=TLS(ca=Path("ca"), cert=Path("crt"), key=Path("key")))
    sender = {"calling_ae": "CT1", "called_ae": "SCANSIDE", "host": "10.0.0.5"}
    for shown, let_in in (((), False), (("b" * 64,), False), (("b" * 64, "a" * 64), True)):
        decision = decide(allowed, **sender, shown=shown)
        assert decision.allowed == let_in
        assert let_in or "[[dicom.allow]]" in decision.remedy


def test_the_host_of_an_archive_is_known() -> None:
    assert known_host(SETTINGS, "10.0.0.9", [PACS])
    assert not known_host(SETTINGS, "10.0.0.9")


def deliver(name: str, host: str, commitment: bool = True) -> Deliver:
    return Deliver(name=name, host=host, called_ae="PACS", ae_title="BOX", commitment=commitment)


def test_archives_are_the_destinations_that_are_asked_to_promise_with_their_addresses() -> None:
    settings = Settings(
        deliver=(
            deliver("a", "10.0.0.9"),
            deliver("b", "pacs.ward"),
            deliver("c", "10.0.0.7", commitment=False),
        )
    )
    assert [(one.name, one.hosts) for one in archives(settings)] == [
        ("a", {"10.0.0.9"}),
        ("b", frozenset()),
    ]
    named = archives(settings, lambda name: {f"address of {name}"}, calling_ae="PACS ")
    assert [one.hosts for one in named] == [{"10.0.0.9"}, {"address of pacs.ward"}]
    assert archives(settings, calling_ae="OTHER") == ()


@pytest.mark.parametrize(
    ("asked", "grants", "agreed"),
    [
        (None, Grants(), None),  # as without any of it
        (Roles(scu=False, scp=True), Grants(), None),
        (None, Grants(archives=("main",)), None),  # it does not ask to be the SCP
        (Roles(False, True), Grants(archives=("main",)), Roles(False, True)),
        (Roles(True, True), Grants(archives=("main",)), Roles(False, True)),
        (Roles(True, True), Grants(archives=("main",), asks=True), Roles(True, True)),
        (Roles(True, False), Grants(asks=True), Roles(True, False)),
        (Roles(False, True), Grants(asks=True), None),
    ],
)
def test_the_roles_of_commitment_are_what_a_peer_may_of_what_it_asks(
    asked: Roles | None, grants: Grants, agreed: Roles | None
) -> None:
    roles = {PUSH_MODEL: asked} if asked else {}
    one, image = negotiate(
        [Proposed(1, PUSH_MODEL, (IMPLICIT, EXPLICIT)), Proposed(3, CT, (IMPLICIT,))], roles, grants
    )
    assert one.result == (ACCEPTED if agreed else NO_ABSTRACT_SYNTAX)
    if agreed:
        assert (one.roles, one.transfer_syntax) == (agreed, EXPLICIT)
    assert (image.result, image.roles) == (ACCEPTED, None)


def test_a_sender_that_asks_for_no_role_may_ask_us() -> None:
    (one,) = negotiate([Proposed(1, PUSH_MODEL, (IMPLICIT,))], {}, Grants(asks=True))
    assert (one.result, one.roles, one.transfer_syntax) == (ACCEPTED, None, IMPLICIT)
    (other,) = negotiate([Proposed(1, PUSH_MODEL, (RLE,))], {}, Grants(asks=True))
    assert other.result == NO_TRANSFER_SYNTAX


def test_a_sender_may_ask_only_while_requests_are_relayed() -> None:
    sender = {"calling_ae": "CT1", "called_ae": "SCANSIDE", "host": "10.0.0.5"}
    assert not decide(SETTINGS, **sender).grants.asks
    line = Allow(ae_title="CT1", host="10.0.0.5", commitment="CT1@10.0.0.5:104")
    relay = Dicom(allow=(line,), commitment="relay")
    grants = decide(relay, **sender).grants
    assert (grants.asks, grants.answer_to) == (True, "CT1@10.0.0.5:104")


def test_a_sender_of_earlier_exams_is_one_only_where_every_line_of_its_own_says_so() -> None:
    def allow(title: str, role: str) -> Allow:
        line = {"ae_title": title, "host": "10.0.0.0/8", "role": role}
        return Allow.model_validate(line)

    told = (("PACS", "prior"), ("TWO", "prior"), ("TWO", "exam"), ("*", "exam"))
    lines = tuple(allow(title, role) for title, role in told)
    settings = Settings(dicom=Dicom(allow=lines))
    assert [sends_priors(settings, ae) for ae in ("PACS ", "TWO", "CT1")] == [True, False, False]
    anyone = Settings(dicom=Dicom(allow=(allow("CT1", "exam"), allow("*", "prior"))))
    assert [sends_priors(anyone, ae) for ae in ("PACS", "CT1")] == [True, False]
    assert not sends_priors(Settings(), "PACS")
    assert are_priors(settings, {"PACS"})
    assert not are_priors(settings, {"PACS", "CT1"})
    assert not are_priors(settings, None), "nobody knows who sent it"
    assert not are_priors(settings, ())
    assert makes_exams(settings, "CT1", {"PACS"})
    assert not makes_exams(settings, "CT1", {"PACS", "CT1"}), "it is one already"
    assert not makes_exams(settings, "PACS", {"PACS"})
