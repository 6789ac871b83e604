"""Fork-aware fine-tuning: cross-entropy where the label can be learned, the base elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from forkdiv.core.errors import refuse
from forkdiv.train.losses.base import Loss, ResponseTokens

# Probability below which the base's tokens that are not listed count as none: the rounding of
# float32 probabilities that add up to 1.
NO_REST = 1e-5
HIDDEN = -1e30  # in place of -inf, whose softmax is undefined if all tokens are listed


class ForkAware(Loss):
    """`fork_aware` with the weights and the base's distribution of a learnability table."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        base = tokens.base
        if base is None:
            raise refuse(
                "sft.loss=fork-aware needs a learnability table",
                "a training run without one",
                "the fine-tuning data of a study, for which the table is computed",
                "choose another loss for this run",
            )
        return tokens.per_token(fork_aware, base.label, base.base, base.ids, base.p).sum()


def fork_aware(
    z: Tensor, y: Tensor, label: Tensor, weight: Tensor, ids: Tensor, p: Tensor
) -> Tensor:
    """The loss of each token: label · (−log q_y) + weight · KL(base ‖ q), with q = softmax(z).

    `z` (tokens, vocabulary), `y`, `label`, `weight` (tokens,); `ids` and `p` (tokens, entries) are
    the base's likely tokens and their probabilities. The tokens that are not listed count as one,
    r = 1 − Σ p: KL = Σ p log(p / q) + r log(r / (1 − Σ q)), which is the KL of the listed tokens
    and the rest as one outcome, and at most the KL over the vocabulary. Its gradient in z is q − p
    at listed tokens, and q·(1 − r / (1 − Σ q)) at the others.

    Training towards the base's own distribution is the usual penalty of RLHF (arXiv 1909.08593)
    and learning without forgetting (arXiv 1606.09282), here per token. With label = λ and weight =
    1 − λ it is, up to a constant, cross-entropy with the target (1 − λ)·base + λ·onehot(y).
    """
    log_sum = torch.logsumexp(z, dim=-1)
    cross_entropy = log_sum - z.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    log_q = z.gather(-1, ids) - log_sum.unsqueeze(-1)
    rest = 1 - p.sum(-1)
    rest = torch.where(rest < NO_REST, 0.0, rest)
    log_q_rest = torch.logsumexp(z.scatter(-1, ids, HIDDEN), dim=-1) - log_sum
    kl = (torch.xlogy(p, p) - p * log_q).sum(-1) + torch.xlogy(rest, rest) - rest * log_q_rest
    return label * cross_entropy + weight * kl
