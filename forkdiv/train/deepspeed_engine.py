"""Makes the DeepSpeed engine of a training run: its config, and the model that it trains."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.core.errors import refuse
from forkdiv.models import lora


def new_engine(start: Path, config: SftConfig, place: PlaceConfig, world: int) -> Any:
    """Returns a DeepSpeed engine with the weights of the checkpoint `start`."""
    import torch

    from forkdiv.models.loading import load_model
    from forkdiv.train.loss_forward import end_in_loss
    from forkdiv.train.partitioned import load_partitioned

    with _hidden_module("mlflow"):
        import deepspeed
    # DeepSpeed's Muon optimizer, which is not used, would import torch's compiler: two seconds
    os.environ["TORCHDYNAMO_DISABLE"] = "1"

    # On CPU, DeepSpeed would compile its shared-memory op at every start without using it, and a
    # build that is killed leaves a lock on which the next build waits for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    torch.manual_seed(config.seed)
    settings = deepspeed_config(config, place, world)
    dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    stage3 = place.zero_stage == 3
    model: Any = load_partitioned(start, dtype, settings) if stage3 else load_model(start, dtype)
    if place.pack_tokens:
        separate_packed(model, config, place)
    end_in_loss(model)
    if config.lora.rank:
        model = lora.add_adapters(model, config.lora)
        # adapters are in float32, which DeepSpeed converts only if it partitions the whole model
        for weight in model.parameters() if stage3 else ():
            if weight.requires_grad:
                weight.data = weight.data.to(dtype)
    if place.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=[weight for weight in model.parameters() if weight.requires_grad],
        config=settings,
    )
    return engine


@contextmanager
def _hidden_module(name: str) -> Iterator[None]:
    """Hides the module `name` from imports. DeepSpeed's autotuner, which is not used here, imports
    mlflow where it is installed, which takes seconds at the start of every worker."""
    loaded = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(name)
        if loaded is not None:
            sys.modules[name] = loaded


def deepspeed_config(config: SftConfig, place: PlaceConfig, world: int) -> dict[str, Any]:
    """Returns DeepSpeed's config. It does not say how a batch is split into forward passes:
    `Worker.step` splits it and sets the gradient accumulation boundary itself."""
    zero: dict[str, Any] = {
        "stage": place.zero_stage,
        # avoids fragmented GPU memory; on CPU it would allocate gigabytes at every step
        "contiguous_gradients": place.device == "gpu",
    }
    if place.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if place.offload == "parameters":
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": config.batch_size // world,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.grad_clip,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": config.learning_rate,
                "weight_decay": config.weight_decay,
                "torch_adam": True,  # DeepSpeed's Adam would have to be compiled
                "fused": True,  # one pass over the weights, in a quarter of the time
            },
        },
        "zero_force_ds_cpu_optimizer": False,  # with offload, it would also have to be compiled
        "bf16": {"enabled": config.dtype == "bfloat16"},
        "zero_optimization": zero,
        "steps_per_print": 2**31 - 1,
    }


def separate_packed(model: Any, config: SftConfig, place: PlaceConfig) -> None:
    """Prepares the model's attention for packed examples. Raises UserError for a model in which
    they would attend to each other."""
    from forkdiv.train import varlen_attention

    against = varlen_attention.reason_against(model.config, config.dtype)
    if place.device != "gpu":
        against = "the kernel needs place.device=gpu"
    if place.packed_attention == "varlen" and against:
        raise refuse(
            "place.packed_attention=varlen cannot be used",
            against,
            "auto, mask",
            "remove place.packed_attention",
        )
    if place.packed_attention != "mask" and not against:
        varlen_attention.use(model)
        return
    kinds = sorted(set(getattr(model.config, "layer_types", None) or ["full_attention"]))
    if model.config._attn_implementation != "sdpa" or kinds != ["full_attention"]:
        raise refuse(
            "this model cannot separate packed examples with an attention mask",
            f"attention {model.config._attn_implementation}, layer types {', '.join(kinds)}",
            "attention sdpa, and full_attention in every layer",
            "remove place.pack_tokens",
        )
