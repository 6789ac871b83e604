"""Losses of fine-tuning, over response tokens alone, chosen by `sft.loss`.

Each is a sum over the tokens it is given; the caller divides by the response tokens of the whole
batch. So losses share one scale of learning rate, and DCO with N = 1 is cross-entropy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from forkdiv.core.config.study import SftConfig

IGNORED = -100  # a target that is no response token

# Below this log of N·p, 1 − (1 − p)^N is N·p to the last bit of a double.
TINY = -40.0


def response_loss(
    logits: Tensor, targets: Tensor, first: Tensor, config: SftConfig, step_ends: Tensor
) -> Tensor:
    """The loss summed over the response tokens, a float32 scalar.

    `logits` (rows, width, vocabulary) predict `targets` (rows, width), which are IGNORED outside
    responses; `first` (rows, width) is True at a response's first token; `step_ends` (any number)
    are the ids of tokens that end a line, read by DCO over steps only.
    """
    kept = targets != IGNORED
    z, y = logits[kept].float(), targets[kept]
    if config.loss == "label-smoothing":
        return cross_entropy(z, y, reduction="sum", label_smoothing=config.smoothing)
    if config.loss == "gem":
        return gem(z, y, config.gem_beta)
    if config.loss == "dco":
        which = units(y, first[kept], config.dco_per, step_ends)
        return dco(z, y, which, config.dco_n)
    return cross_entropy(z, y, reduction="sum")


def gem(z: Tensor, y: Tensor, beta: float) -> Tensor:
    """GEM (arXiv 2408.16673): −Σ_v q_v (log p_y − log p_v) with q = softmax(z/β) held still.

    `z` (tokens, vocabulary), `y` (tokens,). Its gradient in z is q − onehot(y): tokens that the
    model already prefers are pushed down no further than a β-sharpened copy of it asks.
    """
    logp = torch.log_softmax(z, dim=-1)
    q = torch.softmax(z.detach() / beta, dim=-1)
    own = logp.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return ((q * logp).sum(-1) - own).sum()


def dco(z: Tensor, y: Tensor, units: Tensor, n: int) -> Tensor:
    """Direct coverage optimisation (arXiv 2502.07154): Σ over units of −log(1 − (1−p)^n).

    p is the probability of a unit: all tokens of `y` (tokens,) with the same entry in `units`
    (tokens,), which counts from 0. The gradient is F times that of −log p, with
    F = n·p(1−p)^(n−1) / (1 − (1−p)^n): what is likely enough within n tries is left alone.
    """
    steps = torch.log_softmax(z, dim=-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
    count = int(units[-1]) + 1 if len(units) else 0
    s = torch.zeros(count, dtype=torch.float64, device=z.device)
    s = s.index_add(0, units, steps.double())
    with torch.no_grad():
        value, weight = _dco_value(s, n), _dco_weight(s, n)
    # the value of the loss with the gradient of weight·(−s): differentiating the formula itself
    # gives 0·inf where p is 1 or too small for a double
    return (value - weight * (s - s.detach())).sum().float()


def units(y: Tensor, first: Tensor, per: str, step_ends: Tensor) -> Tensor:
    """Which unit each response token belongs to, counted from 0: its response, its line of the
    response, or itself. The token that holds a line's end is the line's last."""
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
