"""The criterion: its gain, its estimate of coin flips among learnable tokens, and the classes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from forkdiv.core.config.study import LearnabilityConfig
from forkdiv.data.token_table import BaseDistribution, TokenClass
from forkdiv.learnability import criterion
from forkdiv.learnability.controls import entropy_mask, random_mask
from forkdiv.learnability.criterion import Choices, Criterion, UnitEvidence

CONFIG = LearnabilityConfig()
KNOWN, LEARNABLE, INDECIPHERABLE, ARBITRARY, _ = TokenClass
HALF = Criterion(threshold=0.5, gain=0.05, floor=0.01, called=1, of=1, false=0.0)


def drawn(
    coins: int, rules: int, seed: int, wrong: float = 0.0
) -> tuple[Choices, NDArray[np.bool_]]:
    """Choices between 2 to 4 branches, and which are rules. At a coin flip the runs prefer some
    branch, at a rule the right one; `wrong` is the share of rules that they get wrong."""
    random = np.random.default_rng(seed)
    labels, held, counts, base_p, held_p = [], [], [], [], []
    is_rule = np.arange(coins + rules) >= coins
    for rule in is_rule:
        b = random.dirichlet(np.full(random.integers(2, 5), 8.0))
        label = int(random.choice(len(b), p=b))
        preferred = int(random.integers(len(b)))
        if rule and random.random() >= wrong:
            preferred = label
        sure = random.beta(12, 2) if rule else random.beta(1.5, 4)
        h = (1 - sure) * b + sure * (np.arange(len(b)) == preferred)
        labels.append(b[label])
        held.append(h[label])
        counts.append(len(b))
        base_p += list(b)
        held_p += list(h)
    starts = np.concatenate([[0], np.cumsum(counts)])
    ids = np.concatenate([np.arange(n) for n in counts]).astype(np.int32)
    likely = BaseDistribution(starts, ids, np.array(base_p, dtype=np.float32))
    return Choices(np.array(labels), np.array(held), likely, np.array(held_p)), is_rule


def test_a_gain_is_the_logarithm_of_the_ratio_with_the_floor_added() -> None:
    found = criterion.gains(np.array([0.25, 1e-9]), np.array([0.6, 1e-6]), 0.01)
    assert found[0] == pytest.approx(np.log(0.61 / 0.26))
    assert found[1] == pytest.approx(0, abs=1e-3)  # a rise from 1e-9 to 1e-6 is no gain


def test_the_share_of_the_possible_gain_is_1_for_a_certain_prediction() -> None:
    base = np.array([0.01, 0.3, 0.8])
    gain = criterion.gains(base, np.ones(3), 0.01)
    np.testing.assert_allclose(criterion.shares(base, gain, 0.01), 1)


@pytest.mark.parametrize("error_rate", [0.02, 0.05, 0.2])
@pytest.mark.parametrize(("coins", "rules"), [(1000, 1000), (3000, 500), (200, 2000)])
def test_among_learnable_tokens_the_share_of_coin_flips_is_at_most_the_error_rate(
    error_rate: float, coins: int, rules: int
) -> None:
    config = CONFIG.model_copy(update={"error_rate": error_rate})
    shares, power = [], []
    for seed in range(8):
        choices, is_rule = drawn(coins, rules, seed)
        found = criterion.calibrated(choices, config)
        called = found.learnable(choices.base, choices.heldout)
        shares.append((called & ~is_rule).sum() / max(called.sum(), 1))
        power.append(called[is_rule].mean())
    assert np.mean(shares) <= 1.15 * error_rate
    assert np.mean(power) > 0.3  # and it is not so by calling nothing learnable


def test_confident_misses_count_the_coin_flips_that_look_learnable_by_luck() -> None:
    for threshold in (0.3, 0.6):
        estimated, true = 0.0, 0
        for seed in range(4):
            choices, is_rule = drawn(5000, 500, seed)
            opened = choices.open_positions(CONFIG.known)
            found = criterion._estimated(choices, opened, threshold, CONFIG)
            called = found.learnable(choices.base, choices.heldout)
            estimated += found.false
            true += int((called & ~is_rule & opened).sum())
        assert estimated == pytest.approx(true, rel=0.1)


def test_rules_that_the_runs_get_wrong_make_it_stricter() -> None:
    right, _ = drawn(300, 1000, 0)
    often_wrong, _ = drawn(300, 1000, 0, wrong=0.3)
    strict = criterion.calibrated(often_wrong, CONFIG).threshold
    assert strict > criterion.calibrated(right, CONFIG).threshold


def test_where_all_tokens_are_rules_nearly_all_are_learnable() -> None:
    choices, _ = drawn(0, 500, 0)
    found = criterion.calibrated(choices, CONFIG)
    assert found.threshold == 0 and found.called >= 495


def test_where_all_are_coin_flips_nothing_can_be_called_learnable() -> None:
    choices, _ = drawn(2000, 0, 0)
    found = criterion.calibrated(choices, CONFIG)
    assert found.learnable(choices.base, choices.heldout).mean() < 0.02
    choices, _ = drawn(10, 0, 0)
    found = criterion.calibrated(choices, CONFIG)
    assert not np.isfinite(found.threshold) and found.as_json()["threshold"] is None
    assert not found.learnable(np.array([0.3]), np.array([1.0])).any()


def test_positions_at_which_the_base_is_sure_of_a_token_are_not_counted() -> None:
    likely = BaseDistribution(
        np.array([0, 2, 3, 3]),
        np.arange(3, dtype=np.int32),
        np.array([0.95, 0.05, 0.6], dtype=np.float32),
    )
    choices = Choices(np.array([0.05, 0.6, 1e-9]), np.zeros(3), likely, np.zeros(3))
    assert choices.open_positions(0.9).tolist() == [False, True, True]


def test_tokens_have_the_class_that_base_and_runs_say() -> None:
    base = np.array([0.95, 0.3, 0.3, 0.001, 0.001])
    units = UnitEvidence(np.arange(5), base, np.array([0.99, 0.9, 0.32, 0.9, 0.002]))
    found = criterion.classes(units, base, HALF, CONFIG)
    assert found.tolist() == [KNOWN, LEARNABLE, INDECIPHERABLE, LEARNABLE, ARBITRARY]


def test_a_base_above_two_thirds_can_be_gained_on() -> None:
    base = np.array([0.8])  # where a factor of 1.5 could never be reached
    units = UnitEvidence(np.arange(1), base, np.array([0.99]))
    assert criterion.classes(units, base, HALF, CONFIG).tolist() == [LEARNABLE]


def test_of_an_indecipherable_word_only_the_first_unknown_token_is_left_to_the_base() -> None:
    unit_of = np.array([0, 1, 1, 1, 2])
    base = np.array([0.99, 0.95, 0.3, 0.5, 0.3])
    runs = np.array([[0.99], [0.95], [0.3], [0.5], [0.99]])
    units = UnitEvidence.of(unit_of, base, runs)
    np.testing.assert_allclose(units.base, [0.99, 0.95 * 0.3 * 0.5, 0.3])
    found = criterion.classes(units, base, HALF, CONFIG)
    assert found.tolist() == [KNOWN, KNOWN, INDECIPHERABLE, LEARNABLE, LEARNABLE]


def test_controls_have_as_many_tokens_and_none_that_the_base_knows() -> None:
    random = np.random.default_rng(0)
    known = random.random(1000) < 0.6
    entropy = random.random(1000)
    for mask in (random_mask(known, 50, 0), entropy_mask(known, entropy, 50)):
        assert mask.sum() == 50 and not (mask & known).any()
    assert entropy[entropy_mask(known, entropy, 50)].min() >= np.sort(entropy[~known])[-50]
    assert not np.array_equal(random_mask(known, 50, 0), random_mask(known, 50, 1))
