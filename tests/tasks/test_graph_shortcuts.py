"""Nothing local tells the right branch of an unsigned fork, at any fork of a row.

What is read, how it is tested and with which power: see tests/shortcuts.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from scipy.stats import chisquare

from forkdiv.tasks.graph_branching import GraphBranching
from tests.graph_prompts import Seen, Shape, named, rank, shaped, view
from tests.shortcuts import (
    ADVANTAGE,
    ALPHA,
    COUNT,
    DEFAULT,
    FAMILY_ERROR,
    FORKS,
    LEARNT_LOOKS,
    LOOKS,
    POLICIES,
    POWER,
    SHAPES,
    at_chance,
    chance_of,
    looked,
    power,
    prompts,
)


def test_no_more_is_tested_than_the_correction_allows_for() -> None:
    assert len(POLICIES) * (len(FORKS) + 1) + LEARNT_LOOKS <= LOOKS


@pytest.mark.parametrize("chance", sorted({chance_of(shape) for shape in SHAPES}))
def test_five_points_more_or_less_than_chance_would_be_found(chance: float) -> None:
    assert power(COUNT, chance, chance + ADVANTAGE) >= POWER
    assert power(COUNT, chance, chance - ADVANTAGE) >= POWER
    assert 1 - power(COUNT, chance, chance) >= 1 - ALPHA


@pytest.mark.parametrize(("shape", "at"), FORKS, ids=lambda value: str(value))
@pytest.mark.parametrize("name", POLICIES)
def test_a_shortcut_at_an_unsigned_fork_scores_chance(name: str, shape: Shape, at: int) -> None:
    hits = looked(shape, at).hits(POLICIES[name](looked(shape, at)))
    assert at_chance(hits, COUNT, chance_of(shape)), f"{hits} of {COUNT}"


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_an_oracle_that_is_right_five_points_too_often_is_found(shape: Shape) -> None:
    random = np.random.default_rng(0)
    seen_here = looked(shape, 0)
    told = random.random((COUNT, 1)) < ADVANTAGE / (1 - chance_of(shape))
    guess = random.random(seen_here.place.shape)
    hits = seen_here.hits(np.where(told, ~seen_here.valid, guess))
    assert not at_chance(hits, COUNT, chance_of(shape))
    assert at_chance(seen_here.hits(guess), COUNT, chance_of(shape))


# --- the listing --------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "at"), FORKS, ids=str)
def test_a_right_edge_is_equally_often_at_every_place_of_the_listing(shape: Shape, at: int) -> None:
    places: Counter[int] = Counter()
    for prompt in prompts(shape):
        edge = (prompt.forks[at], min(prompt.right(prompt.forks[at])))
        places[prompt.edges.index(edge)] += 1
    edges = len(prompts(shape)[0].edges)
    assert chisquare([places[i] for i in range(edges)]).pvalue > FAMILY_ERROR / len(FORKS)


def test_the_goal_is_equally_often_any_name() -> None:
    goals = Counter(prompt.goal for prompt in prompts(DEFAULT))
    assert chisquare([goals[name] for name in names(shaped(DEFAULT))]).pvalue > FAMILY_ERROR


def names(task: GraphBranching) -> list[str]:
    return [word for word in task.vocabulary() if word[0].isalpha() and not word.endswith(":")]


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_looking_ahead_to_the_end_is_always_right(shape: Shape) -> None:
    # the problems can be solved, so that chance above is a matter of what is read
    for prompt in prompts(shape)[:200]:
        for node in prompt.forks:
            ends = {branch: prompt.arm(branch)[-1] for branch in prompt.branches(node)}
            right = {branch for branch, end in ends.items() if end in {*prompt.forks, prompt.goal}}
            assert right == set(prompt.right(node))


# What published generators did. Each must be found by a policy above, or the policies are blind.
Order = Callable[[list[list[tuple[str, str]]], Random], Sequence[tuple[str, str]]]
LEAKS: dict[str, tuple[Order, str]] = {
    "unshuffled": (lambda arms, _: [edge for arm in arms for edge in arm], "first listed"),
    "chains listed whole": (
        lambda arms, random: [edge for arm in random.sample(arms, len(arms)) for edge in arm],
        "last before the goal's edge",
    ),
}


def relisted(prompt: Seen, order: Order, seed: int) -> Seen:
    right = prompt.right(prompt.start)
    branches = right + [one for one in prompt.branches(prompt.start) if one not in right]
    arms = [list(pairwise([prompt.start, *prompt.arm(branch)])) for branch in branches]
    return Seen(tuple(order(arms, Random(seed))), (), prompt.start, prompt.goal)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[2:4] == (1, 1)], ids=named)
@pytest.mark.parametrize("leak", LEAKS)
def test_the_policies_find_the_leaks_of_published_generators(leak: str, shape: Shape) -> None:
    order, policy = LEAKS[leak]
    leaky = [relisted(prompt, order, i) for i, prompt in enumerate(prompts(shape)[:500])]
    v = view(leaky, 0)
    assert v.hits(POLICIES[policy](v)) == 500


def test_ranks_of_names_are_their_order() -> None:
    assert [rank(name) for name in ("a", "z", "a1", "b1", "a2")] == [97, 122, 123, 124, 149]
