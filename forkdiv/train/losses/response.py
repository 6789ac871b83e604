"""The loss of one forward pass: its response tokens picked out, and handed to the chosen loss."""

from __future__ import annotations

from torch import Tensor

from forkdiv.core.config.sft import LOSSES, SftConfig
from forkdiv.train.losses.base import Loss, ResponseTokens

IGNORED = -100  # a target that is no response token


def response_loss(
    logits: Tensor, targets: Tensor, first: Tensor, config: SftConfig, step_ends: Tensor
) -> Tensor:
    """The loss summed over the response tokens, a float32 scalar.

    `logits` (rows, width, vocabulary) predict `targets` (rows, width), which are IGNORED outside
    responses; `first` (rows, width) is True at a response's first token; `step_ends` (any number)
    are the ids of tokens that end a line, read by losses over steps only.
    """
    kept = targets != IGNORED
    loss: Loss = LOSSES.get(config.loss)(config)
    return loss(ResponseTokens(logits[kept].float(), targets[kept], first[kept], step_ends))
