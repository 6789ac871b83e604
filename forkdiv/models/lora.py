"""Low-rank adapters (LoRA) by peft, and their sum with the weights they adapt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkdiv.core.config.study import LoraConfig

# how peft names what it wraps
PREFIX, BASE, A, B = "base_model.model.", ".base_layer.", ".lora_A.default.", ".lora_B.default."


def adapted(model: Any, config: LoraConfig) -> Any:
    """The model with adapters that alone are trained; by default in every linear layer but the
    output layer."""
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


def merged(state: Mapping[str, Any], config: LoraConfig) -> dict[str, Any]:
    """Whole weights under the names of the plain model, W + alpha/rank · B·A, summed in float32
    and stored as W was. `state` are all tensors of the adapted model, by name."""
    out = {}
    for name, tensor in state.items():
        if A in name or B in name:
            continue
        if BASE in name and name.endswith("weight"):
            layer = name.partition(BASE)[0]
            a, b = (state[f"{layer}{part}weight"].float() for part in (A, B))
            tensor = (tensor.float() + config.alpha / config.rank * (b @ a)).to(tensor.dtype)
        out[name.removeprefix(PREFIX).replace(BASE, ".")] = tensor
    return out
