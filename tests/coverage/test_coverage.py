"""pass@k against exact arithmetic, intervals against simulated truth, agreement both ways."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from forkdiv.coverage.stats import (
    Agreement,
    agreement,
    bootstrap_weights,
    exact_pass_at_k,
    mean_intervals,
    paired_differences,
    pass_at_k,
    wilson,
)

Floats = NDArray[np.float64]
KS = np.array([1, 4, 16])
HALVES = ["signed", "unsigned"] * 50


def by_counting(n: int, c: int, k: int) -> float:
    """1 - C(n-c, k) / C(n, k) in whole numbers."""
    return float(1 - Fraction(math.comb(n - c, k), math.comb(n, k)))


@st.composite
def counts(draw: st.DrawFn, most: int = 3000) -> tuple[int, int, int]:
    n = draw(st.integers(1, most))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@settings(deadline=None)
@given(counts())
def test_pass_at_k_agrees_with_whole_number_arithmetic(ncks: tuple[int, int, int]) -> None:
    assert float(pass_at_k(*ncks)) == pytest.approx(by_counting(*ncks), abs=1e-9)


def test_pass_at_k_agrees_with_whole_numbers_wherever_n_is_small() -> None:
    for n in range(1, 13):
        c, k = np.meshgrid(np.arange(n + 1), np.arange(1, n + 1))
        exact = [by_counting(n, *pair) for pair in zip(c.ravel(), k.ravel(), strict=True)]
        assert pass_at_k(n, c, k).ravel() == pytest.approx(exact, abs=1e-12)


def test_four_samples_with_one_hit_pass_at_four() -> None:
    # the estimate by resampling with replacement would be 0.684
    assert float(pass_at_k(4, 1, 4)) == 1.0


def test_pass_at_one_is_the_share_of_hits() -> None:
    assert pass_at_k(50, np.arange(51), 1) == pytest.approx(np.arange(51) / 50, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 40), st.sampled_from([1, 2, 10, 100, 1000, 50_000]))
def test_pass_at_k_is_stable_at_a_hundred_thousand_samples(c: int, k: int) -> None:
    # the wrong-only draws as a product of c factors: exact, and quick where c is small
    n = 100_000
    none = math.prod((Fraction(n - k - i, n - i) for i in range(c)), start=Fraction(1))
    assert float(pass_at_k(n, c, k)) == pytest.approx(float(1 - none), abs=2e-9)


@settings(deadline=None)
@given(counts())
def test_more_tries_and_more_hits_never_lower_pass_at_k(ncks: tuple[int, int, int]) -> None:
    n, c, k = ncks
    here = float(pass_at_k(n, c, k))
    assert 0.0 <= here <= 1.0
    if k < n:
        assert float(pass_at_k(n, c, k + 1)) >= here - 1e-10
    if c < n:
        assert float(pass_at_k(n, c + 1, k)) >= here - 1e-10


def test_the_arguments_of_pass_at_k_broadcast() -> None:
    c = np.array([[0], [3], [10]])
    k = np.array([1, 2, 5, 10])
    found = pass_at_k(10, c, k)
    assert found.shape == (3, 4)
    for row, column in np.ndindex(3, 4):
        one = pass_at_k(10, int(c[row, 0]), int(k[column]))
        assert one.shape == () and float(one) == found[row, column]
    assert pass_at_k([5, 6], [1, 2], [[1], [2], [3]]).shape == (3, 2)
    assert pass_at_k([], [], 1).shape == (0,)


def test_whole_numbers_may_arrive_as_floats() -> None:
    assert float(pass_at_k(10.0, np.float64(3), np.int8(2))) == float(pass_at_k(10, 3, 2))


def test_fewer_samples_than_k_are_nan_with_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match="2 of 3 values are NaN"):
        found = pass_at_k([3, 8, 7], [3, 1, 0], 8)
    assert np.isnan(found).tolist() == [True, False, True]
    assert found[1] == 1.0


def test_known_values_come_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pass_at_k([4, 4, 100_000], [0, 4, 7], [4, 1, 99_999])


@pytest.mark.parametrize(
    ("n", "c", "k", "message"),
    [
        (3, 4, 1, "c must not exceed n, got c=4 n=3"),
        ([9, 3], [9, 5], 1, "got c=5 n=3 in row 1"),
        (-1, 0, 1, "n must be whole numbers"),
        (3, -1, 1, "c must be whole numbers"),
        (3, 1, -1, "k must be whole numbers"),
        (3, 1, 0, "k must be at least 1, got k=0"),
        (3.5, 1, 1, "n must be whole numbers"),
        (3, 0.5, 1, "c must be whole numbers"),
        (3, 1, 1.5, "k must be whole numbers"),
        (3, math.nan, 1, "c must be whole numbers"),
        (3, True, 1, "c must be whole numbers"),
        (3, "1", 1, "c must be whole numbers"),
    ],
)
def test_invalid_counts_are_refused(n: object, c: object, k: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pass_at_k(n, c, k)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.integers(1, 200), st.just(0.0) | st.floats(1e-9, 1), st.data())
def test_pass_at_k_is_unbiased(n: int, p: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    every = np.arange(n + 1)
    expectation = binom.pmf(every, n, p) @ pass_at_k(n, every, k)
    assert expectation == pytest.approx(float(exact_pass_at_k(p, k)), abs=1e-9)


@settings(deadline=None)
@given(st.fractions(0, 1, max_denominator=10**6), st.integers(1, 60))
def test_exact_pass_at_k_agrees_with_fractions(p: Fraction, k: int) -> None:
    expected = float(1 - (1 - p) ** k)
    assert float(exact_pass_at_k(float(p), k)) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_exact_pass_at_k_keeps_tiny_probabilities_and_its_ends() -> None:
    assert float(exact_pass_at_k(1e-20, 256)) == pytest.approx(256e-20, rel=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert exact_pass_at_k([0.0, 1.0, 1 + 1e-10], 7).tolist() == [0.0, 1.0, 1.0]
    assert exact_pass_at_k(np.full((5, 1), 0.5), [1, 2, 3]).shape == (5, 3)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan, [0.5, -1e-3]])
def test_values_outside_0_and_1_are_refused_as_probabilities(p: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        exact_pass_at_k(p, 1)


def test_bootstrap_weights_keep_fixed_strata_fixed() -> None:
    strata = ["signed"] * 30 + ["unsigned"] * 10
    weights = bootstrap_weights(strata, 500, seed=3)
    assert weights.shape == (500, 40)
    assert weights[:, :30].sum(axis=1) == pytest.approx(np.full(500, 0.75))
    assert weights[:, 30:].sum(axis=1) == pytest.approx(np.full(500, 0.25))
    drawn = weights * 40
    assert drawn == pytest.approx(np.round(drawn)) and drawn.min() == 0 and drawn.max() >= 3
    assert drawn.mean(axis=0) == pytest.approx(np.ones(40), abs=5 / math.sqrt(500))


def test_one_seed_draws_the_same_weights_and_another_does_not() -> None:
    first, again, other = (bootstrap_weights(HALVES, 50, seed) for seed in (1, 1, 2))
    assert (first == again).all() and not (first == other).all()


def test_strata_are_identified_by_name() -> None:
    weights = bootstrap_weights(HALVES, 50, seed=0)
    assert weights[:, ::2].sum(axis=1) == pytest.approx(np.full(50, 0.5))


def population(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Tuned and base probabilities: correlated, the halves apart, tuned ones near 0 or 1."""
    base = random.beta(2, 2, count)
    shift = np.where(np.arange(count) % 2 == 0, 0.1, -0.1)
    return np.clip(0.5 * random.beta(0.4, 0.6, count) + 0.5 * base + shift, 0, 1), base


