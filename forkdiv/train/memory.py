"""What a fine-tuning run takes: its model's shapes, its steps, its memory. Nothing is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.core.errors import refuse
from forkdiv.models.checkpoint import read_config

GIB = 2**30
OVERHEAD_GIB = 1.5  # what the driver, the collectives' buffers and the allocator's gaps take


@dataclass(frozen=True)
class Shape:
    """A model's size: parameters in all, those that are trained, and the largest that ZeRO-3
    gathers at once (a layer or an embedding)."""

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
    """Estimates in GiB for one worker: what its GPU holds by kind, and its share of the host."""

    gpu: dict[str, float]
    host: float

    @property
    def total(self) -> float:
        return sum(self.gpu.values())


def read_architecture(path: Path) -> dict[str, Any]:
    """A config.json, or that of a folder. Raises UserError where there is none."""
    if path.is_dir():
        return read_config(path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or "model_type" not in config:
            raise ValueError("no model_type")
    except (OSError, ValueError) as error:
        raise refuse(
            "plan.architecture cannot be read",
            f"{path} ({error})",
            "a config.json written by transformers, or a folder that contains one",
            "set plan.architecture",
        ) from error
    return config


def shape(architecture: dict[str, Any], sft: SftConfig) -> Shape:
    """The shapes of the model, built on the meta device: they take no memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = architecture["model_type"]
    config = AutoConfig.for_model(
        kind, **{k: v for k, v in architecture.items() if k != "model_type"}
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    total = sum(one.numel() for one in model.parameters())
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
        feed_forward=config.intermediate_size,
        key_value=width * (getattr(config, "num_key_value_heads", None) or heads),
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
    )


def estimate(shape: Shape, sft: SftConfig, place: PlaceConfig, tokens: int) -> Memory:
    """An estimate for examples of `tokens` tokens, meant to be a little high.

    Per parameter: its value and its gradient in the run's precision, and in float32 a copy of
    its own, which ZeRO keeps, with Adam's two moments. Stage 1 spreads the last three over the
    workers, stage 2 gradients too, stage 3 values too, of which it gathers a few at a time.
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
    lines = min(place.micro_batch or sft.batch_size, -(-sft.batch_size // world))
    if place.pack_tokens:
        lines = place.micro_batch or -(-sft.batch_size // world * tokens // place.pack_tokens)
    read = lines * max(place.pack_tokens or 0, tokens)
    gpu = {
        "weights": values,
        "gradients": gradients,
        "optimizer": optimizer,
        "gathered weights": 3 * shape.largest * size if stage == 3 else 0.0,
        "activations": read * _activations(shape, place) * size,
        # as the model gives them, and in float32 with the loss's own copy and their gradient
        "logits": read * shape.vocabulary * (2 * size + 12),
        "overhead": OVERHEAD_GIB * GIB,
    }
    return Memory({name: value / GIB for name, value in gpu.items()}, host / GIB)


def _activations(shape: Shape, place: PlaceConfig) -> float:
    """Values kept for the backward pass, per token: norms, attention's parts, a gated layer."""
    layer = 9 * shape.hidden + 2 * shape.key_value + 4 * shape.feed_forward
    if place.activation_checkpointing:
        return shape.layers * shape.hidden + layer
    return shape.layers * layer


def _adapters(model: Any, sft: SftConfig) -> int:
    """Parameters of LoRA's adapters: rank times the sides of every layer that gets one."""
    output = model.get_output_embeddings()
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    }
    wanted = sft.lora.targets
    chosen = [
        module
        for name, module in layers.items()
        if not wanted or name.rpartition(".")[2] in wanted or name in wanted
    ]
    if not chosen:
        names = sorted({name.rpartition(".")[2] for name in layers})
        raise refuse(
            "sft.lora.targets matches no layer of this model",
            ", ".join(wanted),
            ", ".join(names),
            "correct sft.lora.targets",
        )
    return sum(sft.lora.rank * (one.in_features + one.out_features) for one in chosen)
