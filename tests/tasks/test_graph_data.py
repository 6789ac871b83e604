"""The knobs of the graph data: exact shares, nested, and each changes what it names alone."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Example
from tests.graph_prompts import Shape, from_example, graphs, named, seen, shaped

PLAIN: Shape = (3, 3, 1, 1, 16)
ROW: Shape = (3, 3, 3, 2, 30)
SHAPES: list[Shape] = [PLAIN, (3, 3, 1, 2, 16), (2, 3, 2, 1, 16), ROW]
COVERING: list[Shape] = [(3, 3, 1, 2, 16), (4, 3, 1, 3, 16), (3, 3, 2, 2, 24), (4, 3, 2, 3, 30)]


def made(shape: Shape, **knobs: float | int) -> list[Example]:
    return list(shaped(shape).sft_examples(DatasetConfig.model_validate(knobs)))


def unsigned(example: Example) -> list[bool]:
    """Of the forks of an example's problem, in a row: which have no mark."""
    prompt = seen(example.prompt)
    marked = {prompt.edges[i][0] for i in prompt.marked}
    return [node not in marked for node in prompt.forks]


# --- density and direction ----------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(SHAPES), st.integers(1, 40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5)
)
def test_the_shares_of_the_knobs_are_exact(
    shape: Shape, count: int, density: float, direction: float, seed: int
) -> None:
    rows = made(shape, examples=count, fork_density=density, direction=direction, seed=seed)
    assert len(rows) == count
    forward = [row for row in rows if row.mode == "forward"]
    reverse = [row for row in rows if row.mode == "reverse"]
    assert len(forward) == round(direction * count)
    assert len(forward) + len(reverse) == count
    signs = [sign for row in rows for sign in unsigned(row)]
    assert len(signs) == shape[2] * count
    assert sum(signs) == round(density * len(signs))
    assert sum(row.forks for row in rows) == shape[2] * len(forward)
    met = [sign for row in forward for sign in unsigned(row)]
    assert sum(row.unsigned_forks for row in rows) == sum(met)
    if shape[2] == 1:  # mixed directions take nearly the same share of signed and unsigned forks
        assert abs(sum(met) - density * len(met)) <= count.bit_length() / 2 + 2


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(SHAPES), st.floats(0, 1), st.floats(0, 1), st.integers(0, 3))
def test_densities_differ_in_nothing_but_the_marks_and_a_lower_one_is_within_a_higher(
    shape: Shape, first: float, second: float, seed: int
) -> None:
    few, many = (
        made(shape, examples=40, fork_density=density, direction=0.7, seed=seed)
        for density in sorted((first, second))
    )
    for less, more in zip(few, many, strict=True):
        assert less.prompt.replace("!", ">") == more.prompt.replace("!", ">")
        assert (less.response, less.mode, less.forks) == (more.response, more.mode, more.forks)
        assert all(b or not a for a, b in zip(unsigned(less), unsigned(more), strict=True))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(SHAPES), st.floats(0, 1), st.floats(0, 1), st.integers(0, 3))
def test_a_lower_share_of_forward_traces_is_within_a_higher(
    shape: Shape, first: float, second: float, seed: int
) -> None:
    few, many = (
        made(shape, examples=40, fork_density=1.0, direction=direction, seed=seed)
        for direction in sorted((first, second))
    )
    for less, more in zip(few, many, strict=True):
        assert less.prompt == more.prompt
        if less.mode == more.mode:
            assert less.response == more.response
        else:
            assert (less.mode, more.mode) == ("reverse", "forward")
            assert less.response.split() == more.response.split()[::-1]


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_directions_draw_the_same_problems_and_arms(shape: Shape) -> None:
    forward, reverse = (made(shape, examples=60, direction=way) for way in (1.0, 0.0))
    for one, other in zip(forward, reverse, strict=True):
        assert one.prompt.replace("!", ">") == other.prompt.replace("!", ">")
        assert one.response.split() == other.response.split()[::-1]


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_directions_differ_in_nothing_but_the_response(shape: Shape) -> None:
    forward, reverse = (
        made(shape, examples=60, fork_density=0.5, direction=way) for way in (1.0, 0.0)
    )
    for one, other in zip(forward, reverse, strict=True):
        assert (one.prompt, one.subset) == (other.prompt, other.subset)


def test_density_and_direction_are_dealt_independently() -> None:
    rows = made(PLAIN, examples=2000, fork_density=0.5, direction=0.5)
    cells = Counter((row.subset, row.mode) for row in rows)
    assert set(cells.values()) == {500} and len(cells) == 4


def test_signs_are_dealt_over_the_forks_of_a_row_evenly() -> None:
    rows = made(ROW, examples=2000, fork_density=0.5)
    places = [sum(unsigned(row)[at] for row in rows) for at in range(3)]
    assert sum(places) == 3000
    # a draw without replacement: the counts of the places spread by half of what they would
    assert chisquare(places).pvalue > 1e-3
    patterns = Counter(tuple(unsigned(row)) for row in rows)
    assert chisquare(list(patterns.values()), [250] * 8).pvalue > 1e-3


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_a_subset_says_which_forks_are_signed(shape: Shape) -> None:
    rows = made(shape, examples=80, fork_density=0.5, direction=0.5)
    for row in rows:
        signs = unsigned(row)
        expected = "mixed" if len(set(signs)) == 2 else "unsigned" if signs[0] else "signed"
        assert row.subset == expected
    assert ("mixed" in {row.subset for row in rows}) == (shape[2] > 1)