def truths() -> tuple[Floats, Floats]:
    """Mean difference and mean of the base over so many problems that their error is 2e-4."""
    tuned, base = population(np.random.default_rng(99), 2_000_000)
    means = [(exact_pass_at_k(p, k)).mean() for p in (tuned, base) for k in KS]
    return np.subtract(means[:3], means[3:]), np.array(means[3:])


def test_paired_and_single_intervals_cover_the_truth() -> None:
    # 300 studies of 100 problems: 95 % nominal has a standard error of 1.3 points
    difference, mean = truths()
    studies, paired, single = 300, np.zeros(3), np.zeros(3)
    for study in range(studies):
        random = np.random.default_rng(10_000 + study)
        tuned, base = (
            pass_at_k(16, random.binomial(16, p)[:, None], KS) for p in population(random, 100)
        )
        weights = bootstrap_weights(HALVES, 100, seed=study)
        found = paired_differences(tuned, base, weights, 0.95, HALVES)
        paired += [i.low <= truth <= i.high for i, truth in zip(found, difference, strict=True)]
        found = mean_intervals(base, weights, 0.95, HALVES)
        single += [i.low <= truth <= i.high for i, truth in zip(found, mean, strict=True)]
    assert (paired / studies >= 0.915).all() and (single / studies >= 0.915).all()
    assert (paired[:2] / studies <= 0.985).all() and (single[:2] / studies <= 0.985).all()


