"""The statistical check of an engine's outputs, on simulated log-probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from forkdiv.sample.output_check import output_check

TOKENS = 480


def simulated(
    noise: float, followed: float = 1.0, seed: int = 0, wrong_at_start: float = 0.0
) -> list[NDArray[np.float64]]:
    """An engine in which a share `followed` of the change arrives."""
    random = np.random.default_rng(seed)
    wanted = -random.exponential(2.0, TOKENS)
    change = random.normal(0, 2, TOKENS)
    independent = random.normal(0, 2, TOKENS)
    arrived = followed * change + (1 - followed) * independent * followed
    before = wanted + random.normal(0, noise, TOKENS) + wrong_at_start * independent
    after = wanted + arrived + random.normal(0, noise, TOKENS)
    return [before, after, wanted, wanted + change]


@pytest.mark.parametrize("noise", [1e-6, 0.003, 0.09])
@pytest.mark.parametrize("seed", range(20))
def test_an_engine_that_follows_its_weights_has_no_problems(noise: float, seed: int) -> None:
    found = output_check(*simulated(noise, seed=seed))
    assert found.problems == [] and found.tokens == TOKENS
    assert found.slope == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("noise", [1e-6, 0.09])
@pytest.mark.parametrize("followed", [0.0, 0.5, 0.85])
def test_an_engine_that_does_not_follow_or_follows_in_part_has(
    noise: float, followed: float
) -> None:
    assert output_check(*simulated(noise, followed)).problems


def test_an_engine_that_is_wrong_from_the_start_has() -> None:
    (problem, *_) = output_check(*simulated(0.05, wrong_at_start=1.0)).problems
    assert "before any swap" in problem


def test_nan_is_a_problem() -> None:
    before, after, wanted, wanted_after = simulated(0.05)
    after[3] = np.nan
    assert output_check(before, after, wanted, wanted_after).problems == [
        "log-probabilities are not finite"
    ]


def test_an_engine_that_deviates_more_after_a_swap_than_before_has() -> None:
    """As with a small part that was not refreshed: its outputs follow nearly as they should."""
    before, after, wanted, wanted_after = simulated(0.01)
    after += np.random.default_rng(9).normal(0, 0.1, TOKENS)
    found = output_check(before, after, wanted, wanted_after)
    assert found.slope == pytest.approx(1, abs=0.02) and found.correlation > 0.99
    (problem,) = found.problems
    assert "times as much as before" in problem
