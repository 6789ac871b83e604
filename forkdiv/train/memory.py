"""Estimates the memory of a fine-tuning run from its model's shapes, without loading weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.files import read_small_text
from forkdiv.models.checkpoint import read_config
from forkdiv.models.shape import context_length
from forkdiv.models.supported import check_layers, check_no_remote_code

GIB = 2**30
# assumed, not measured: what a sleeping engine keeps on its GPU, its context and CUDA graphs
SLEEPING_GIB = 2.0
OVERHEAD_GIB = 1.5  # driver, buffers of collectives, fragmentation of the allocator


@dataclass(frozen=True)
class Shape:
    """The size of a model: all parameters, the trained parameters, and the largest number that
    ZeRO-3 gathers at once (those of a layer or of an embedding)."""

    parameters: int
    trained: int
    largest: int
    layers: int
    hidden: int
    feed_forward: int
    key_value: int  # the width of keys, and of values
    vocabulary: int
    context: int


@dataclass(frozen=True)
class Memory:
    """Estimates in GiB for one worker: its GPU memory by kind, its share of host memory, and the
    host memory that it takes for a while to load the model, and the first worker to save it."""

    gpu: dict[str, float]
    host: float
    loading: float
    saving: float

    @property
    def total(self) -> float:
        return sum(self.gpu.values())


def read_architecture(path: Path) -> dict[str, Any]:
    """Reads a config.json, or the config.json of a folder. Raises UserError if it cannot be
    read."""
    if path.is_dir():
        check_no_remote_code(path)
        return read_config(path)
    text = read_small_text(path, "plan.architecture", 2**24, "set plan.architecture")
    try:
        config = json.loads(text)
        if not isinstance(config, dict) or "model_type" not in config:
            raise ValueError("no model_type")
    except (ValueError, RecursionError) as error:
        raise refuse(
            "plan.architecture cannot be read",
            f"{path} ({error})",
            "a config.json written by transformers, or a folder that contains one",
            "set plan.architecture",
        ) from error
    return config


def shape(architecture: dict[str, Any], sft: SftConfig) -> Shape:
    """Returns the shapes of the model, which is built on the meta device and takes no memory.

    Raises UserError for a config.json from which transformers cannot build a model.
    """
    check_layers("plan.architecture", architecture)
    try:
        return _shape(architecture, sft)
    except UserError:
        raise
    except Exception as error:  # each class of models has checks and errors of its own
        raise refuse(
            "a model cannot be built from this config.json",
            " ".join(f"{type(error).__name__}: {error}".split())[:300],
            "a config.json written by transformers",
            "correct it, or set base or plan.architecture to another model",
        ) from error


def _shape(architecture: dict[str, Any], sft: SftConfig) -> Shape:
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = architecture["model_type"]
    config = AutoConfig.for_model(
        kind, **{k: v for k, v in architecture.items() if k != "model_type"}
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    total = sum(weight.numel() for weight in model.parameters())
    blocks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    sizes = [sum(p.numel() for p in block.parameters()) for stack in blocks for block in stack]
    embedding = model.get_input_embeddings().weight.numel()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        parameters=total,
        trained=_adapters(model, sft) if sft.lora.rank else total,
        largest=max([embedding, *sizes]),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        feed_forward=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        key_value=width * (getattr(config, "num_key_value_heads", None) or heads),
        vocabulary=config.vocab_size,
        context=context_length(architecture) or config.max_position_embeddings,
    )


def estimate(shape: Shape, sft: SftConfig, place: PlaceConfig, tokens: int) -> Memory:
    """Estimates the memory for examples of `tokens` tokens; the estimate is meant to be slightly
    too high.

    Per parameter: its value and its gradient in the run's precision, and in float32 ZeRO's copy
    and Adam's two moments. Stage 1 partitions the last three over the workers, stage 2 also the
    gradients, stage 3 also the values, of which it gathers a few at a time.
    """
    half = sft.dtype == "bfloat16"
    size, world, stage = (2 if half else 4), place.workers, place.zero_stage
    copies = 12 if half or stage else 8
    optimizer = shape.trained * copies / (world if stage >= 1 else 1)
    gradients = shape.trained * size / (world if stage >= 2 else 1)
    values = shape.parameters * size / (world if stage == 3 else 1)
    host = 0.0
    if place.offload != "none":
        host, optimizer = optimizer, 0.0
    if place.offload == "parameters":
        host, values = host + values, 0.0
    rows = min(place.micro_batch or sft.batch_size, -(-sft.batch_size // world))
    if place.pack_tokens:
        rows = place.micro_batch or -(-sft.batch_size // world * tokens // place.pack_tokens)
    in_pass = rows * max(place.pack_tokens or 0, tokens)  # tokens of one forward pass
    # a worker computes the logits of more tokens in parts
    with_logits = min(in_pass, place.logits_gib * GIB / 4 / shape.vocabulary)
    gpu = {
        "weights": values,
        "gradients": gradients,
        "optimizer": optimizer,
        "gathered weights": 3 * shape.largest * size if stage == 3 else 0.0,
        "activations": in_pass * _activations(shape, place) * size,
        # in the run's precision, and in float32 with a copy for the loss and the gradient
        "logits": with_logits * shape.vocabulary * (2 * size + 12),
        "overhead": OVERHEAD_GIB * GIB,
    }
    if place.engine.while_training == "sleep":
        gpu["sleeping engine"] = SLEEPING_GIB * GIB
    return Memory(
        {name: value / GIB for name, value in gpu.items()},
        host=host / GIB,
        # at stage 3 one tensor after another; otherwise a whole copy, unless files in the run's
        # precision are mapped
        loading=(shape.largest if stage == 3 else shape.parameters) * size / GIB,
        saving=shape.parameters * size / GIB,
    )


def _activations(shape: Shape, place: PlaceConfig) -> float:
    """Returns the number of activations per token that are kept for the backward pass: norms,
    attention, and a gated feed-forward layer."""
    layer = 9 * shape.hidden + 2 * shape.key_value + 4 * shape.feed_forward
    if place.activation_checkpointing:
        return shape.layers * shape.hidden + layer
    return shape.layers * layer


def _adapters(model: Any, sft: SftConfig) -> int:
    """Returns the parameters of the LoRA adapters: rank · (inputs + outputs) of each adapted
    layer."""
    output = model.get_output_embeddings()
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    }
    targets = sft.lora.targets
    chosen = [
        module
        for name, module in layers.items()
        if not targets or name.rpartition(".")[2] in targets or name in targets
    ]
    if not chosen:
        names = sorted({name.rpartition(".")[2] for name in layers})
        raise refuse(
            "sft.lora.targets matches no layer of this model",
            ", ".join(targets),
            ", ".join(names),
            "correct sft.lora.targets",
        )
    return sum(sft.lora.rank * (layer.in_features + layer.out_features) for layer in chosen)
