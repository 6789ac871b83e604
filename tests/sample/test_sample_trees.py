"""How a tree's samples are spread: over every branch evenly, those not taken first."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.sample.sample_trees import Branch, entropy, tree_branches

SURE = {7: math.log(0.99), 8: math.log(0.01)}
THREE = {1: math.log(0.5), 2: math.log(0.3), 3: math.log(0.2)}
TWO = {4: math.log(0.5), 5: math.log(0.5)}


def decoder(size: int) -> DecoderConfig:
    return DecoderConfig(tree_samples=size, fork_entropy=0.5, branch_probability=0.1)


def test_entropy_counts_what_is_not_listed_as_one_token() -> None:
    assert entropy(TWO) == pytest.approx(math.log(2))
    listed = {1: math.log(0.5), 2: math.log(0.3)}
    assert entropy(listed) == pytest.approx(entropy(THREE))
    assert entropy({1: 0.0}) == 0


def test_untaken_branches_come_first_ordered_by_rank_and_entropy() -> None:
    found = tree_branches([7, 1, 4], [SURE, THREE, TWO], decoder(7))
    others = [Branch(1, 2), Branch(2, 5), Branch(1, 3)]
    assert found == [*others, Branch(1, 1), Branch(2, 4), Branch(1, 2)]


def test_without_a_fork_samples_start_from_the_prompt() -> None:
    assert tree_branches([7, 7], [SURE, SURE], decoder(4)) == [Branch(0, None)] * 3


def test_a_token_below_branch_probability_is_not_a_branch() -> None:
    rare = {1: math.log(0.85), 2: math.log(0.08), 3: math.log(0.07)}
    assert entropy(rare) > 0.5
    assert tree_branches([1], [rare], decoder(3)) == [Branch(0, None)] * 2


Position = st.sampled_from([SURE, THREE, TWO])


@given(st.lists(Position, min_size=1, max_size=6), st.integers(2, 40), st.data())
def test_numbers_of_samples_per_branch_differ_by_at_most_one(
    likely: list[dict[int, float]], size: int, data: st.DataObject
) -> None:
    probe = [data.draw(st.sampled_from(sorted(here))) for here in likely]
    found = tree_branches(probe, likely, decoder(size))
    assert len(found) == size - 1
    forks = [at for at, here in enumerate(likely) if here is not SURE]
    if not forks:
        return
    every = {Branch(at, token) for at in forks for token in likely[at]}
    times = Counter(found)
    assert set(times) <= every
    if size - 1 >= len(every):
        assert set(times) == every
    dealt = [times[branch] for branch in every]
    assert max(dealt) - min(dealt) <= 1
