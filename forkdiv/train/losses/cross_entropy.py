"""Cross-entropy, plain and with label smoothing."""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.nn.functional import cross_entropy

from forkdiv.train.losses.base import Loss, ResponseTokens


class CrossEntropy(Loss):
    """The sum of −log p over the tokens."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        return tokens.per_token(partial(cross_entropy, reduction="none")).sum()


class LabelSmoothing(Loss):
    """Cross-entropy with smoothed labels: `sft.smoothing` of the probability is uniform over the
    vocabulary."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        smoothed = partial(cross_entropy, reduction="none", label_smoothing=self.config.smoothing)
        return tokens.per_token(smoothed).sum()
