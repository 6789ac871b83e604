"""Drawing tokens by inverting the distribution function."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from forkdiv.sample.token_draws import BLOCK, draw, install, quantile

# sums of these are exact in any order, so that a token's limits are known to the bit
EIGHTHS = st.integers(0, 8).map(lambda number: number / 8)


def generators(*seeds: int) -> dict[int, torch.Generator]:
    return {row: torch.Generator().manual_seed(seed) for row, seed in enumerate(seeds)}


@given(
    st.integers(1, 3 * BLOCK + 1).flatmap(
        lambda size: arrays(np.float32, size, elements=EIGHTHS, fill=st.just(0.0))
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_the_token_is_the_first_at_which_the_sum_exceeds_the_share(
    weights: np.ndarray, share: float
) -> None:
    if not weights.any():
        return
    token = int(quantile(torch.tensor(weights)[None], torch.tensor([[share]], dtype=torch.float64)))
    sums = weights.astype(np.float64).cumsum()
    exceeds = sums > share * sums[-1]
    assert token == int(exceeds.argmax())
    assert weights[token] > 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 1000), st.floats(0.5, 60))
def test_the_last_share_below_1_gives_a_token_of_the_vocabulary_with_some_probability(
    seed: int, vocabulary: int, spread: float
) -> None:
    noise = torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(seed))
    probabilities = (noise * spread).softmax(-1)
    for share in (0.0, 1.0 - 2**-53):
        shares = torch.full((4, 1), share, dtype=torch.float64)
        tokens = quantile(probabilities, shares)
        assert bool((probabilities.gather(1, tokens[:, None]) > 0).all())


def test_the_last_share_below_1_gives_the_last_token_that_is_possible() -> None:
    weights = torch.zeros(1, 4 * BLOCK)
    weights[0, [5, BLOCK + 7]] = torch.tensor([1.0, 2.0])  # the last blocks have none
    almost = torch.full((1, 1), 1 - 2**-53, dtype=torch.float64)
    assert int(quantile(weights, almost)) == BLOCK + 7


def test_tokens_are_drawn_with_their_probabilities() -> None:
    rows, vocabulary = 40_000, 500
    torch.manual_seed(0)
    one = (torch.randn(vocabulary) * 2).softmax(-1)
    one[::7] = 0  # as top-p leaves it
    tokens = draw(one.expand(rows, -1).clone(), {})
    counts = tokens.bincount(minlength=vocabulary).numpy()
    expected = (one.double() / one.double().sum() * rows).numpy()
    often = expected >= 5
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    assert counts[::7].sum() == 0
    assert chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-4


def test_a_row_with_a_seed_draws_the_same_alone_and_among_others() -> None:
    torch.manual_seed(0)
    steps = [(torch.randn(3, 1000) * 3).softmax(-1) for _ in range(20)]
    among = generators(5, 6, 7)
    together = [draw(step, among) for step in steps]
    for row, seed in enumerate((5, 6, 7)):
        alone = generators(seed)
        assert [int(draw(step[[row]], alone)) for step in steps] == [
            int(tokens[row]) for tokens in together
        ]


def test_a_row_without_a_seed_does_not_shift_those_with_one() -> None:
    probabilities = (torch.randn(2, 1000) * 3).softmax(-1)
    mixed = [draw(probabilities, {1: generators(9)[0]}) for _ in range(50)]
    assert len({int(tokens[1]) for tokens in mixed}) == 1
    assert len({int(tokens[0]) for tokens in mixed}) > 1


@pytest.mark.parametrize("vocabulary", [1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_a_vocabulary_need_not_be_a_multiple_of_the_block(vocabulary: int) -> None:
    last = torch.zeros(1, vocabulary)
    last[0, -1] = 0.5
    assert int(draw(last, generators(1))) == vocabulary - 1


def test_probabilities_that_are_not_numbers_give_a_token_of_the_vocabulary() -> None:
    """The check of the log-probabilities reports them; the engine must not end before."""
    tokens = draw(torch.full((2, 300), torch.nan), generators(1, 2))
    assert bool(((tokens >= 0) & (tokens < 300)).all())


@pytest.mark.parametrize("is_cpu", [True, False])
def test_vllms_sampler_is_replaced_on_a_cpu_only(
    is_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = SimpleNamespace(is_cpu=lambda: is_cpu)
    platforms = SimpleNamespace(current_platform=platform)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    replaced = SimpleNamespace(forward="vLLM's own")
    install(SimpleNamespace(topk_topp_sampler=replaced))
    assert (replaced.forward == "vLLM's own") == (not is_cpu)
