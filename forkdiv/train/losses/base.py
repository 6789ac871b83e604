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
class BaseTargets:
    """For losses that read a learnability table: the weights of −log p(label) and of
    KL(base ‖ model), each (tokens,), and the base's likely tokens and their probabilities, each
    (tokens, most entries); a missing entry repeats the first token with probability 0."""

    label: Tensor
    base: Tensor
    ids: Tensor
    p: Tensor


@dataclass(frozen=True)
class ResponseTokens:
    """The response tokens of one forward pass.

    `hidden` (tokens, width): the model's last hidden states; `head` computes the logits (tokens,
    vocabulary) from them. `targets` (tokens,): the token ids to predict; `first` (tokens,): True
    at the first token of a response; `step_ends` (any length): the ids of tokens that end a line.
    `parts`: in how many parts the logits are computed. `base` is None without a learnability table.
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]
    targets: Tensor
    first: Tensor
    step_ends: Tensor
    parts: int = 1
    base: BaseTargets | None = None

    @property
    def logits(self) -> Tensor:
        """All logits, float32 (tokens, vocabulary). A loss that can do without should use
        `per_token`: with a vocabulary of 150,000, the logits of a batch take gigabytes."""
        return self.head(self.hidden).float()

    def per_token(self, values: Callable[..., Tensor], *more: Tensor) -> Tensor:
        """Returns `values(logits, targets, *more)`, float32 (tokens,), where each value depends on
        its own token's row of these only; `more` are tensors of shape (tokens, ...). With several
        parts, each part's logits are discarded and computed again in the backward pass."""
        from torch import cat
        from torch.utils.checkpoint import checkpoint

        if self.parts == 1:
            return values(self.logits, self.targets, *more)

        def of(hidden: Tensor, *given: Tensor) -> Tensor:
            return values(self.head(hidden).float(), *given)

        split = [x.tensor_split(self.parts) for x in (self.hidden, self.targets, *more)]
        return cat(
            [
                checkpoint(of, *part, use_reentrant=False, preserve_rng_state=False)
                for part in zip(*split, strict=True)
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
