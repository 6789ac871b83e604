"""Tallies: what is seen how often, from eight bytes a sample."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.records import Completion, Outcome, Problem, Verdict
from forkdiv.score.counts import (
    MAX_ANSWERS,
    MAX_SHOWN_CHARACTERS,
    VerdictCounter,
    from_json,
    solutions_among,
)

PROBLEM = Problem("p", "test", "signed", "", {})
Outcomes = st.sampled_from([Outcome.CORRECT, Outcome.WRONG, Outcome.TRUNCATED, Outcome.UNPARSABLE])
Samples = st.lists(st.tuples(Outcomes, st.sampled_from("abcd"), st.sampled_from("xyz")))


def told(outcome: Outcome, answer: str | None) -> Verdict:
    read = outcome in (Outcome.CORRECT, Outcome.WRONG)
    return Verdict(outcome, answer if read else None)


@settings(deadline=None)
@given(Samples)
def test_spectra_count_responses_by_how_often_they_were_drawn(
    samples: list[tuple[Outcome, str, str]],
) -> None:
    tally = VerdictCounter(PROBLEM, valid=4, votes=True)
    for outcome, text, answer in samples:
        tally.add(told(outcome, answer), text)
    counts = tally.counts
    right = Counter(text for outcome, text, _ in samples if outcome is Outcome.CORRECT)
    assert counts.solutions == Counter(right.values())
    assert sum(times * many for times, many in counts.solutions.items()) == counts.correct
    for outcome, votes in ((Outcome.CORRECT, "right_votes"), (Outcome.WRONG, "wrong_votes")):
        answers = Counter(answer for kind, _, answer in samples if kind is outcome)
        assert getattr(counts, votes) == Counter(answers.values())
    assert from_json(json.loads(json.dumps(asdict(counts)))) == counts


def test_two_texts_are_one_solution_where_only_their_spaces_differ() -> None:
    tally = VerdictCounter(PROBLEM, None, votes=True)
    for text in ("a b", " a  b\n", "ab"):
        tally.add(told(Outcome.CORRECT, "b"), text)
    assert tally.counts.solutions == {2: 1, 1: 1}
    assert solutions_among(["a b", "a\tb", "b a"]) == 2


def test_votes_are_unknown_where_wrong_verdicts_carry_no_answer() -> None:
    tally = VerdictCounter(PROBLEM, None, votes=False)
    tally.add(Verdict(Outcome.CORRECT, "7"), "7")
    assert (tally.counts.right_votes, tally.counts.wrong_votes) == (None, None)


def test_answers_are_counted_and_the_right_one_is_known_without_a_right_sample() -> None:
    tally = VerdictCounter(PROBLEM, None, votes=True, references=["7"])
    for answer, times in (("8", 3), ("9", 1)):
        tally.add(told(Outcome.WRONG, answer), answer, times)
    tally.add(Verdict(Outcome.UNPARSABLE), "no answer", 4)
    solved = VerdictCounter(PROBLEM, None, votes=True)
    solved.add(told(Outcome.CORRECT, "7"), "seven", 2)
    assert sorted((tally.counts.answers or {}).values()) == [1, 3]
    assert tally.counts.right_answers == solved.counts.right_answers
    assert set(solved.counts.answers or {}) == set(solved.counts.right_answers)
    assert VerdictCounter(PROBLEM, None, votes=False).counts.answers is None


def test_of_very_many_answers_the_most_frequent_ones_are_stored() -> None:
    tally = VerdictCounter(PROBLEM, None, votes=True)
    for i in range(MAX_ANSWERS + 50):
        tally.add(told(Outcome.WRONG, str(i)), str(i), 2 if i >= 50 else 1)
    answers = tally.counts.answers or {}
    assert len(answers) == MAX_ANSWERS and set(answers.values()) == {2}


def test_one_response_of_each_kind_is_kept_and_no_error_counts_as_wrong() -> None:
    tally = VerdictCounter(PROBLEM, None, votes=True)
    tally.add(Verdict(Outcome.ERROR, None, "the grader died"), "odd")
    tally.add(Verdict(Outcome.TRUNCATED), "x" * (MAX_SHOWN_CHARACTERS + 9))
    tally.add(told(Outcome.WRONG, "2"), "second")
    tally.add(told(Outcome.CORRECT, "1"), "first right")
    counts = tally.counts
    assert (counts.wrong_text, counts.right_text) == ("x" * MAX_SHOWN_CHARACTERS, "first right")
    assert (counts.error, counts.first_error) == (1, "the grader died")


def placed(index: int, stratum: int | None = None, tree: int | None = None) -> Completion:
    return Completion(PROBLEM.id, index, index, "", (), "stop", stratum, tree)


def test_strata_and_trees_are_counted_whatever_the_order_samples_come_in() -> None:
    outcomes = "wwcuwwwtccww"  # wrong, correct, unparsable, truncated
    kinds = {
        "w": told(Outcome.WRONG, "2"),
        "c": told(Outcome.CORRECT, "1"),
        "u": Verdict(Outcome.UNPARSABLE),
        "t": Verdict(Outcome.TRUNCATED),
    }
    strata, trees = (VerdictCounter(PROBLEM, None, votes=True) for _ in range(2))
    for index in (5, 3, 11, 0, 8, 1, 10, 2, 9, 4, 7, 6):
        verdict = kinds[outcomes[index]]
        strata.add_design(verdict, [placed(index, stratum=index % 3)])
        trees.add_design(verdict, [placed(index, tree=index // 4)])
    assert strata.counts.strata == {0: (4, 1, 1), 1: (4, 0, 1), 2: (4, 2, 0)}
    assert trees.counts.trees == {0: (4, 2, 2), 1: (4, None, 3), 2: (4, 0, 0)}
    for tally in (strata, trees):
        assert from_json(json.loads(json.dumps(asdict(tally.counts)))) == tally.counts


def test_independent_samples_have_no_strata_and_no_trees() -> None:
    tally = VerdictCounter(PROBLEM, None, votes=True)
    tally.add_design(told(Outcome.CORRECT, "1"), [placed(0)])
    assert (tally.counts.strata, tally.counts.trees) == ({}, {})


def test_counts_that_were_written_before_there_were_designs_are_read() -> None:
    row = asdict(VerdictCounter(PROBLEM, None, votes=True).counts)
    del row["strata"], row["trees"]
    assert from_json(row) == VerdictCounter(PROBLEM, None, votes=True).counts


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3)), max_size=5))
def test_samples_are_alike_where_every_response_is_the_same(samples: list[tuple[str, int]]) -> None:
    tally = VerdictCounter(PROBLEM, valid=None, votes=False)
    for text, times in samples:
        tally.add(told(Outcome.WRONG, None), text, times)
    texts = [text for text, times in samples for _ in range(times)]
    assert tally.counts.alike is (len(set(texts)) == 1 if len(texts) > 1 else None)
