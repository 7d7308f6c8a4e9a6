"""Shares of lesions that hit, each of those that count for it."""

from __future__ import annotations

from typing import Any

from training.judge.aims import MEASURES, Judged, Lesion, Share, share, table

PLACE = {"then_lps_mm": (0.0, 0.0, 0.0), "now_lps_mm": (0.0, 0.0, 0.0)}


def lesion(**more: Any) -> Lesion:
    """One of 10 mm that stays, is in both lists and is matched rightly."""
    said = {"then_mm": 10.0, "now_mm": 10.0, "prior_finding": 1, "finding": 1, **PLACE}
    return Lesion(**{**said, "states": ("matched",), "right": True, **more})


def pair(*lesions: Lesion, ct: str = "A", said: str = "compared") -> Judged:
    return Judged(
        ct=ct, seed=0, said=said, slices_mm=(1, 1), kernels=("SOFT", "SOFT"), lesions=lesions
    )


def counted(name: str, *lesions: Lesion) -> Share:
    (measure,) = (one for one in MEASURES if one.name == name)
    return share(measure, [pair(*lesions)])


def test_a_wrong_match_counts_as_wrong_and_not_as_right() -> None:
    two = lesion(), lesion(right=False, wrong=True)
    assert counted("in both lists, >= 4 mm: right", *two) == Share(1, 2)
    assert counted("in both lists, >= 4 mm: wrong match", *two) == Share(1, 2)


def test_what_is_small_or_in_one_list_or_the_chests_own_is_in_no_both_lists() -> None:
    others = lesion(then_mm=3.9), lesion(finding=None), lesion(own=True)
    assert counted("in both lists, >= 4 mm: right", *others) == Share(0, 0)


def test_what_appeared_counts_where_it_is_listed_and_large_enough() -> None:
    new = lesion(fate="appears", then_mm=None, prior_finding=None, states=("new",))
    doubt = new.model_copy(update={"states": ("not_comparable",)})
    missed = new.model_copy(update={"finding": None, "states": ()})
    small = new.model_copy(update={"now_mm": 5.9})
    assert counted("appeared, >= 6 mm: `new`", new, doubt, missed, small) == Share(1, 2)


def test_what_vanished_counts_where_the_earlier_report_lists_it() -> None:
    gone = lesion(fate="vanishes", now_mm=None, finding=None, states=("gone",))
    missed = gone.model_copy(update={"prior_finding": None, "states": ()})
    assert counted("vanished, >= 6 mm: `gone`", gone, missed) == Share(1, 1)


def test_what_is_there_twice_and_called_new_or_gone_counts_once() -> None:
    both = lesion(states=("new", "gone"), right=False)
    name = "there twice: called new or gone"
    assert counted(name, both, lesion(), lesion(fate="appears", then_mm=None)) == Share(1, 2)
    own = lesion(own=True, states=("gone",))
    assert counted("the chest's own: called new or gone", own, both) == Share(1, 1)


def test_what_stays_is_changed_beyond_error_or_not_counted_without_a_verdict() -> None:
    said = lesion(verdict="smaller"), lesion(verdict="within_error"), lesion()
    assert counted("unchanged: called changed", *said) == Share(1, 2)


def test_what_doubled_counts_without_a_verdict_as_not_said() -> None:
    one = lesion(fate="doubles", then_mm=7.0, now_mm=8.8, verdict="larger")
    assert counted("doubled, >= 8 mm then: `larger`", one) == Share(0, 0)
    silent = one.model_copy(update={"verdict": None})
    assert counted("doubled, >= 8 mm now: `larger`", one, silent) == Share(1, 2)


def test_an_interval_holds_a_truth_that_lies_in_it() -> None:
    inside, beside = lesion(rate=(-0.1, 0.2), true_rate=0.0), lesion(rate=(0.1, 0.2), true_rate=0.0)
    assert counted("rate's interval holds the truth", inside, beside, lesion()) == Share(1, 2)


def test_the_table_has_a_column_a_ct_and_one_of_all() -> None:
    found = table([pair(lesion()), pair(ct="B", said="identity_unsure")])
    head, _, compared, right, *_ = found.splitlines()
    assert head == "| what | aim | A | B | all |"
    assert compared.endswith("| 100.0 % of 1 | 0.0 % of 1 | 50.0 % of 2 |")
    assert right.endswith("| 100.0 % of 1 | - | 100.0 % of 1 |")
