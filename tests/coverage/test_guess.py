"""The guess baseline against every choice of k responses to the other problems."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.core.results import Cell, CellName
from forkdiv.coverage.cells import CellInputs, cells
from forkdiv.coverage.guess import guess_values, right_answers
from forkdiv.score.counts import ProblemCounts, VerdictCounter

NAME = CellName(axes={}, tuned=True, temperature=1.0, seed=0)
UNREAD = "-"


def counted(reference: str, answers: str, at: int = 0, known: bool = True) -> ProblemCounts:
    """The counts of a problem whose samples have these answers of one character each."""
    problem = Problem(f"p{at}", "test", "", "", {})
    tally = VerdictCounter(problem, None, votes=True, references=[reference] if known else [])
    for answer in answers:
        if answer == UNREAD:
            tally.add(Verdict(Outcome.UNPARSABLE), answer)
        else:
            outcome = Outcome.CORRECT if answer == reference else Outcome.WRONG
            tally.add(Verdict(outcome, answer), answer)
    return tally.counts


def a_model(rows: list[tuple[str, str]], known: bool = True) -> list[ProblemCounts]:
    return [counted(*row, at, known) for at, row in enumerate(rows)]


def by_enumeration(rows: list[tuple[str, str]], at: int, k: int) -> float:
    others = "".join(answers for i, (_, answers) in enumerate(rows) if i != at)
    hits = [rows[at][0] in some for some in combinations(others, k)]
    return float(np.mean(hits))


Rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.text("abcd-", min_size=3, max_size=3)),
    min_size=2,
    max_size=4,
)


@settings(deadline=None, max_examples=60)
@given(Rows, st.integers(1, 3))
def test_the_baseline_is_the_share_of_choices_of_other_responses_that_hold_the_right_answer(
    rows: list[tuple[str, str]], k: int
) -> None:
    model = a_model(rows)
    guessed = guess_values(model, right_answers(model), [k])
    assert guessed
    expected = [by_enumeration(rows, at, k) for at in range(len(rows))]
    assert guessed.pass_at[:, 0] == pytest.approx(expected)
    assert guessed.references == len({reference for reference, _ in rows})
    assert guessed.unknown == 0


def test_a_right_answer_that_only_the_other_model_knows_counts_too() -> None:
    rows = [("a", "bb"), ("b", "aa")]
    unsolved, solved = a_model(rows, known=False), a_model([("a", "aa"), ("b", "bb")], False)
    assert guess_values(unsolved, right_answers(unsolved), [1]) is None
    guessed = guess_values(unsolved, right_answers(unsolved, solved), [1, 2])
    assert guessed and guessed.pass_at.tolist() == [[1, 1], [1, 1]]
    half = a_model(rows[:1], known=False) + a_model([("b", "ab")], known=False)
    partly = guess_values(half, right_answers(half), [1])
    assert partly and (partly.unknown, partly.pass_at.tolist()) == (1, [[0.0], [1.0]])


def test_without_answers_or_other_problems_there_is_no_baseline() -> None:
    rows = a_model([("a", "ab"), ("b", "ab")])
    rows[0].answers = None
    assert guess_values(rows, right_answers(rows), [1]) is None
    alone = a_model([("a", "ab")])
    assert guess_values(alone, right_answers(alone), [1]) is None


def a_cell(rows: list[tuple[str, str]], base: list[tuple[str, str]] | None = None) -> Cell:
    samples = len(rows[0][1])
    config = EvalConfig(samples=samples, k=(1, samples), bootstrap=200)
    inputs = CellInputs(a_model(rows), a_model(base) if base else None)
    return cells(NAME, inputs, config)[-1]


def guesses(random: np.random.Generator, problems: int) -> list[tuple[str, str]]:
    letters = np.array(list("ABCD"))
    return [
        (str(random.choice(letters)), "".join(random.choice(letters, 16))) for _ in range(problems)
    ]


def test_a_model_that_guesses_among_four_choices_is_not_above_its_baseline() -> None:
    rows = guesses(np.random.default_rng(0), 200)
    cell = a_cell(rows)
    assert cell.guess and cell.guess.references == 4
    baseline, above = cell.guess.pass_at[16], cell.guess.above[16]
    assert baseline.value == pytest.approx(1 - 0.75**16, abs=0.01)
    assert above.low < 0 < above.high or abs(above.value) < 0.01
    assert cell.guess.above[1].low < 0 < cell.guess.above[1].high


def test_a_model_that_solves_problems_is_above_its_baseline_and_so_is_its_gain() -> None:
    random = np.random.default_rng(1)
    rows = guesses(random, 200)
    solved = [(reference, reference * 12 + answers[12:]) for reference, answers in rows]
    cell = a_cell(solved, rows)
    assert cell.guess and cell.guess.above[1].low > 0.3
    assert cell.guess.above_delta[1].low > 0.3


def test_answers_that_no_two_problems_share_leave_nothing_to_guess() -> None:
    letters = "abcdefghij"
    cell = a_cell([(letter, letter * 4) for letter in letters])
    assert cell.guess and cell.guess.pass_at[4].value == 0
    assert cell.guess.above[4].value == 1


@settings(deadline=None, max_examples=20)
@given(Rows)
def test_a_cell_with_a_baseline_is_written_and_read_back(rows: list[tuple[str, str]]) -> None:
    assume(len(rows) > 1)
    cell = a_cell(rows, rows)
    assert Cell.model_validate(cell.as_json()) == cell
    assert cell.guess is None or cell.guess.above_delta[1].value == 0
