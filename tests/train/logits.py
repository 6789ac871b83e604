"""The loss of given logits, for tests that need no model."""

from __future__ import annotations

import torch
from torch import Tensor

from forkdiv.core.config.sft import SftConfig
from forkdiv.train.losses.registry import LOSSES
from forkdiv.train.losses.response import response_loss

WITHOUT_TABLE = [name for name in LOSSES if name != "fork-aware"]
NO_ENDS = torch.tensor([], dtype=torch.long)


def loss_of_logits(
    logits: Tensor, targets: Tensor, first: Tensor, config: SftConfig, parts: int = 1
) -> Tensor:
    """`response_loss` with the logits (rows, width, vocabulary) in place of hidden states."""
    return response_loss(logits, lambda x: x, targets, first, config, NO_ENDS, parts)
