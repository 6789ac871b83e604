"""What a loss is given, and what it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from forkdiv.core.config.base import Frozen
from forkdiv.core.config.sft import SftConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ResponseTokens:
    """The response tokens of one forward pass.

    `logits` (tokens, vocabulary), float32; `targets` (tokens,), the ids that they predict;
    `first` (tokens,), True at a response's first token; `step_ends` (any number), the ids of
    tokens that end a line.
    """

    logits: Tensor
    targets: Tensor
    first: Tensor
    step_ends: Tensor


class Loss(ABC):
    """A sum over the tokens it is given; the caller divides by the response tokens of the whole
    batch, so that losses share one scale of learning rate.

    `options` is the class of the settings in `sft.loss_options`, where the loss has any. Its file
    imports torch inside functions where it has: options are checked before torch is wanted.
    """

    options: ClassVar[type[Frozen] | None] = None

    def __init__(self, config: SftConfig) -> None:
        self.config = config

    @abstractmethod
    def __call__(self, tokens: ResponseTokens) -> Tensor:
        """The loss summed over the tokens, a float32 scalar."""
