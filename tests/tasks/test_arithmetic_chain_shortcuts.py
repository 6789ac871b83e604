"""Arithmetic chains: no shortcut tells the right equation at an unsigned fork."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log

import pytest
from scipy.stats import binom, chisquare

from forkdiv.tasks.arithmetic_chain import ArithmeticChain, ArithmeticChainConfig
from tests.chain_prompts import TASK, Seen, data, seen, shaped

FITTED_ON, COUNT = 4000, 4200
ALPHA = 0.01  # of all policies together: each gets its part (Bonferroni)
ADVANTAGE = 0.05

Score = Callable[[Seen, str], float]  # of one first variable; the smallest is taken


def rank(name: str) -> int:
    return ord(name[0])


def gap(prompt: Seen, name: str) -> int:
    return prompt.at[name] - prompt.at[prompt.goal]


def onward(prompt: Seen, first: str) -> str:
    return prompt.following[first]


POLICIES: dict[str, Score] = {
    # place in the listing
    "first listed": lambda p, v: p.at[v],
    "last listed": lambda p, v: -p.at[v],
    "second listed": lambda p, v: p.firsts.index(v) != 1,
    "nearest the middle": lambda p, v: abs(2 * p.at[v] + 1 - len(p.lines)),
    "place that the goal's name says": lambda p, v: (
        p.firsts.index(v) != rank(p.goal) % len(p.firsts)
    ),
    "place that the root's value says": lambda p, v: p.firsts.index(v) != p.value % len(p.firsts),
    # names
    "first name": lambda p, v: rank(v),
    "last name": lambda p, v: -rank(v),
    "name nearest the goal's": lambda p, v: abs(rank(v) - rank(p.goal)),
    "name farthest from the goal's": lambda p, v: -abs(rank(v) - rank(p.goal)),
    "name nearest the root's": lambda p, v: abs(rank(v) - rank(p.root)),
    "next name after the goal's": lambda p, v: (rank(v) - rank(p.goal)) % 26,
    # order relative to the goal's equation
    "nearest the goal's equation": lambda p, v: abs(gap(p, v)),
    "farthest from the goal's equation": lambda p, v: -abs(gap(p, v)),
    "next after the goal's equation": lambda p, v: gap(p, v) % len(p.lines),
    "last before the goal's equation": lambda p, v: -gap(p, v) % len(p.lines),
    "before the goal's equation": lambda p, v: gap(p, v) > 0,
    # one step of look-ahead
    "leads on first": lambda p, v: p.at[onward(p, v)],
    "leads on last": lambda p, v: -p.at[onward(p, v)],
    "leads on nearest the goal's equation": lambda p, v: abs(gap(p, onward(p, v))),
    "leads on nearest its own equation": lambda p, v: abs(p.at[onward(p, v)] - p.at[v]),
    "leads on after its own equation": lambda p, v: (p.at[onward(p, v)] - p.at[v]) % len(p.lines),
    "leads on to the name nearest the goal's": lambda p, v: abs(rank(onward(p, v)) - rank(p.goal)),
    # operations and constants
    "largest constant": lambda p, v: -abs(p.change(v)),
    "smallest constant": lambda p, v: abs(p.change(v)),
    "largest first value": lambda p, v: -p.change(v),
    "smallest first value": lambda p, v: p.change(v),
    "adds": lambda p, v: p.change(v) < 0,
    "first value nearest zero": lambda p, v: abs(p.values[v]),
    "operation of the goal's equation": lambda p, v: p.change(v) * p.change(p.goal) < 0,
    "constant nearest the goal's": lambda p, v: abs(abs(p.change(v)) - abs(p.change(p.goal))),
    "constant nearest the root's value": lambda p, v: abs(abs(p.change(v)) - p.value),
    "largest sum of the first two steps": lambda p, v: -p.change(v) - p.change(onward(p, v)),
    # the whole chain's numbers, without a look at which variable they end in
    "largest end": lambda p, v: -p.values[p.end(v)],
    "smallest end": lambda p, v: p.values[p.end(v)],
    "end nearest zero": lambda p, v: abs(p.values[p.end(v)]),
    "end nearest the root's value": lambda p, v: abs(p.values[p.end(v)] - p.value),
}

FEATURES: dict[str, Callable[[Seen, str], object]] = {
    "name": lambda p, v: v,
    "name and goal": lambda p, v: (v, p.goal),
    "name and root": lambda p, v: (v, p.root),
    "operation": lambda p, v: p.change(v) > 0,
    "constant": lambda p, v: abs(p.change(v)),
    "operation and constant": lambda p, v: p.change(v),
    "root's value and constant": lambda p, v: (p.value, p.change(v)),
    "place": lambda p, v: p.at[v],
    "place among the first equations": lambda p, v: p.firsts.index(v),
    "place relative to the goal's equation": gap,
    "place of the next equation": lambda p, v: p.at[onward(p, v)],
    "places of both": lambda p, v: (p.at[v], p.at[onward(p, v)]),
    "next name": onward,
    "next constant": lambda p, v: p.change(onward(p, v)),
}


def choice(prompt: Seen, score: Score) -> str:
    # by place where scores tie, which is chance or another policy here finds it
    return min(prompt.firsts, key=lambda first: score(prompt, first))


def hits(prompts: Sequence[Seen], score: Score) -> int:
    return sum(choice(prompt, score) == prompt.right for prompt in prompts)


def fitted(prompts: Sequence[Seen], names: Sequence[str]) -> Score:
    """How much oftener each value was right than wrong in other problems, all features summed."""
    weights: dict[tuple[str, object], float] = {}
    for name in names:
        right: Counter[object] = Counter()
        every: Counter[object] = Counter()
        for prompt in prompts:
            for first in prompt.firsts:
                value = FEATURES[name](prompt, first)
                every[value] += 1
                right[value] += first == prompt.right
        for value, count in every.items():
            weights[name, value] = log(right[value] + 1) - log(count - right[value] + 1)
    return lambda p, v: -sum(weights.get((name, FEATURES[name](p, v)), 0.0) for name in names)


NAMES = [*POLICIES, *(f"fitted: {name}" for name in FEATURES), "fitted: all together"]
TESTED = [(2, 10, 26), (3, 4, 26)]
EACH = ALPHA / (len(NAMES) * len(TESTED))


@dataclass(frozen=True)
class Forks:
    """Unsigned forks: of training data to fit on, and held-out ones to test with."""

    known: list[Seen]
    fresh: list[Seen]

    @property
    def chance(self) -> float:
        return 1 / len(self.fresh[0].firsts)

    @cached_property
    def policies(self) -> dict[str, Score]:
        single = {f"fitted: {name}": fitted(self.known, [name]) for name in FEATURES}
        return POLICIES | single | {"fitted: all together": fitted(self.known, list(FEATURES))}


@pytest.fixture(scope="module", params=TESTED, ids=lambda shape: f"c{shape[0]}-l{shape[1]}")
def forks(request: pytest.FixtureRequest) -> Forks:
    task = shaped(*request.param)
    known = data(task, examples=FITTED_ON, fork_density=1.0, direction=1.0)
    fresh = [one for one in task.heldout("test", 2 * COUNT) if one.subset == "unsigned"]
    return Forks([seen(one.prompt) for one in known], [seen(one.prompt) for one in fresh])


def limits(chance: float) -> tuple[int, int]:
    """Fewest and most hits that chance explains, two-sided at a policy's part of alpha."""
    low = int(binom.ppf(EACH / 2, COUNT, chance))
    return low, int(binom.isf(EACH / 2, COUNT, chance))