def test_a_zero_difference_is_covered_and_rarely_significant() -> None:
    # base against itself sampled anew: at 95 % about 15 of 300 exclude 0; 6 sigma is 38
    called = 0
    for study in range(300):
        random = np.random.default_rng(50_000 + study)
        p = random.beta(0.5, 0.5, 100)
        tuned, base = (pass_at_k(16, random.binomial(16, p)[:, None], [4]) for _ in range(2))
        (found,) = paired_differences(tuned, base, bootstrap_weights(HALVES, 100, study), 0.95)
        called += not found.low <= 0 <= found.high
    assert 1 <= called <= 38


def test_pairing_narrows_the_interval_of_correlated_values() -> None:
    random = np.random.default_rng(5)
    base = random.random((100, 1))
    tuned = base + 0.05 + 0.01 * random.standard_normal((100, 1))
    weights = bootstrap_weights(HALVES, 500, seed=0)
    (paired,) = paired_differences(tuned, base, weights, 0.95)
    (alone,) = mean_intervals(base, weights, 0.95)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)
    assert paired.low < 0.05 < paired.high


def test_a_higher_confidence_is_wider_and_holds_the_value() -> None:
    values = np.random.default_rng(1).random((100, 2))
    weights = bootstrap_weights(HALVES, 500, seed=0)
    for wide, narrow in zip(
        mean_intervals(values, weights, 0.99), mean_intervals(values, weights, 0.8), strict=True
    ):
        assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
        assert wide.value == narrow.value


def test_halves_that_differ_do_not_widen_the_interval() -> None:
    # drawn within their halves, problems that only differ between halves leave little spread
    values = np.array([[0.25 if half == "signed" else 0.75] for half in HALVES])
    values = values + np.random.default_rng(0).uniform(-0.01, 0.01, values.shape)
    weights = bootstrap_weights(HALVES, 200, seed=0)
    (within,) = mean_intervals(values, weights, 0.95, HALVES)
    (among,) = mean_intervals(values, weights, 0.95)
    assert within.value == among.value == pytest.approx(0.5, abs=0.01)
    assert 20 * (within.high - within.low) < among.high - among.low


@pytest.mark.parametrize("ceiling", [0.0, 1.0])
def test_an_interval_at_the_ceiling_has_a_width(ceiling: float) -> None:
    values = np.full((100, 1), ceiling)
    (found,) = mean_intervals(values, bootstrap_weights(HALVES, 200, seed=0), 0.95)
    assert found.value == ceiling
    assert found.high - found.low == pytest.approx(1.96**2 / 100, abs=1e-4)
    assert found.method == "wilson" and not found.trusted