def test_seeds_draw_other_examples_and_one_seed_the_same() -> None:
    first, again, other = (made(PLAIN, examples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert len(graphs(first) & graphs(other)) <= 1


def test_more_examples_begin_with_the_same_problems() -> None:
    few, many = made(PLAIN, examples=20), made(PLAIN, examples=50)
    assert [row.problem_id.split("-")[0] for row in many[:20]] == [
        row.problem_id.split("-")[0] for row in few
    ]


def test_no_number_of_examples_is_the_tasks_own() -> None:
    assert made(PLAIN) == made(PLAIN, examples=shaped(PLAIN).sizes["train"])


# --- branch coverage ----------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [1.0, 0.0])
@pytest.mark.parametrize(
    ("shape", "shown"),
    [(shape, shown) for shape in COVERING for shown in range(1, shape[3] + 1)],
    ids=str,
)
def test_every_problem_shows_the_requested_number_of_right_arms_at_every_fork(
    shape: Shape, shown: int, direction: float
) -> None:
    rows = made(shape, examples=120, branch_coverage=shown, direction=direction)
    assert len(rows) == 120
    problems: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        problems[row.problem_id].append(row)
    assert len(problems) == len(graphs(rows)) == 120 // shown
    for of_problem in problems.values():
        prompt = seen(of_problem[0].prompt)
        assert {row.prompt for row in of_problem} == {of_problem[0].prompt}
        for node in prompt.forks:
            taken = [_after(row, node) for row in of_problem]
            assert len(taken) == len(set(taken)) == shown
            assert set(taken) <= set(prompt.right(node))


def _after(row: Example, node: str) -> str:
    """The node after a branch node, read forward."""
    words = row.response.split()[:: 1 if row.mode == "forward" else -1]
    return words[words.index(node) + 1]


def test_examples_of_one_problem_follow_one_another() -> None:
    rows = made(COVERING[3], examples=90, branch_coverage=3)
    assert all(rows[i].problem_id == rows[i - i % 3].problem_id for i in range(90))


def test_every_right_arm_is_shown_equally_often() -> None:
    shape: Shape = (4, 3, 2, 3, 30)
    taken = [Counter[int](), Counter[int]()]
    for row in made(shape, examples=1500, branch_coverage=1):
        prompt = seen(row.prompt)
        for at, node in enumerate(prompt.forks):
            taken[at][prompt.right(node).index(_after(row, node))] += 1
    for counts in taken:
        assert chisquare([counts[i] for i in range(3)]).pvalue > 1e-3


@pytest.mark.parametrize("shown", [1, 2, 3])
def test_densities_are_exact_at_every_branch_coverage(shown: int) -> None:
    rows = made((4, 3, 2, 3, 30), examples=120, branch_coverage=shown, fork_density=0.3)
    assert sum(row.forks for row in rows) == 240
    # as exact as whole problems allow: each of a problem's forks is met `shown` times
    assert sum(row.unsigned_forks for row in rows) == shown * round(0.3 * 240 / shown)


def test_forks_are_counted_alike_where_a_problem_shows_several_arms() -> None:
    task = shaped(COVERING[2])
    for row in made(COVERING[2], examples=40, branch_coverage=2, fork_density=0.5):
        forks = task.forks(from_example(row), row.response)
        assert (row.forks, row.unsigned_forks) == (2, sum(not fork.signed for fork in forks))


@pytest.mark.parametrize(
    ("shape", "knobs", "told"),
    [
        (PLAIN, {"branch_coverage": 1}, "several valid arms.*branch_coverage=1 with task.valid=1"),
        (PLAIN, {"branch_coverage": 2}, "several valid arms.*branch_coverage=2 with task.valid=1"),
        (COVERING[0], {"branch_coverage": 3}, "branch_coverage=3; allowed: 1 to task.valid=2"),
        (
            COVERING[1],
            {"branch_coverage": 3, "examples": 40},
            "examples=40; allowed: a multiple of dataset.branch_coverage=3",
        ),
    ],
)
def test_a_branch_coverage_that_cannot_be_is_refused(
    shape: Shape, knobs: dict[str, int], told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        made(shape, **knobs)
    assert "\n" not in str(caught.value)


# --- knobs of other tasks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "knobs", "allowed"),
    [
        (PLAIN, {"structure": "data-level"}, "dataset.direction, dataset.fork_density;"),
        (PLAIN, {"branch_coverage": 1}, "dataset.direction, dataset.fork_density;"),
        (PLAIN, {"synthesis": "enumerator"}, "dataset.direction, dataset.fork_density;"),
        (
            ROW,
            {"mode_share": 0.4},
            "dataset.branch_coverage, dataset.direction, dataset.fork_density, dataset.synthesis;",
        ),
        (ROW, {"solutions": 3}, "dataset.synthesis;"),
    ],
)
def test_a_knob_that_means_nothing_is_refused_with_those_that_do(
    shape: Shape, knobs: dict[str, str | int | float], allowed: str
) -> None:
    with pytest.raises(UserError) as caught:
        shaped(shape).check_knobs(DatasetConfig.model_validate(knobs))
    (name, value) = next(iter(knobs.items()))
    message = str(caught.value)
    assert message.startswith(f"dataset.{name} has no effect on this task: got {value};")
    assert allowed in message and f"remove dataset.{name}, or sweep.{name}" in message


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_a_knob_of_the_task_is_taken(shape: Shape) -> None:
    shaped(shape).check_knobs(DatasetConfig(fork_density=0.1, direction=0.3, examples=5, seed=9))
    if shape[3] > 1:
        shaped(shape).check_knobs(DatasetConfig(branch_coverage=2, synthesis="enumerator"))
