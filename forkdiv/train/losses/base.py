"""The interface of a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from forkdiv.core.config.base import Frozen
from forkdiv.core.config.sft import SftConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ResponseTokens:
    """The response tokens of one forward pass.

    `hidden` (tokens, width): the model's last hidden states; `head` computes the logits (tokens,
    vocabulary) from them. `targets` (tokens,): the token ids to predict; `first` (tokens,): True
    at the first token of a response; `step_ends` (any length): the ids of tokens that end a line.
    `parts`: in how many parts the logits are computed.
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]
    targets: Tensor
    first: Tensor
    step_ends: Tensor
    parts: int = 1

    @property
    def logits(self) -> Tensor:
        """All logits, float32 (tokens, vocabulary). A loss that can do without should use
        `per_token`: with a vocabulary of 150,000, the logits of a batch take gigabytes."""
        return self.head(self.hidden).float()

    def per_token(self, values: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Returns `values(logits, targets)`, float32 (tokens,), where each value depends on the
        logits of its own token only. With several parts, each part's logits are discarded and
        computed again in the backward pass."""
        from torch import cat
        from torch.utils.checkpoint import checkpoint

        if self.parts == 1:
            return values(self.logits, self.targets)

        def of(hidden: Tensor, targets: Tensor) -> Tensor:
            return values(self.head(hidden).float(), targets)

        hidden, targets = (x.tensor_split(self.parts) for x in (self.hidden, self.targets))
        return cat(
            [
                checkpoint(of, h, y, use_reentrant=False, preserve_rng_state=False)
                for h, y in zip(hidden, targets, strict=True)
            ]
        )


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
