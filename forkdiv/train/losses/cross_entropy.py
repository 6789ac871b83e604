"""Cross-entropy, plain and with label smoothing."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from forkdiv.train.losses.base import Loss, ResponseTokens


class CrossEntropy(Loss):
    """−log p of every token."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        return cross_entropy(tokens.logits, tokens.targets, reduction="sum")


class LabelSmoothing(Loss):
    """Cross-entropy against the label, of which `sft.smoothing` is spread over the vocabulary."""

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        smoothing = self.config.smoothing
        return cross_entropy(
            tokens.logits, tokens.targets, reduction="sum", label_smoothing=smoothing
        )
