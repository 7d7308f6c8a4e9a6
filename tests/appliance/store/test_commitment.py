"""What an answer of storage commitment means: each reason, and which answer counts."""

from __future__ import annotations

import pytest

from appliance.store import commitment
from appliance.store.commitment import Answer, Failed, Reference, Then

A, B, C = (Reference(sop_class="1.2", sop_instance=f"1.2.{n}") for n in range(3))


def answer(kept: tuple[Reference, ...], *failed: Reference) -> Answer:
    return Answer(
        transaction_uid="2.25.1",
        kept=kept,
        failed=tuple(Failed(reference=one, reason=0x0110) for one in failed),
    )


@pytest.mark.parametrize(
    "given", [answer((A, B)), answer((B, A)), answer((A,), B), answer((), A, B)]
)
def test_an_answer_that_names_each_reference_once_counts(given: Answer) -> None:
    assert commitment.answers_all(given, (A, B))


OTHER_CLASS = A.model_copy(update={"sop_class": "1.3"})


@pytest.mark.parametrize(
    "given",
    [
        answer((A,)),
        answer((A, B, C)),
        answer((A, C)),
        answer((A, B), B),
        answer((A, A, B)),
        answer(()),
        answer((OTHER_CLASS, B)),
    ],
)
def test_an_answer_that_names_less_more_or_others_does_not(given: Answer) -> None:
    assert not commitment.answers_all(given, (A, B))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (0x0110, Then.ASK),
        (0x0112, Then.SEND),
        (0x0119, Then.BURY),
        (0x0122, Then.BURY),
        (0x0131, Then.ASK),
        (0x0213, Then.ASK),
        (0x0000, Then.ASK),
        (0xFFFF, Then.ASK),
    ],
)
def test_each_reason_has_its_consequence_and_its_words(reason: int, expected: Then) -> None:
    assert commitment.then(reason) is expected
    said = commitment.sentence(reason)
    assert f"0x{reason:04X}" in said
    assert said.endswith(commitment.REASONS.get(reason, (expected, "DICOM does not name"))[1])


def test_transaction_uids_are_uids_and_no_two_are_alike() -> None:
    made = {commitment.new_uid() for _ in range(1000)}
    assert len(made) == 1000
    assert all(one.startswith("2.25.") and len(one) <= 64 for one in made)
