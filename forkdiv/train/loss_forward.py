"""A forward pass that ends in a loss on hidden states, so that the logits of a batch need not all
exist at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Head = Callable[[Tensor], Tensor]  # hidden states (tokens, width) -> logits (tokens, vocabulary)
LossOfHidden = Callable[[Tensor, Head], Tensor]


def end_in_loss(model: Any) -> None:
    """Replaces the forward pass of a transformers causal language model with
    `forward(loss, **inputs)`, which returns `loss(hidden, head)`.

    `hidden` (rows, width, ...) are the last hidden states and `head` computes logits from some of
    them. Where the model does not say what its decoder is, `hidden` are the logits themselves, and
    `head` returns what it is given.
    """
    whole, prefix = model.forward, model.base_model_prefix

    def forward(*, loss: LossOfHidden, **inputs: Any) -> Tensor:
        given = {name: value for name, value in inputs.items() if value is not None}
        if prefix not in model._modules:
            return loss(whole(**given, use_cache=False).logits, lambda logits: logits)
        output = model._modules[prefix](**given, use_cache=False)

        def head(hidden: Tensor) -> Tensor:
            return _logits(model, whole, prefix, type(output)(last_hidden_state=hidden[None]))

        return loss(output.last_hidden_state, head)

    model.forward = forward


def _logits(model: Any, whole: Callable[..., Any], prefix: str, output: Any) -> Tensor:
    """Returns the logits (tokens, vocabulary) that the model computes from its decoder's output.

    The model's own forward pass computes them, with `output` in place of the decoder: some models
    scale or cap their logits after the output layer.
    """
    decoder = model._modules[prefix]
    model._modules[prefix] = _Given(output)
    try:
        logits: Tensor = whole(
            input_ids=output.last_hidden_state.new_zeros((1, 1), dtype=torch.long), use_cache=False
        ).logits
    finally:
        model._modules[prefix] = decoder
    return logits[0]


class _Given(torch.nn.Module):
    """A decoder that has already computed its output."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self._output = output

    def forward(self, *_: Any, **__: Any) -> Any:
        return self._output
