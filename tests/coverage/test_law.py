"""The coverage law: found where it holds, and shown to be wrong where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import betaln
from scipy.stats import betabinom

from forkdiv.coverage import stats
from forkdiv.coverage.stats import Floats, Law
from forkdiv.coverage.stats.law import least_squares

KS = np.array([1, 2, 4, 8, 16, 32, 64])


def weights(problems: int, replicates: int = 300) -> Floats:
    return stats.bootstrap_weights(["x"] * problems, replicates, 0)


def fitted(correct: NDArray[np.int64], n: int = 64, predict: tuple[int, ...] = (512,)) -> Law:
    found = stats.law(n, correct, predict, weights(len(correct)), 0.95)
    assert isinstance(found, Law)
    return found


@settings(deadline=None)
@given(st.floats(-6, -0.01), st.floats(-2.5, -0.02), st.integers(3, 10))
def test_a_curve_that_follows_the_law_gives_back_its_a_and_b(a: float, b: float, many: int) -> None:
    ks = 2 ** np.arange(many)
    found = least_squares(ks, np.array([a * ks**b, 2 * a * ks**b]))
    assert np.ravel(found) == pytest.approx([a, 2 * a, b, b], rel=1e-5)


def test_no_other_a_and_b_fit_better() -> None:
    logs = np.log([[0.3, 0.35, 0.6, 0.62, 0.9, 0.91, 0.97]])
    ((a,), (b,)) = least_squares(KS, logs)

    def misfit(a: float, b: float) -> float:
        return float(((logs - a * KS**b) ** 2).sum())

    for step in (0.01, -0.01):
        assert misfit(a, b) < min(misfit(a + step, b), misfit(a, b + step))


def test_limits_hold_what_all_problems_would_give_nineteen_times_in_twenty() -> None:
    """What the law says of the whole population is promised, not that the law is true."""
    alpha, beta = 0.5, 2.0
    ((a,), (b,)) = least_squares(
        KS, np.log1p(-np.exp(betaln(alpha, beta + KS) - betaln(alpha, beta)))[None]
    )
    random = np.random.default_rng(0)
    inside = np.zeros(3)
    studies = 150
    for _ in range(studies):
        found = fitted(random.binomial(64, random.beta(alpha, beta, 200)))
        inside += [
            found.a_low <= a <= found.a_high,
            found.b_low <= b <= found.b_high,
            found.predictions["512"].low <= np.exp(a * 512**b) <= found.predictions["512"].high,
        ]
    # five in a hundred outside is what is promised, 11 of 150 and four standard errors are let by
    assert np.all(inside / studies > 0.88)


def test_where_many_problems_are_hard_the_heldout_error_is_small() -> None:
    """A beta distribution with much weight near 0 gives the law's own curve at large k."""
    random = np.random.default_rng(1)
    found = fitted(random.binomial(64, random.beta(0.4, 1.6, 4000)))
    check = found.heldout
    assert check and (check.fit_n, check.at_k) == (8, 56)
    assert check.error == check.predicted.value - check.observed.value
    assert abs(check.error) < 0.02


@pytest.mark.parametrize(
    ("chances", "sign"),
    [
        ((0.5, 0.001), 1),  # the law sees pass@k rise and expects it to go on
        ((0.1, 0.1), -1),  # one p for all: 1 - (1-p)^k ends faster than any power
    ],
)
def test_the_heldout_check_detects_a_wrong_law(chances: tuple[float, float], sign: int) -> None:
    random = np.random.default_rng(2)
    check = fitted(random.binomial(64, np.repeat(chances, 200))).heldout
    assert check
    assert sign * check.error > 0.1
    high, low = (check.predicted, check.observed)[::sign]
    assert low.high < high.low


def test_the_check_is_made_on_samples_that_the_fit_did_not_see() -> None:
    """Each problem has one right sample, which is in one part or in the other."""
    check = fitted(np.ones(4000, dtype=np.int64)).heldout
    assert check
    assert check.observed.value == pytest.approx(56 / 64, abs=0.03)
    again = fitted(np.ones(4000, dtype=np.int64)).heldout
    assert check == again


def test_few_samples_are_fitted_without_a_check() -> None:
    random = np.random.default_rng(3)
    correct = random.binomial(8, random.beta(1, 3, 100))
    assert fitted(correct, n=8).heldout is None
    check = fitted(random.binomial(16, random.beta(1, 3, 100)), n=16).heldout
    assert check and (check.fit_n, check.at_k) == (4, 12)