@pytest.mark.parametrize(("tuned", "base"), [(1.0, 1.0), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_a_difference_at_the_ceilings_has_a_width_within_its_range(
    tuned: float, base: float
) -> None:
    weights = bootstrap_weights(HALVES, 200, seed=0)
    (found,) = paired_differences(np.full((100, 1), tuned), np.full((100, 1), base), weights, 0.95)
    assert found.value == tuned - base
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert 0.01 < found.high - found.low < 0.15


def test_columns_at_and_off_the_ceiling_have_their_own_limits() -> None:
    values = np.column_stack([np.ones(100), np.random.default_rng(0).random(100)])
    ceiling, plain = mean_intervals(values, bootstrap_weights(HALVES, 200, seed=0), 0.95)
    assert ceiling.low == pytest.approx(wilson(1.0, 100, 0.95)[0], abs=2e-3)
    assert (ceiling.high, ceiling.method, plain.method) == (1.0, "wilson", "score")
    assert plain.low < plain.value < plain.high < 0.7


def test_values_of_other_problems_are_not_paired() -> None:
    weights = bootstrap_weights(HALVES, 10, seed=0)
    with pytest.raises(ValueError, match="equal shapes"):
        paired_differences(np.ones((100, 1)), np.ones((99, 1)), weights, 0.95)


def test_wilson_agrees_with_its_published_value() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263
    low, high = wilson(81 / 263, 263, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


SAMPLERS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "spread": lambda random: random.beta(0.5, 0.5, 60),
    "chance": lambda random: np.full(60, 1 / 3),
    "rare": lambda random: np.full(60, 1e-3),
    "rarest": lambda random: np.full(60, 1e-5),
    "ceiling": lambda random: np.full(60, 0.999),
    "one hard": lambda random: np.r_[np.ones(59), 1e-4],
}


def looked_at(drawn: NDArray[np.int64], p: Floats) -> Agreement:
    return agreement(drawn, 64, p, [1, 2, 4, 8, 16, 32, 64])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_true_sampler_agrees_in_every_seed(name: str) -> None:
    for seed in range(120):
        random = np.random.default_rng(seed)
        p = SAMPLERS[name](random)
        found = looked_at(random.binomial(64, p), p)
        assert found.agrees and abs(found.worst_z) < 5, (seed, found)


@pytest.mark.parametrize(
    ("name", "shift"),
    [("spread", 0.05), ("spread", -0.05), ("chance", 0.1), ("chance", -0.1), ("ceiling", -0.05)],
)
def test_a_sampler_of_other_probabilities_does_not_agree(name: str, shift: float) -> None:
    for seed in range(40):
        random = np.random.default_rng(seed)
        p = SAMPLERS[name](random)
        found = looked_at(random.binomial(64, np.clip(p + shift, 0, 1)), p)
        assert not found.agrees, (seed, found)
        assert found.worst_z * shift > 0, "the sign says which way it is off"


def test_samples_that_are_all_alike_do_not_agree() -> None:
    # one seed for every sample: pass@1 is right on average, pass@64 is not
    for seed in range(40):
        random = np.random.default_rng(seed)
        p = random.beta(2, 2, 60)
        found = looked_at(64 * random.binomial(1, p), p)
        assert not found.agrees and found.at_k > 1


def test_a_certain_sampler_agrees_without_a_division_by_zero() -> None:
    p = np.array([0.0, 1.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert looked_at(np.array([0, 64, 64]), p) == Agreement(0.0, 1, True)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_an_infinite_count_is_refused() -> None:
    with pytest.raises(ValueError, match="c must be whole numbers"):
        pass_at_k(5, math.inf, 1)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("k", [-1, 0, 1.5])
def test_exact_pass_at_k_refuses_what_pass_at_k_refuses(k: float) -> None:
    with pytest.raises(ValueError, match="k must be"):
        exact_pass_at_k(1.0, k)


@pytest.mark.filterwarnings("ignore:pass@k is undefined")
@pytest.mark.parametrize(("p", "k"), [(math.nan, 1), (0.5, 128)])
def test_agreement_never_says_yes_to_the_unknown(p: float, k: int) -> None:
    try:
        found = agreement(np.zeros(60, np.int64), 64, np.full(60, p), [k])
    except ValueError:
        return
    assert not found.agrees


def test_agreement_takes_probabilities_next_to_nothing() -> None:
    assert looked_at(np.zeros(60, np.int64), np.full(60, 1e-307)).agrees


def test_agreement_refuses_counts_of_other_problems() -> None:
    with pytest.raises(ValueError, match="3"):
        agreement(np.full(3, 32), 64, np.full(60, 0.5), [1])


def test_exact_values_close_to_the_ceiling_have_a_width_too() -> None:
    values = exact_pass_at_k(np.linspace(0.05, 0.4, 100), 256)[:, None]
    (found,) = mean_intervals(values, bootstrap_weights(HALVES, 200, seed=0), 0.95)
    assert found.high - found.low > 0.001


def test_wilson_limits_hold_the_value_they_are_for() -> None:
    for n in range(1, 200):
        assert wilson(0.0, n, 0.95)[0] == 0.0 and wilson(1.0, n, 0.95)[1] == 1.0
