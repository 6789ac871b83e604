"""Low-rank adapters (LoRA): adding them with peft, and merging them into the weights."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from forkdiv.core.config.study import LoraConfig

# prefixes and infixes that peft adds to parameter names
PREFIX, BASE, A, B = "base_model.model.", ".base_layer.", ".lora_A.default.", ".lora_B.default."


def add_adapters(model: Any, config: LoraConfig) -> Any:
    """Returns the model with trainable adapters and frozen weights; by default every linear layer
    except the output layer gets an adapter."""
    import peft

    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=config.rank,
            lora_alpha=config.alpha,
            target_modules=list(config.targets) or "all-linear",
        ),
    )


def merge_adapters(state: MutableMapping[str, Any], config: LoraConfig) -> dict[str, Any]:
    """Returns the merged weights W + alpha/rank · B·A under the names of the plain model.

    Sums are computed in float32 and stored in the dtype of W. `state` maps the names of all
    tensors of the adapted model to the tensors. It is emptied on the way: two copies of a large
    model may not fit into memory."""
    adapters = {name: state.pop(name) for name in list(state) if A in name or B in name}
    out = {}
    for name in list(state):
        tensor = state.pop(name)
        if BASE in name and name.endswith("weight"):
            layer = name.partition(BASE)[0]
            a, b = (adapters[f"{layer}{part}weight"].float() for part in (A, B))
            tensor = (tensor.float() + config.alpha / config.rank * (b @ a)).to(tensor.dtype)
        out[name.removeprefix(PREFIX).replace(BASE, ".")] = tensor
    return out
