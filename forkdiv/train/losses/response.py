"""Selects the response tokens of a forward pass and computes the loss on them."""

from __future__ import annotations

from torch import Tensor

from forkdiv.core.config.sft import LOSSES, SftConfig
from forkdiv.train.loss_forward import Head
from forkdiv.train.losses.base import BaseTargets, Loss, ResponseTokens

IGNORED = -100  # target of positions that predict no response token


def response_loss(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    first: Tensor,
    config: SftConfig,
    step_ends: Tensor,
    parts: int = 1,
    base: BaseTargets | None = None,
) -> Tensor:
    """Returns the loss summed over the response tokens, a float32 scalar.

    The logits that `head` computes from `hidden` (rows, width, ...) predict `targets` (rows,
    width), which are IGNORED outside responses; `first` (rows, width) is True at the first token
    of a response; `step_ends` (any length) are the ids of tokens that end a line, which only
    losses over steps read. `parts`: in how many parts the logits are computed. `base`: the targets
    of the response tokens, row by row, for losses that read a learnability table.
    """
    chosen = targets != IGNORED
    loss: Loss = LOSSES.get(config.loss)(config)
    return loss(
        ResponseTokens(hidden[chosen], head, targets[chosen], first[chosen], step_ends, parts, base)
    )
