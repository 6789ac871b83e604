"""Direct coverage optimisation, DCO (arXiv 2502.07154)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from forkdiv.train.losses.base import Loss, ResponseTokens

# Where log(N·p) is below this value, 1 − (1 − p)^N equals N·p in double precision.
TINY = -40.0


class Dco(Loss):
    """`dco` with N = `sft.dco_n`, over the units of `sft.dco_per`. With N = 1 it is
    cross-entropy."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        which = units(tokens.targets, tokens.first, self.config.dco_per, tokens.step_ends)
        return dco(tokens.per_token(_log_probability), which, self.config.dco_n)


def _log_probability(z: Tensor, y: Tensor) -> Tensor:
    return torch.log_softmax(z, dim=-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)


def dco(logprobs: Tensor, units: Tensor, n: int) -> Tensor:
    """Direct coverage optimisation (arXiv 2502.07154): Σ over units of −log(1 − (1−p)^n).

    p is the probability of a unit: the tokens with the same entry in `units` (tokens,), which
    counts from 0; `logprobs` (tokens,) are the log-probabilities of the target tokens. The
    gradient is F times that of −log p, with F = n·p(1−p)^(n−1) / (1 − (1−p)^n): it vanishes where
    n samples almost surely contain the unit.
    """
    count = int(units[-1]) + 1 if len(units) else 0
    s = torch.zeros(count, dtype=torch.float64, device=logprobs.device)
    s = s.index_add(0, units, logprobs.double())
    with torch.no_grad():
        value, weight = _dco_value(s, n), _dco_weight(s, n)
    # the value of the loss with the gradient of weight·(−s): differentiating the formula itself
    # gives 0·inf where p is 1 or too small for a double
    return (value - weight * (s - s.detach())).sum().float()


def units(y: Tensor, first: Tensor, per: str, step_ends: Tensor) -> Tensor:
    """Returns the unit of each response token, counted from 0. With `per` "token" a unit is one
    token, with "step" one line of a response (the token with the line's end is its last), and
    otherwise a whole response."""
    if per == "token":
        return torch.arange(len(y), device=y.device)
    starts = first.clone()
    if per == "step" and len(y):
        starts[1:] |= torch.isin(y[:-1], step_ends.to(y.device))
    return starts.long().cumsum(0) - 1


def _dco_value(s: Tensor, n: int) -> Tensor:
    log_n = math.log(n)
    return torch.where(s + log_n < TINY, -s - log_n, -_log1mexp(n * _log1mexp(s)))


def _dco_weight(s: Tensor, n: int) -> Tensor:
    if n == 1:
        return torch.ones_like(s)
    log_n, miss = math.log(n), _log1mexp(s)
    log_f = log_n + s + (n - 1) * miss - _log1mexp(n * miss)
    return torch.where(s + log_n < TINY, 1.0, torch.exp(log_f))


def _log1mexp(a: Tensor) -> Tensor:
    """log(1 − e^a) for a ≤ 0 without cancellation; −inf at 0."""
    a = a.clamp(max=0.0)  # a sum of log-probabilities can round to just above 0
    near = a > -math.log(2)
    return torch.where(near, torch.log(-torch.expm1(a)), torch.log1p(-torch.exp(a)))
