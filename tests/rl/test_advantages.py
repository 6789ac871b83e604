"""The advantage of pass@k is that of all sets of k responses, enumerated one by one."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from forkdiv.rl.advantages import Floats, pass_at_k


def enumerated(rewards: Floats, k: int) -> Floats:
    """The definition: the advantage of a response is the mean over the sets that contain it."""
    sets = list(combinations(range(len(rewards)), k))
    of_set = np.array([max(rewards[list(each)]) for each in sets])
    if of_set.std() == 0:
        return np.zeros(len(rewards))
    scaled = (of_set - of_set.mean()) / of_set.std()
    return np.array(
        [np.mean([a for a, each in zip(scaled, sets, strict=True) if i in each])
         for i in range(len(rewards))]
    )  # fmt: skip


@pytest.mark.parametrize("size", [2, 3, 4, 6])
def test_every_group_of_every_size_agrees_with_the_enumeration(size: int) -> None:
    for rewards in product([0.0, 1.0], repeat=size):
        group = np.array(rewards)
        for k in range(1, size + 1):
            np.testing.assert_allclose(
                pass_at_k(group, k), enumerated(group, k), atol=1e-12, err_msg=f"{rewards} {k}"
            )


def test_k_of_1_is_the_advantage_of_grpo() -> None:
    group = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(pass_at_k(group, 1), (group - group.mean()) / group.std())


def test_a_right_response_gets_less_the_more_of_the_others_are_right() -> None:
    ones = [pass_at_k(np.array([1.0] * c + [0.0] * (8 - c)), 4)[0] for c in range(1, 5)]
    assert ones == sorted(ones, reverse=True)
    assert ones[-1] > 0
    # more than 8 − k right: every set has a right one
    assert pass_at_k(np.array([1.0] * 5 + [0.0] * 3), 4).tolist() == [0.0] * 8


@pytest.mark.parametrize(("rewards", "k"), [([1.0, 0.5], 1), ([1.0, 0.0], 3), ([1.0, np.nan], 1)])
def test_other_rewards_and_a_k_outside_the_group_are_refused(rewards: list[float], k: int) -> None:
    with pytest.raises(ValueError, match=r"rewards must be 0 or 1|does not fit"):
        pass_at_k(np.array(rewards), k)
