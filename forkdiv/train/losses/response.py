"""Selects the response tokens of a forward pass and computes the loss on them."""

from __future__ import annotations

from torch import Tensor

from forkdiv.core.config.sft import LOSSES, SftConfig
from forkdiv.train.losses.base import Loss, ResponseTokens

IGNORED = -100  # target of positions that predict no response token


def response_loss(
    logits: Tensor, targets: Tensor, first: Tensor, config: SftConfig, step_ends: Tensor
) -> Tensor:
    """Returns the loss summed over the response tokens, a float32 scalar.

    `logits` (rows, width, vocabulary) predict `targets` (rows, width), which are IGNORED outside
    responses; `first` (rows, width) is True at the first token of a response; `step_ends` (any
    length) are the ids of tokens that end a line, which only losses over steps read.
    """
    in_response = targets != IGNORED
    loss: Loss = LOSSES.get(config.loss)(config)
    return loss(
        ResponseTokens(
            logits[in_response].float(), targets[in_response], first[in_response], step_ends
        )
    )
