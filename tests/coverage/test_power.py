"""Power against whole simulated comparisons: drawn anew, with the limits that a comparison has."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from forkdiv.coverage import stats
from forkdiv.coverage.stats.power import Design, Population, assumed, measured

CONFIDENCE = 0.95
STUDIES = 400


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def share_of_comparisons_that_show_a_loss(
    population: Population, k: int, n: int, problems: int, seed: int
) -> float:
    """Draws problems and samples, and applies what `forkdiv compare` applies to their counts."""
    draw = random(seed)
    weights = stats.bootstrap_weights(["x"] * problems, 50, 0)
    shown = 0
    for _ in range(STUDIES):
        rows = draw.integers(0, len(population.base), problems)
        base, tuned = (
            stats.pass_at_k(n, draw.binomial(n, p[rows]), k)[:, None]
            for p in (population.base, population.tuned)
        )
        (change,) = stats.paired_differences(tuned, base, weights, CONFIDENCE)
        shown += change.high < 0
    return shown / STUDIES


def noise(power: float, stated_from: int) -> float:
    """Four standard errors of the difference of two simulated shares."""
    variance = max(power * (1 - power), 0.01)
    return float(4 * np.sqrt(variance / STUDIES + variance / stated_from))


@pytest.mark.parametrize(
    ("k", "n", "problems", "pass_at_1", "pass_at_k", "loss", "correlation"),
    [
        (64, 64, 300, 0.3, 0.8, 0.05, 0.7),
        (16, 64, 200, 0.2, 0.6, 0.08, 0.9),
        (8, 8, 150, 0.4, 0.85, 0.1, 0.0),
        (1, 16, 250, 0.4, 0.4, 0.05, 0.8),
        (32, 64, 400, 0.5, 0.97, 0.02, 0.5),
    ],
)
def test_the_stated_power_is_that_of_simulated_comparisons(
    k: int,
    n: int,
    problems: int,
    pass_at_1: float,
    pass_at_k: float,
    loss: float,
    correlation: float,
) -> None:
    given = (k, pass_at_1, pass_at_k, loss, correlation)
    population = assumed(*given, random(1))
    stated = Design.of(population, k, n, loss, random(2)).power(problems, CONFIDENCE, random(3))
    fresh = assumed(*given, random(4))
    seen = share_of_comparisons_that_show_a_loss(fresh, k, n, problems, 5)
    assert seen == pytest.approx(stated, abs=noise(stated, 2000))


@pytest.mark.parametrize("k", [1, 4, 64])
def test_an_assumed_population_has_the_means_and_the_loss_it_was_asked_for(k: int) -> None:
    pass_at_k = 0.3 if k == 1 else 0.6
    population = assumed(k, 0.3, pass_at_k, 0.1, 0.6, random())
    for p, expected in ((population.base, pass_at_k), (population.tuned, pass_at_k - 0.1)):
        assert np.mean(1 - (1 - p) ** k) == pytest.approx(expected, abs=0.005)
    assert population.base.mean() == pytest.approx(0.3, abs=0.005)
    ranks = spearmanr(population.base, population.tuned).statistic
    assert ranks == pytest.approx(6 / np.pi * np.arcsin(0.6 / 2), abs=0.01), (
        "a normal copula of 0.6"
    )


def test_a_loss_that_the_same_pass_at_1_cannot_have_lowers_pass_at_1() -> None:
    population = assumed(64, 0.5, 0.6, 0.4, 0.5, random())
    assert np.mean(1 - (1 - population.tuned) ** 64) == pytest.approx(0.2, abs=0.005)
    assert population.tuned.mean() < 0.3


@pytest.mark.parametrize(
    ("k", "pass_at_1", "pass_at_k", "loss"),
    [(8, 0.5, 0.4, 0.1), (8, 0.1, 0.9, 0.1), (8, 0.3, 0.6, 0.7), (1, 0.3, 0.5, 0.1), (8, 0, 0, 0)],
)
def test_means_that_no_problems_can_have_are_refused(
    k: int, pass_at_1: float, pass_at_k: float, loss: float
) -> None:
    with pytest.raises(ValueError, match=r"pass@|loss"):
        assumed(k, pass_at_1, pass_at_k, loss, 0.5, random())


def test_a_measured_population_has_the_spread_of_the_comparison_it_is_from() -> None:
    truth = assumed(16, 0.3, 0.7, 0.1, 0.7, random(), size=4000)
    draw, n = random(1), 64
    counts = zip(draw.binomial(n, truth.base), draw.binomial(n, truth.tuned), strict=True)
    pairs = [(int(base), int(tuned), 1) for base, tuned in counts]
    population = measured(n, pairs, 16, 0.1, random(2))
    for samples in (16, 64, 256):
        again = Design.of(population, 16, samples, 0.1, random(3)).spread
        expected = Design.of(truth, 16, samples, 0.1, random(4)).spread
        assert again == pytest.approx(expected, rel=0.05)
    assert population.base.mean() == pytest.approx(truth.base.mean(), abs=0.01)


@pytest.mark.parametrize("loss", [0.02, 0.1, 0.3])
def test_a_measured_population_has_the_loss_that_is_asked_for(loss: float) -> None:
    pairs = [(16, 16, 50), (8, 2, 30), (4, 0, 20), (0, 1, 10)]
    population = measured(16, pairs, 16, loss, random())
    lost = np.mean(1 - (1 - population.base) ** 16) - np.mean(1 - (1 - population.tuned) ** 16)
    assert lost == pytest.approx(loss, abs=0.005)


def test_where_both_models_solved_everything_a_loss_is_that_of_whole_problems() -> None:
    population = measured(16, [(16, 16, 60)], 16, 0.02, random())
    design = Design.of(population, 16, 16, 0.02, random(1))
    assert design.spread == pytest.approx(np.sqrt(0.02 * 0.98), abs=0.005)
    with pytest.raises(ValueError, match="the loss must be at most pass@16 of the base"):
        measured(16, [(0, 0, 60), (16, 16, 1)], 16, 0.5, random())


def test_the_required_number_of_problems_reaches_the_power_and_three_quarters_do_not() -> None:
    population = assumed(32, 0.3, 0.8, 0.05, 0.7, random())
    design = Design.of(population, 32, 64, 0.05, random(1))
    problems = design.required(CONFIDENCE, 0.8, random(2))
    assert design.power(problems, CONFIDENCE, random(3)) > 0.8 - 0.03
    assert design.power(problems * 3 // 4, CONFIDENCE, random(4)) < 0.8
    assert design.detectable(problems, CONFIDENCE, 0.8) == pytest.approx(0.05, rel=0.1)


def test_the_required_number_is_found_where_few_problems_differ() -> None:
    population = measured(16, [(16, 16, 60)], 16, 0.05, random())
    for samples in (16, 64):
        design = Design.of(population, 16, samples, 0.05, random(1))
        problems = design.required(CONFIDENCE, 0.8, random(2))
        assert design.power(problems, CONFIDENCE, random(3)) > 0.75
        assert design.power(problems * 3 // 4, CONFIDENCE, random(4)) < 0.75


def test_power_grows_with_problems_and_with_samples_up_to_the_spread_of_problems() -> None:
    population = assumed(64, 0.3, 0.8, 0.05, 0.7, random())
    designs = [Design.of(population, 64, n, 0.05, random(1)) for n in (64, 128, 512)]
    spreads = [design.spread for design in designs]
    true_spread = np.std((1 - population.tuned) ** 64 - (1 - population.base) ** 64)
    assert spreads[0] > spreads[1] > spreads[2] > true_spread
    powers = [designs[0].power(n, CONFIDENCE, random(2)) for n in (100, 300, 1000)]
    assert powers == sorted(powers) and powers[2] - powers[0] > 0.3


def test_without_a_loss_it_is_shown_as_often_as_the_limits_err() -> None:
    population = assumed(16, 0.3, 0.7, 0.05, 0.7, random())
    design = Design.of(population, 16, 64, 0.0, random(1))
    error = design.power(300, CONFIDENCE, random(2))
    assert error == pytest.approx((1 - CONFIDENCE) / 2, abs=4 * norm.pdf(0) * 0.0088 + 0.005)
