"""The interface of a loss."""

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

    `logits` (tokens, vocabulary), float32; `targets` (tokens,), the token ids to predict;
    `first` (tokens,), True at the first token of a response; `step_ends` (any length), the ids
    of tokens that end a line.
    """

    logits: Tensor
    targets: Tensor
    first: Tensor
    step_ends: Tensor


class Loss(ABC):
    """A loss summed over tokens. The caller divides it by the number of response tokens in the
    whole batch, so that learning rates are comparable between losses.

    `options` is the class of the settings in `sft.loss_options`, or None. A loss with options
    imports torch inside functions, because options are checked before torch is imported.
    """

    options: ClassVar[type[Frozen] | None] = None

    def __init__(self, config: SftConfig) -> None:
        self.config = config

    @abstractmethod
    def __call__(self, tokens: ResponseTokens) -> Tensor:
        """Returns the loss summed over the tokens, a float32 scalar."""
