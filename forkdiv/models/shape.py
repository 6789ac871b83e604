"""Sizes of a model, read from its config.json: architectures name them differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONTEXT_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
)


def context_length(config: Mapping[str, Any]) -> int | None:
    """Returns the longest sequence of the model in tokens; None if the config does not say."""
    for name in CONTEXT_NAMES:
        value = _field(config, name)
        if isinstance(value, int) and value > 0:
            return value
    return None


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """Returns the number of token ids of the model; None if the config does not say."""
    value = _field(config, "vocab_size")
    return value if isinstance(value, int) and value > 0 else None


def layer_count(config: Mapping[str, Any]) -> int | None:
    """Returns the number of layers of the model; None if the config does not say."""
    values = (_field(config, name) for name in ("num_hidden_layers", "n_layer", "num_layers"))
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _field(config: Mapping[str, Any], name: str) -> Any:
    """Returns a field of the language model; multimodal models have it in a config of its own."""
    if config.get(name) is not None:
        return config[name]
    text = config.get("text_config")
    return text.get(name) if isinstance(text, Mapping) else None
