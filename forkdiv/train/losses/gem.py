"""GEM (arXiv 2408.16673)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from forkdiv.train.losses.base import Loss, ResponseTokens


class Gem(Loss):
    """`gem` with β = `sft.gem_beta`."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        return tokens.per_token(partial(gem, beta=self.config.gem_beta)).sum()


def gem(z: Tensor, y: Tensor, beta: float) -> Tensor:
    """GEM (arXiv 2408.16673): −Σ_v q_v (log p_y − log p_v) with q = softmax(z/β), not
    differentiated, for each token.

    `z` (tokens, vocabulary), `y` (tokens,). The gradient in z is q − onehot(y).
    """
    logp = torch.log_softmax(z, dim=-1)
    q = torch.softmax(z.detach() / beta, dim=-1)
    target = logp.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return (q * logp).sum(-1) - target
