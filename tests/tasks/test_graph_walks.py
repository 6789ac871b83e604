"""The walks that a base model learns from: real, whole, and heedless of sign and target."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
from scipy.stats import binomtest, chisquare

from forkdiv.core.config.study import PretrainConfig
from forkdiv.core.records import Example
from tests.graph_prompts import Seen, Shape, from_example, named, seen, shaped

PLAIN: Shape = (3, 3, 1, 1, 16)
TWO: Shape = (3, 3, 1, 2, 16)
ROW: Shape = (3, 3, 2, 2, 24)
SHAPES = [PLAIN, TWO, ROW]
WALKS, COUNT = 4, 2000
shapes = pytest.mark.parametrize("shape", SHAPES, ids=named)
# All tests together raise a false alarm once in a thousand seeds.
ALPHA = 1e-3 / 30


@cache
def made(shape: Shape, direction: float) -> list[Example]:
    config = PretrainConfig(examples=COUNT, walks=WALKS, direction=direction)
    return list(shaped(shape).walk_examples(config, " | "))


def walks(example: Example) -> list[list[str]]:
    """Forward, however they are told."""
    way = 1 if example.mode == "forward" else -1
    return [walk.split()[::way] for walk in example.response.split("|")]


@cache
def walked(shape: Shape, direction: float) -> list[tuple[Seen, list[list[str]], str]]:
    """Prompts, walks over them, and their subset."""
    return [(seen(one.prompt), walks(one), one.subset) for one in made(shape, direction)]


def assert_chance(hits: int, count: int, chance: float) -> None:
    p = binomtest(hits, count, chance).pvalue
    assert p > ALPHA, f"{hits} of {count} where chance is {chance:.3f}: p = {p:.1e}"


def end(prompt: Seen, walk: list[str]) -> tuple[str, str]:
    """The arm at whose end a walk ends, by its last edge."""
    assert not prompt.branches(walk[-1])
    return walk[-2], walk[-1]


@shapes
@pytest.mark.parametrize("direction", [1.0, 0.0])
def test_walks_are_whole_real_paths_from_the_start_to_an_end(
    shape: Shape, direction: float
) -> None:
    for prompt, of_prompt, _ in walked(shape, direction):
        assert len(of_prompt) == WALKS
        for walk in of_prompt:
            assert walk[0] == prompt.start and not prompt.branches(walk[-1])
            assert set(pairwise(walk)) <= prompt.graph


def test_walks_carry_their_separator_between_them() -> None:
    for one in shaped(PLAIN).walk_examples(PretrainConfig(examples=5, walks=3, seed=1), "<eos>"):
        assert one.response.count("<eos>") == 2 and not one.response.endswith("<eos>")
        assert (one.forks, one.mode) == (3, "forward")


@pytest.mark.parametrize("direction", [0.0, 0.3, 1.0])
def test_the_share_of_problems_walked_forward_is_exact(direction: float) -> None:
    config = PretrainConfig(examples=210, walks=2, direction=direction)
    rows = list(shaped(PLAIN).walk_examples(config, " "))
    assert sum(row.mode == "forward" for row in rows) == round(210 * direction)
    starts = [seen(row.prompt).start == row.response.split()[0] for row in rows]
    assert starts == [row.mode == "forward" for row in rows]


@pytest.mark.parametrize("shape", [PLAIN, TWO], ids=named)
def test_walks_over_one_fork_count_it_each_time(shape: Shape) -> None:
    for direction in (1.0, 0.0):
        for row in made(shape, direction):
            met = WALKS if row.mode == "forward" else 0
            assert (row.forks, row.unsigned_forks) == (met, met * (row.subset == "unsigned"))


def test_walks_over_forks_in_a_row_count_those_they_meet() -> None:
    task = shaped(ROW)
    for row in made(ROW, 1.0):
        met = [task.forks(from_example(row), " ".join(walk)) for walk in walks(row)]
        assert row.forks == sum(map(len, met))


@pytest.mark.parametrize("direction", [1.0, 0.0])
@pytest.mark.parametrize("subset", ["signed", "unsigned"])
def test_walks_reach_the_goal_by_chance_only(subset: str, direction: float) -> None:
    # 4,000 walks: a share 4 points off 1/3 would be found with power 0.9
    hits = [
        walk[-1] == prompt.goal
        for prompt, of_prompt, s in walked(PLAIN, direction)
        if s == subset
        for walk in of_prompt
    ]
    assert len(hits) == COUNT * WALKS // 2
    assert_chance(sum(hits), len(hits), 1 / 3)


@shapes
def test_forward_walks_take_every_listed_branch_equally_often_at_every_fork(shape: Shape) -> None:
    taken = [Counter[int]() for _ in range(shape[2])]
    for prompt, of_prompt, _ in walked(shape, 1.0):
        for walk in of_prompt:
            for at, node in enumerate(prompt.forks):
                if node in walk:
                    branch = walk[walk.index(node) + 1]
                    taken[at][prompt.branches(node).index(branch)] += 1
    assert taken[0].total() == COUNT * WALKS
    for counts in taken:
        assert chisquare([counts[i] for i in range(shape[0])]).pvalue > ALPHA


@shapes
def test_reverse_walks_start_at_every_arms_end_equally_often_and_heed_no_target(
    shape: Shape,
) -> None:
    """Of the last fork: where arms meet in the target, by the edge that leads there."""
    right = ends = 0
    places: Counter[int] = Counter()
    for prompt, of_prompt, _ in walked(shape, 0.0):
        last = prompt.forks[-1]
        arms = [tuple(prompt.arm(branch)[-2:]) for branch in prompt.branches(last)]
        for walk in of_prompt:
            assert set(prompt.forks) <= set(walk)
            places[arms.index(end(prompt, walk))] += 1
            right += walk[-1] == prompt.goal
            ends += 1
    assert ends == COUNT * WALKS
    assert chisquare([places[i] for i in range(shape[0])]).pvalue > ALPHA
    assert_chance(right, ends, shape[3] / shape[0])


@pytest.mark.parametrize("direction", [1.0, 0.0])
def test_walks_over_one_graph_are_independent(direction: float) -> None:
    pairs = [
        first[1] == second[1]
        for _, of_prompt, _ in walked(PLAIN, direction)
        for first, second in ((of_prompt[0], of_prompt[1]), (of_prompt[2], of_prompt[3]))
    ]
    assert_chance(sum(pairs), len(pairs), 1 / 3)


@shapes
def test_half_of_the_walked_graphs_are_signed(shape: Shape) -> None:
    found = Counter(bool(prompt.marked) for prompt, _, _ in walked(shape, 1.0))
    assert found == {True: COUNT // 2, False: COUNT // 2}
    for prompt, _, subset in walked(shape, 1.0):
        assert bool(prompt.marked) == (subset == "signed")