@pytest.mark.parametrize(
    ("n", "correct", "reason"),
    [
        (64, [0, 0, 0], "no sample is correct: pass@k is 0 at every k"),
        (64, [64, 64, 64], "every sample is correct: pass@k is 1 at every k"),
        (2, [1, 0, 2], r"pass@k is below 1 at 2 of the k = 1, 2, and the fit needs at least 3"),
        (64, [63, 64, 64], "pass@k is below 1 at 1 of the k = 1, 2, 4, 8, 16, 32, 64"),
    ],
)
def test_a_law_that_cannot_be_fitted_has_a_reason(n: int, correct: list[int], reason: str) -> None:
    found = stats.law(n, correct, (512,), weights(3), 0.95)
    assert isinstance(found, str) and found.startswith(reason)


def test_replicates_in_which_nothing_was_right_have_finite_numbers() -> None:
    found = fitted(np.array([3, *[0] * 20]))
    numbers = [found.a_low, found.b_low, found.predictions["512"].low]
    assert np.isfinite(numbers).all()
    assert found.predictions["512"].low < 0.01 < found.predictions["512"].high


def test_a_prediction_lies_within_its_limits_and_between_0_and_1() -> None:
    random = np.random.default_rng(4)
    for _ in range(20):
        alpha, beta = random.uniform(0.2, 3, 2)
        correct = random.binomial(16, random.beta(alpha, beta, 30))
        told = fitted(correct, 16, (32, 128, 10**6)).predictions
        assert list(told) == ["32", "128", "1000000"]
        values = [one.value for one in told.values()]
        assert values == sorted(values)
        assert all(0 < one.low <= one.value <= one.high <= 1 for one in told.values())


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="c must not exceed n, got c=9 n=8 in row 1"):
        stats.law(8, [1, 9], (64,), weights(2), 0.95)
    with pytest.raises(ValueError, match="k must be at least 1"):
        stats.law(8, [1, 2], (0,), weights(2), 0.95)


# --- its rival ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.floats(0.2, 5), st.floats(0.2, 5), st.integers(0, 2**32 - 1))
def test_no_other_beta_distribution_makes_the_counts_likelier(
    alpha: float, beta: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    correct = random.binomial(32, random.beta(alpha, beta, 60))
    found = stats.beta_rates(32, correct, weights(60, 10))

    def likelihood(alpha: float, beta: float) -> float:
        return float(betabinom.logpmf(correct, 32, alpha, beta).sum())

    best = likelihood(found.alpha[0], found.beta[0])
    for by in (0.95, 1.05):
        assert best >= likelihood(found.alpha[0] * by, found.beta[0]) - 1e-3
        assert best >= likelihood(found.alpha[0], found.beta[0] * by) - 1e-3


def test_limits_of_the_rival_hold_the_truth_nineteen_times_in_twenty_where_it_is_right() -> None:
    alpha, beta = 0.5, 2.0
    truth = -np.expm1(betaln(alpha, beta + 512) - betaln(alpha, beta))
    random = np.random.default_rng(0)
    inside = 0
    studies = 150
    for _ in range(studies):
        correct = random.binomial(64, random.beta(alpha, beta, 200))
        values = stats.beta_rates(64, correct, weights(200)).at(512)
        low, high = np.percentile(values[1:], [2.5, 97.5])
        inside += low <= truth <= high
    assert inside / studies > 0.88


def test_one_step_replicates_are_near_the_estimates_of_the_drawn_problems() -> None:
    random = np.random.default_rng(5)
    correct = random.binomial(64, random.beta(0.5, 2.0, 400))
    found = stats.beta_rates(64, correct, weights(400, 20)).at(512)
    for row, value in zip(weights(400, 20), found[1:], strict=True):
        drawn = np.repeat(correct, np.round(row * 400).astype(int))
        whole = stats.beta_rates(64, drawn, weights(400, 1)).at(512)[0]
        assert value == pytest.approx(whole, abs=0.2 * (found.max() - found.min()))


def test_the_rival_is_right_of_problems_that_are_all_alike_and_has_limits_there() -> None:
    random = np.random.default_rng(6)
    found = fitted(random.binomial(64, np.full(400, 0.1)))
    law, rival = found.heldout, found.rival.heldout
    assert law and rival and rival.observed == law.observed
    assert abs(rival.error) < 0.03 < 0.1 < abs(law.error)
    assert 0.9 < rival.predicted.low < rival.predicted.high < 1
