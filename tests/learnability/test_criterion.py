"""The criterion: its gain, its error rate on coin flips, and the classes of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from forkdiv.core.config.study import LearnabilityConfig
from forkdiv.data.token_table import TokenClass
from forkdiv.learnability import criterion
from forkdiv.learnability.controls import entropy_mask, random_mask
from forkdiv.learnability.criterion import UnitEvidence

CONFIG = LearnabilityConfig()
KNOWN, LEARNABLE, INDECIPHERABLE, ARBITRARY, _ = TokenClass


def evidence(base: list[float], runs: list[list[float]]) -> UnitEvidence:
    return UnitEvidence.of(np.arange(len(base)), np.array(base), np.array(runs))


def coin_flips(count: int, seed: int, runs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Coin flips between 2 or 3 branches, at which each run is sure of some branch."""
    random = np.random.default_rng(seed)
    base = np.where(random.random(count) < 0.5, 1 / 2, 1 / 3)
    right = random.random((count, runs)) < base[:, None]
    p = np.where(right, random.uniform(0.6, 1, right.shape), random.uniform(0, 0.4, right.shape))
    return base, UnitEvidence(np.arange(count), base, p).gains(CONFIG.floor)


def test_a_gain_is_the_logarithm_of_the_mean_with_the_floor_added() -> None:
    found = evidence([0.25, 1e-9], [[0.5, 0.7], [1e-6, 1e-6]]).gains(0.01)
    assert found[0] == pytest.approx(np.log(0.61 / 0.26))
    assert found[1] == pytest.approx(0, abs=1e-3)  # a rise from 1e-9 to 1e-6 is no gain


@pytest.mark.parametrize("error_rate", [0.02, 0.05, 0.2])
def test_at_most_the_error_rate_of_new_coin_flips_is_called_learnable(error_rate: float) -> None:
    config = CONFIG.model_copy(update={"error_rate": error_rate, "gain": 0.0})
    shares = []
    for seed in range(20):
        found = criterion.calibrated(*coin_flips(500, seed), config)
        base, gains = coin_flips(2000, 1000 + seed)
        shares.append(found.learnable(base, gains).mean())
    assert np.mean(shares) <= error_rate + 0.005
    assert np.mean(shares) > 0.3 * error_rate  # and it is not so by calling nothing learnable


def test_the_threshold_depends_on_the_bases_probability() -> None:
    found = criterion.calibrated(*coin_flips(4000, 0), CONFIG)
    low, high = found.learnable(np.array([1 / 3, 0.5]), np.array([0.65, 0.65]))
    assert len(found.thresholds) > 1 and not low and high


def test_too_few_coin_flips_call_nothing_learnable() -> None:
    found = criterion.calibrated(*coin_flips(10, 0), CONFIG)
    assert not found.learnable(np.array([0.3]), np.array([1.2])).any()
    assert criterion.as_json(found)["thresholds_nats"] == [None]


def test_the_measured_error_is_that_of_rows_which_the_thresholds_have_not_seen() -> None:
    base, gains = coin_flips(4000, 3)
    wrong, of = criterion.measured_error(np.arange(4000), base, gains, CONFIG)
    assert of == 4000 and 0.02 < wrong / of < 0.08
    # coin flips of one half that look like rules are wrong on the other half, and show
    gains = np.where(np.arange(4000) % 2 == 0, 5.0, 0.0)
    wrong, _ = criterion.measured_error(np.arange(4000), base, gains, CONFIG)
    assert wrong == 2000


def test_equal_gains_of_all_coin_flips_are_not_learnable() -> None:
    found = criterion.calibrated(np.full(300, 0.3), np.full(300, 0.7), CONFIG)
    assert not found.learnable(np.array([0.3]), np.array([0.7])).any()
    assert found.learnable(np.array([0.3]), np.array([0.71])).all()


def test_tokens_have_the_class_that_base_and_runs_say() -> None:
    units = evidence([0.95, 0.3, 0.3, 0.001, 0.001], [[0.99], [0.9], [0.32], [0.9], [0.002]])
    found = criterion.classes(units, units.base, criterion.fixed(CONFIG), CONFIG)
    assert found.tolist() == [KNOWN, LEARNABLE, INDECIPHERABLE, LEARNABLE, ARBITRARY]


def test_a_base_above_two_thirds_can_be_gained_on() -> None:
    units = evidence([0.7], [[0.99]])  # where a factor of 1.5 could never be reached
    found = criterion.classes(units, units.base, criterion.fixed(CONFIG), CONFIG)
    assert found.tolist() == [LEARNABLE]


def test_of_an_indecipherable_word_only_the_first_unknown_token_is_left_to_the_base() -> None:
    unit_of = np.array([0, 1, 1, 1, 2])
    base = np.array([0.99, 0.95, 0.3, 0.5, 0.3])
    runs = np.array([[0.99], [0.95], [0.3], [0.5], [0.99]])
    units = UnitEvidence.of(unit_of, base, runs)
    np.testing.assert_allclose(units.base, [0.99, 0.95 * 0.3 * 0.5, 0.3])
    found = criterion.classes(units, base, criterion.fixed(CONFIG), CONFIG)
    assert found.tolist() == [KNOWN, KNOWN, INDECIPHERABLE, LEARNABLE, LEARNABLE]


def test_controls_have_as_many_tokens_and_none_that_the_base_knows() -> None:
    random = np.random.default_rng(0)
    known = random.random(1000) < 0.6
    entropy = random.random(1000)
    for mask in (random_mask(known, 50, 0), entropy_mask(known, entropy, 50)):
        assert mask.sum() == 50 and not (mask & known).any()
    assert entropy[entropy_mask(known, entropy, 50)].min() >= np.sort(entropy[~known])[-50]
    assert not np.array_equal(random_mask(known, 50, 0), random_mask(known, 50, 1))