@pytest.mark.parametrize("chains", [2, 3])
def test_an_advantage_of_five_points_would_be_found(chains: int) -> None:
    low, high = limits(1 / chains)
    assert binom.sf(high, COUNT, 1 / chains + ADVANTAGE) >= 0.99
    assert binom.cdf(low - 1, COUNT, 1 / chains - ADVANTAGE) >= 0.99
    false_alarm = binom.sf(high, COUNT, 1 / chains) + binom.cdf(low - 1, COUNT, 1 / chains)
    assert false_alarm <= EACH


@pytest.mark.parametrize("name", NAMES)
def test_a_shortcut_at_an_unsigned_fork_scores_chance(forks: Forks, name: str) -> None:
    low, high = limits(forks.chance)
    assert low <= hits(forks.fresh, forks.policies[name]) <= high


def test_the_right_equation_is_equally_often_at_every_place_of_the_listing(forks: Forks) -> None:
    places = Counter(prompt.at[prompt.right] for prompt in forks.fresh)
    assert chisquare([places[i] for i in range(len(forks.fresh[0].lines))]).pvalue > 1e-4


def test_steps_are_alike_in_all_chains(forks: Forks) -> None:
    # as numbers, not as choices: which changes occur on the right chain and on the others
    right = Counter(prompt.change(prompt.right) for prompt in forks.fresh)
    assert chisquare([right[n] for n in range(-20, 21) if n]).pvalue > 1e-4


def test_following_the_mark_is_always_right_at_a_signed_fork() -> None:
    for row in data(TASK, examples=300, fork_density=0.0):
        prompt = seen(row.prompt)
        assert prompt.lines[prompt.marked[0]][0] == prompt.right


def test_looking_ahead_to_the_end_is_always_right(forks: Forks) -> None:
    # the problems can be solved, so that chance above is a matter of what is read
    assert hits(forks.fresh[:500], lambda p, v: p.end(v) != p.goal) == 500


def test_the_published_listing_gives_every_fork_away_and_the_policies_find_it() -> None:
    leaky = ArithmeticChain(ArithmeticChainConfig(position_leak=True))
    rows = data(leaky, examples=1500, fork_density=1.0)
    prompts = [seen(row.prompt) for row in rows]
    assert hits(prompts, POLICIES["first listed"]) == len(prompts)
    learnt = fitted(prompts[:1000], list(FEATURES))
    assert hits(prompts[1000:], learnt) == 500
    assert any("position_leak" in note for note in leaky.notes) and not TASK.notes
    # in nothing else: the same equations, to the letter
    for row, other in zip(rows, data(TASK, examples=1500, fork_density=1.0), strict=True):
        assert sorted(row.prompt.split("\n")) == sorted(other.prompt.split("\n"))
        assert row.response == other.response


def test_chains_listed_whole_are_found_by_a_policy(forks: Forks) -> None:
    for prompt in forks.fresh[:300]:
        order = [name for first in prompt.firsts for name in (first, *_rest(prompt, first))]
        lines = tuple(prompt.lines[prompt.at[name]] for name in order)
        whole = Seen(lines, (), prompt.root, prompt.value, prompt.goal)
        assert choice(whole, POLICIES["last before the goal's equation"]) == whole.right


def _rest(prompt: Seen, first: str) -> list[str]:
    names = []
    while first in prompt.following:
        first = prompt.following[first]
        names.append(first)
    return names
