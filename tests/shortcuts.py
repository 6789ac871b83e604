"""Policies that read what a model could read of a prompt, and the test of what they score.

Places, names, the order of the listing, marks and frequencies in the prompt. A score is held
against chance, valid/degree, by an exact two-sided binomial test, with Bonferroni's correction
over all that the modules of tests look at. `COUNT` prompts find an advantage of `ADVANTAGE` with
power `POWER` or more, which is itself tested.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from tests.graph_prompts import Seen, Shape, View, drawn, view

SHAPES: list[Shape] = [
    (2, 3, 1, 1, 16),
    (3, 3, 1, 1, 16),
    (5, 4, 1, 1, 30),
    (2, 10, 1, 1, 30),
    (3, 3, 1, 2, 16),
    (3, 3, 2, 1, 24),
    (3, 3, 3, 2, 30),
    (4, 3, 2, 3, 26),
]
FORKS = [(shape, at) for shape in SHAPES for at in range(shape[2])]
ROW: Shape = (3, 3, 2, 1, 24)
DEFAULT: Shape = (3, 3, 1, 1, 16)

COUNT = 5300  # prompts per test
ADVANTAGE = 0.05
POWER = 0.99
FAMILY_ERROR = 1e-3  # the chance that any test of this module is a false alarm
LOOKS = 500  # tests there may be
LEARNT_LOOKS = 30  # of them for what can be learnt, and for marks elsewhere
ALPHA = FAMILY_ERROR / LOOKS


def limits(count: int, chance: float) -> tuple[int, int]:
    """The fewest and the most hits that are no finding."""
    low, high = (int(binom.ppf(tail, count, chance)) for tail in (ALPHA / 2, 1 - ALPHA / 2))
    return low, high


def power(count: int, chance: float, true: float) -> float:
    """The chance that a policy which is right with probability `true` is found."""
    low, high = limits(count, chance)
    return float(binom.cdf(low - 1, count, true) + binom.sf(high, count, true))


def at_chance(hits: int, count: int, chance: float) -> bool:
    low, high = limits(count, chance)
    return low <= hits <= high


def chance_of(shape: Shape) -> float:
    degree, _, _, valid, _ = shape
    return valid / degree


@cache
def prompts(shape: Shape) -> list[Seen]:
    return drawn(shape, COUNT)


@cache
def looked(shape: Shape, at: int) -> View:
    return view(prompts(shape), at)


Scores = NDArray[Any]
Policy = Callable[[View], Scores]  # the branch of the lowest score is taken

POLICIES: dict[str, Policy] = {
    # position
    "first listed": lambda v: v.place,
    "last listed": lambda v: -v.place,
    "second listed": lambda v: np.tile([1, 0, *[2] * (v.place.shape[1] - 2)], (len(v.place), 1)),
    "nearest to the middle": lambda v: abs(2 * v.place + 1 - v.edges),
    "at the place the goal's name says": lambda v: abs(
        np.arange(v.place.shape[1]) - v.goal % v.place.shape[1]
    ),
    # names
    "first name": lambda v: v.name,
    "last name": lambda v: -v.name,
    "name nearest the goal's": lambda v: abs(v.name - v.goal),
    "name farthest from the goal's": lambda v: -abs(v.name - v.goal),
    "next name after the goal's": lambda v: (v.name - v.goal) % 10_000,
    "name nearest the start's": lambda v: abs(v.name - v.start),
    "name nearest the fork's own": lambda v: abs(v.name - v.own),
    # adjacency in the listing to the edges of goal, start and fork
    "nearest the goal's first edge": lambda v: abs(v.place - v.first_goal_edge),
    "farthest from the goal's first edge": lambda v: -abs(v.place - v.first_goal_edge),
    "nearest the goal's last edge": lambda v: abs(v.place - v.last_goal_edge),
    "next after the goal's edge": lambda v: (v.place - v.first_goal_edge) % v.edges,
    "last before the goal's edge": lambda v: (v.last_goal_edge - v.place) % v.edges,
    "nearest the start's first edge": lambda v: abs(v.place - v.first_start_edge),
    "next after the edge into the fork": lambda v: (v.place - v.own_entry) % v.edges,
    # the edge that leads on
    "leads on first": lambda v: v.onward,
    "leads on last": lambda v: -v.onward,
    "leads on nearest the goal's edge": lambda v: abs(v.onward - v.first_goal_edge),
    "leads on farthest from the goal's edge": lambda v: -abs(v.onward - v.first_goal_edge),
    "leads on nearest its own edge": lambda v: abs(v.onward - v.place),
    "leads on after its own edge": lambda v: (v.onward - v.place) % v.edges,
    # marks, of which there are none
    "marked": lambda v: ~v.marked,
    # frequencies in the prompt
    "named most often": lambda v: -v.mentions,
    "named least often": lambda v: v.mentions,
    # one step of look-ahead: short of the goal on every arm of three edges or more
    "next name nearest the goal's": lambda v: abs(v.next_name - v.goal),
    "next to the goal": lambda v: ~v.beside_goal,
}
