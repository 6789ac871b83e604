"""Intervals over problems: what they are made of, and how often they hold in simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.coverage.stats import bootstrap_weights, mean_intervals, paired_differences, wilson
from forkdiv.coverage.stats.intervals import confidence_at_once
from forkdiv.coverage.stats.score_interval import MIN_EFFECTIVE_PROBLEMS, Moments, limits
from tests.studies import PAIRED, SINGLE, Population, simulate

BY_NAME = {one.name: one for one in [*SINGLE, *PAIRED]}
# of 400 studies: three standard errors beside the 93 to 97 that 2,000 are held to in the soak
LEAST, MOST = 0.93 - 0.035, 0.97 + 0.03


@pytest.mark.parametrize(
    "name",
    [
        "beta(.3,.3)",
        "ceiling beta(20,.4)",
        "floor beta(.1,5)",
        "beta(2,2) to beta(.3,.3)",
        "ceiling beta(20,.4) to beta(2,1)",
        "ceiling, 3% hard to ceiling, 3% hard",
        "halves: one gains, one loses",
    ],
)
def test_limits_hold_as_often_as_they_say_and_cautious_ones_more(name: str) -> None:
    held = simulate(BY_NAME[name], 100, 400, seed=0)
    assert (held.alone >= LEAST).all(), held
    assert (held.alone[held.trusted >= 0.9] <= MOST).all(), held
    assert held.at_once >= LEAST


def test_limits_at_each_k_alone_do_not_hold_for_all_at_once() -> None:
    # or those for all at once would be wider than they need be
    population = BY_NAME["0, 1 and between"]
    values = population.draw(np.random.default_rng(0), 200, 200)
    low, high = limits(Moments.of(values), 0.95, 0.0)
    truth = population.truth()
    together = ((low <= truth) & (truth <= high)).all(axis=1).mean()
    assert together < simulate(population, 200, 200, seed=0).at_once


@pytest.mark.parametrize(("hits", "n"), [(20, 100), (81, 263), (300, 1000), (985, 1000)])
def test_of_zeros_and_ones_the_limits_are_wilsons_but_for_a_term_of_one_in_n(
    hits: int, n: int
) -> None:
    values = np.repeat([1.0, 0.0], [hits, n - hits])[:, None]
    (found,) = mean_intervals(values, bootstrap_weights(["x"] * n, 100, 0), 0.95)
    assert (found.low, found.high) == pytest.approx(wilson(hits / n, n, 0.95), abs=2 / n)
    assert found.method == "score"


def test_of_values_without_skewness_the_limits_are_students() -> None:
    values = np.tile([0.3, 0.5, 0.7], 40)[:, None]
    (found,) = mean_intervals(values, bootstrap_weights(["x"] * 120, 100, 0), 0.95)
    half = 1.98 * values.std(ddof=1) / np.sqrt(120)
    assert found.high - found.value == pytest.approx(half, rel=0.02)
    assert found.value - found.low == pytest.approx(half, rel=0.02)


@pytest.mark.parametrize(("failures", "method"), [(0, "wilson"), (9, "wilson"), (13, "score")])
def test_the_method_is_wilson_if_few_problems_vary(failures: int, method: str) -> None:
    values = np.repeat([0.0, 1.0], [failures, 500 - failures])[:, None]
    (found,) = mean_intervals(values, bootstrap_weights(["x"] * 500, 100, 0), 0.95)
    assert (found.method, found.trusted) == (method, method == "score")
    assert found.low < found.value and (found.high > found.value or not failures)


def test_the_problems_that_cause_the_spread_are_counted() -> None:
    rare = np.repeat([1.0, 0.0], [7, 9_993])[:, None]
    assert (
        float(Moments.of(rare).effective_problems[0]) == pytest.approx(7, rel=0.01)
        and MIN_EFFECTIVE_PROBLEMS == 10
    )
    even = np.repeat([1.0, 0.0], [50, 50])[:, None]
    assert float(Moments.of(even).effective_problems[0]) == pytest.approx(100)


def test_losses_that_lean_one_way_have_limits_that_lean_with_them() -> None:
    base, tuned = np.ones((200, 1)), np.repeat([0.0, 1.0], [20, 180])[:, None]
    weights = bootstrap_weights(["x"] * 200, 100, 0)
    (found,) = paired_differences(tuned, base, weights, 0.95)
    assert found.value - found.low > 1.2 * (found.high - found.value) > 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30),
    st.lists(st.floats(0, 1), min_size=2, max_size=30),
    st.sampled_from([0.6, 0.9, 0.95, 0.999]),
)
def test_limits_hold_their_value_stay_in_range_and_widen_for_all_k(
    first: list[float], second: list[float], confidence: float
) -> None:
    count = min(len(first), len(second))
    values = np.column_stack([first[:count], second[:count]])
    names = ["ab"[i % 2] for i in range(count)]
    weights = bootstrap_weights(names, 100, 0)
    made = [
        (0.0, mean_intervals(values, weights, confidence, names)),
        (-1.0, paired_differences(values, values[::-1].copy(), weights, confidence, names)),
    ]
    for least, found in made:
        for one in found:
            assert least <= one.low_all <= one.low <= one.value <= one.high <= one.high_all <= 1


def test_columns_that_move_together_need_no_more_than_one() -> None:
    column = np.random.default_rng(0).random((400, 1))
    alike, apart = np.repeat(column, 5, axis=1), np.random.default_rng(1).random((4_000, 5))
    assert confidence_at_once(alike, 0.95) == pytest.approx(0.95, abs=0.01)
    # five independent columns: 0.95^(1/5)
    assert confidence_at_once(apart, 0.95) == pytest.approx(0.9898, abs=0.003)


def test_strata_of_another_number_of_problems_are_refused() -> None:
    weights = bootstrap_weights(["x"] * 4, 100, 0)
    with pytest.raises(ValueError, match="one entry for each problem, got 3 for 4"):
        mean_intervals(np.ones((4, 1)), weights, 0.95, ["a", "a", "b"])


def test_the_populations_differ_in_what_they_ask() -> None:
    assert len(BY_NAME) == len(SINGLE) + len(PAIRED)
    truths = [one.truth()[0] for one in SINGLE if isinstance(one, Population)]
    assert min(truths) < 0.03 and max(truths) > 0.97


def test_the_order_of_sums_does_not_change_the_simultaneous_confidence() -> None:
    """As with another number of threads: few problems have many equal means, whose order is then
    chance."""
    random = np.random.default_rng(0)
    values = random.integers(0, 11, (10, 4)) / 10
    weights = bootstrap_weights(["all"] * 10, 1000, 0)
    expected = confidence_at_once(weights @ values, 0.95)
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(10)
        summed = sum(weights[:, i, None] * values[i] for i in order)
        assert confidence_at_once(summed, 0.95) == expected
