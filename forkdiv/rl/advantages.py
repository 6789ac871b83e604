"""Advantages of the responses of groups, from their rewards.

A group is the G responses to one prompt. TRL computes the ordinary advantage of GRPO itself: the
reward minus the mean of the group, divided by its standard deviation.

`pass_at_k` is that of arXiv 2508.10751 (Pass@k Training, section 2.4): the reward is that of a set
of k responses, 1 if one of them is right, and all sets of k of the group's G responses are
compared. With N wrong responses, the mean over the sets is R = 1 − C(N, k) / C(G, k) and the
standard deviation is σ = √(R (1 − R)). The advantage of a response is the mean over the sets that
contain it of (reward of the set − R) / σ:

    right:  (1 − R) / σ
    wrong:  (1 − R − C(N − 1, k − 1) / C(G − 1, k − 1)) / σ

A right response gets less, the more of the others are right, so that solved prompts stop pulling
the model towards their most likely solution. k = 1 is the ordinary advantage with the standard
deviation of the population.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def pass_at_k(rewards: Floats, k: int) -> Floats:
    """Returns the advantages of the responses of one group, of the shape (G,) of their rewards.

    All are 0 where all sets of k responses have the same reward. Raises ValueError for rewards
    that are not 0 or 1, and for a k outside 1 to G.
    """
    size = len(rewards)
    if not 1 <= k <= size:
        raise ValueError(f"k={k} does not fit a group of {size} responses")
    right = rewards == 1
    if not np.all(right | (rewards == 0)):
        raise ValueError(f"rewards must be 0 or 1, got {rewards.tolist()}")
    wrong = size - int(right.sum())
    fail = comb(wrong, k) / comb(size, k)  # 1 − R
    deviation = np.sqrt(fail * (1 - fail))
    if deviation == 0:
        return np.zeros(size)
    beside = comb(wrong - 1, k - 1) / comb(size - 1, k - 1) if wrong else 0.0
    result: Floats = np.where(right, fail, fail - beside) / deviation
    return result
