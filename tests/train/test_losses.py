"""Losses: each against its formula in double precision, and by the identity of its gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from forkdiv.core.config.study import SftConfig
from forkdiv.models.loading import word_tokenizer
from forkdiv.models.prompting import line_end_ids
from forkdiv.train.losses.dco import dco as dco_of_logprobs
from forkdiv.train.losses.dco import units
from forkdiv.train.losses.gem import gem as gem_per_token
from forkdiv.train.losses.response import IGNORED
from tests.train.logits import WITHOUT_TABLE, loss_of_logits

NO_ENDS = torch.tensor([], dtype=torch.long)
VOCABULARY = 11


def drawn(seed: int, tokens: int = 6, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    z = scale * torch.randn((tokens, VOCABULARY), generator=random)
    return z, torch.randint(VOCABULARY, (tokens,), generator=random)


def gradient(z: Tensor, loss: Any) -> Tensor:
    z = z.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(z), z)
    return found


def onehot(y: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(y, VOCABULARY).double()


def cross_entropy_by_hand(z: Tensor, y: Tensor) -> Tensor:
    z = z.double()
    return torch.logsumexp(z, -1) - z.gather(-1, y.unsqueeze(-1)).squeeze(-1)


def dco(z: Tensor, y: Tensor, which: Tensor, n: int) -> Tensor:
    own = torch.log_softmax(z, -1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return dco_of_logprobs(own, which, n)


def gem(z: Tensor, y: Tensor, beta: float) -> Tensor:
    return gem_per_token(z, y, beta).sum()


def on_one_response(z: Tensor, y: Tensor, **settings: Any) -> Tensor:
    """The loss of a batch of one row that is a response throughout."""
    first = torch.zeros((1, len(y)), dtype=torch.bool)
    first[0, 0] = True
    config = SftConfig.model_validate(settings)
    return loss_of_logits(z[None], y[None], first, config)


@given(st.integers(0, 999))
def test_cross_entropy_is_the_sum_of_negative_log_probabilities_of_response_tokens(
    seed: int,
) -> None:
    z, y = drawn(seed)
    found = on_one_response(z, y).item()
    assert found == pytest.approx(cross_entropy_by_hand(z, y).sum().item(), rel=1e-5)


@given(st.integers(0, 999), st.floats(0.01, 0.9))
def test_label_smoothing_gives_its_share_to_the_whole_vocabulary(seed: int, share: float) -> None:
    z, y = drawn(seed)
    target = (1 - share) * onehot(y) + share / VOCABULARY
    wanted = -(target * torch.log_softmax(z.double(), -1)).sum().item()
    found = on_one_response(z, y, loss="label-smoothing", smoothing=share).item()
    assert found == pytest.approx(wanted, rel=1e-5)


@given(st.integers(0, 999), st.floats(0.2, 1.5))
def test_gem_is_its_formula(seed: int, beta: float) -> None:
    z, y = drawn(seed)
    q, logp = torch.softmax(z.double() / beta, -1), torch.log_softmax(z.double(), -1)
    own = logp.gather(-1, y.unsqueeze(-1))
    wanted = -(q * (own - logp)).sum().item()
    found = on_one_response(z, y, loss="gem", gem_beta=beta).item()
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@given(st.integers(0, 999), st.floats(0.2, 1.5))
def test_gems_gradient_is_q_minus_the_one_hot_target(seed: int, beta: float) -> None:
    z, y = drawn(seed)
    wanted = torch.softmax(z.double() / beta, -1) - onehot(y)
    found = gradient(z, lambda z: gem(z, y, beta))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-6)


def test_gem_at_beta_one_has_the_gradient_of_cross_entropy() -> None:
    z, y = drawn(3)
    found = gradient(z, lambda z: gem(z, y, 1.0))
    wanted = gradient(z, lambda z: cross_entropy_by_hand(z, y).sum().float())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@given(st.integers(0, 999), st.sampled_from([1, 2, 16, 1000]), st.floats(0.1, 8))
def test_dco_is_its_formula_where_a_double_can_hold_it(seed: int, n: int, scale: float) -> None:
    z, y = drawn(seed, scale=scale)
    which = torch.tensor([0, 0, 1, 2, 2, 2])
    s = torch.zeros(3, dtype=torch.float64).index_add(0, which, -cross_entropy_by_hand(z, y))
    wanted = -torch.log(-torch.expm1(n * torch.log1p(-torch.exp(s)))).sum().item()
    if math.isfinite(wanted):
        assert dco(z, y, which, n).item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@given(st.integers(0, 999), st.sampled_from([1, 2, 16, 1000]))
def test_dcos_gradient_is_f_times_cross_entropys(seed: int, n: int) -> None:
    z, y = drawn(seed, tokens=4, scale=1.5)
    which = torch.tensor([0, 0, 1, 1])
    p = torch.zeros(2, dtype=torch.float64).index_add(0, which, -cross_entropy_by_hand(z, y)).exp()
    f = n * p * (1 - p) ** (n - 1) / -torch.expm1(n * torch.log1p(-p))
    plain = gradient(z, lambda z: cross_entropy_by_hand(z, y).sum().float())
    wanted = f[which].unsqueeze(-1) * plain.double()
    found = gradient(z, lambda z: dco(z, y, which, n))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-6)


def test_dco_with_one_try_is_cross_entropy() -> None:
    z, y = drawn(5)
    for per in ("response", "step", "token"):
        found = on_one_response(z, y, loss="dco", dco_n=1, dco_per=per).item()
        assert found == pytest.approx(on_one_response(z, y).item(), rel=1e-6)


@pytest.mark.parametrize("n", [1, 2, 64, 10**6])
def test_dco_is_finite_for_probabilities_near_0_and_1(n: int) -> None:
    for height, tokens in ((200.0, 3), (-200.0, 3), (-2000.0, 500), (0.0, 500)):
        z = torch.zeros((tokens, VOCABULARY))
        z[:, 0] = height
        y, which = torch.zeros(tokens, dtype=torch.long), torch.zeros(tokens, dtype=torch.long)
        loss = dco(z, y, which, n).item()
        grad = gradient(z, lambda z, y=y, which=which: dco(z, y, which, n))
        assert math.isfinite(loss) and grad.isfinite().all()
        surprise = cross_entropy_by_hand(z, y).sum().item()
        if surprise > 100:  # hopeless: −log(n·p), and F is 1
            assert loss == pytest.approx(surprise - math.log(n), rel=1e-6)
            plain = gradient(z, lambda z, y=y: cross_entropy_by_hand(z, y).sum().float())
            torch.testing.assert_close(grad, plain)
        else:
            assert loss == pytest.approx(0, abs=1e-6)
            assert grad.abs().max() < 1e-6


def test_dcos_gradient_is_small_for_responses_that_are_likely_within_n_samples() -> None:
    """With half the mass on a response, 16 tries nearly always find it: F is 16/65535."""
    z = torch.zeros((1, 2))
    y = which = torch.zeros(1, dtype=torch.long)
    grad = gradient(z, lambda z: dco(z, y, which, 16))
    assert grad[0, 1].item() == pytest.approx(0.5 * 16 / (2**16 - 1), rel=1e-5)


def test_units_are_responses_lines_or_tokens() -> None:
    y = torch.tensor([5, 9, 6, 7, 9, 8])
    first = torch.tensor([True, False, False, True, False, False])
    ends = torch.tensor([9])
    assert units(y, first, "response", ends).tolist() == [0, 0, 0, 1, 1, 1]
    assert units(y, first, "step", ends).tolist() == [0, 0, 1, 2, 2, 3]
    assert units(y, first, "step", NO_ENDS).tolist() == [0, 0, 0, 1, 1, 1]
    assert units(y, first, "token", ends).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("loss", WITHOUT_TABLE)
def test_losses_ignore_tokens_outside_the_response(loss: str) -> None:
    z, y = drawn(1, tokens=8)
    z, y = z.reshape(2, 4, VOCABULARY), y.reshape(2, 4)
    first = torch.zeros((2, 4), dtype=torch.bool)
    y[0, :2] = y[1, 3:] = IGNORED
    first[0, 2] = first[1, 0] = True
    config = SftConfig.model_validate({"loss": loss})

    def of(z: Tensor) -> Tensor:
        return loss_of_logits(z, y, first, config)

    grad = gradient(z, of)
    assert not grad[y == IGNORED].any()
    assert grad[y != IGNORED].abs().amax(-1).min() > 0
    other = z.clone()
    other[y == IGNORED] = 50.0
    assert of(other).item() == of(z).item()


@pytest.mark.parametrize("loss", WITHOUT_TABLE)
def test_a_loss_in_half_precision_is_summed_in_single(loss: str) -> None:
    z, y = drawn(2, tokens=400)
    z = z.bfloat16()
    half, single = (on_one_response(one, y, loss=loss) for one in (z, z.float()))
    assert half.dtype == torch.float32
    assert half.item() == single.item()


def test_a_line_end_is_detected_inside_any_token() -> None:
    class Spelling:
        def decode(self, ids: list[int]) -> str:
            return {1: "a", 2: ".\n\n", 3: "\n", 4: "\n"}[ids[0]]

    rows = [([4], [1, 2]), ([1], [3, 1])]
    assert line_end_ids(Spelling(), rows) == [2, 3]
    words = word_tokenizer(["a", "b"], "<eos>")
    assert line_end_ids(words, [([3], [3, 4, 1])]) == []
