"""Passwords: what is kept, what fits, what is refused, and how many are computed at once."""

from __future__ import annotations

import re
import threading
import time

import pytest

from appliance.web.access import passwords


def test_a_password_fits_what_is_kept_of_it_and_no_other_does() -> None:
    kept = passwords.hashed("a password of a person")
    assert passwords.fits("a password of a person", kept)
    assert not passwords.fits("a password of a Person", kept)
    assert "a password" not in kept.model_dump_json()
    assert passwords.hashed("a password of a person").salt != kept.salt


def test_the_same_password_from_another_keyboard_is_the_same() -> None:
    assert passwords.fits("Cafe\u0301 ﬁne １２", passwords.hashed("Café fine 12"))


def test_nothing_fits_what_an_unknown_name_is_checked_against() -> None:
    assert not passwords.fits("", passwords.DECOY)
    of_an_account = passwords.hashed("x")
    assert (passwords.DECOY.n, passwords.DECOY.r, passwords.DECOY.p) == (
        of_an_account.n,
        of_an_account.r,
        of_an_account.p,
    )


def test_signs_that_are_no_text_are_an_answer_not_an_error() -> None:
    assert not passwords.fits("\udcff\x00" * 100, passwords.DECOY)


def test_a_generated_one_can_be_read_and_typed() -> None:
    made = {passwords.generated() for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"([a-z2-9]{4}-){3}[a-z2-9]{4}", one) for one in made)
    assert not any(set(one) & set("ilo01") for one in made)
    assert not any(passwords.weak(one, "anna") for one in made)


@pytest.mark.parametrize("word", ["", "short", "annaannaanna", "aaaaaaaaaaaa", "x" * 257])
def test_a_weak_one_is_told(word: str) -> None:
    assert passwords.weak(word, "anna")


def test_at_most_two_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, turn, go = 0, 0, threading.Lock(), threading.Event()

    def slow(*_: object, **__: object) -> bytes:
        nonlocal running, most
        with turn:
            running += 1
            most = max(most, running)
        go.wait(60)
        with turn:
            running -= 1
        return b"\0" * 32

    monkeypatch.setattr(passwords.hashlib, "scrypt", slow)
    threads = [
        threading.Thread(target=passwords.fits, args=("x", passwords.DECOY)) for _ in range(6)
    ]
    for one in threads:
        one.start()
    end = time.monotonic() + 60
    while most < passwords.AT_ONCE and time.monotonic() < end:
        time.sleep(0.01)
    go.set()
    for one in threads:
        one.join(60)
    assert most == passwords.AT_ONCE


def test_who_waits_too_long_is_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAIT_S", 0.0)
    for _ in range(passwords.AT_ONCE):
        passwords._turns.acquire()
    try:
        with pytest.raises(passwords.Busy):
            passwords.hashed("x")
    finally:
        for _ in range(passwords.AT_ONCE):
            passwords._turns.release()
