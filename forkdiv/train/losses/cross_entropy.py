"""Cross-entropy, plain and with label smoothing."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from forkdiv.train.losses.base import Loss, ResponseTokens


class CrossEntropy(Loss):
    """The sum of −log p over the tokens."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        return cross_entropy(tokens.logits, tokens.targets, reduction="sum")


class LabelSmoothing(Loss):
    """Cross-entropy with smoothed labels: `sft.smoothing` of the probability is uniform over the
    vocabulary."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        smoothing = self.config.smoothing
        return cross_entropy(
            tokens.logits, tokens.targets, reduction="sum", label_smoothing=smoothing
        )
