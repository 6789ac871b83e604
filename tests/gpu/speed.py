"""Tokens a second of a training worker beside a bare PyTorch loop, and what share of the GPU's
matrix rate that is.

The model's arithmetic is that of PaLM's appendix B (arXiv 2204.02311): 6 operations per parameter
and token, and 12 · layers · width · length for attention; a tied embedding counts once, as the
output layer. Padding and recomputed activations do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.data.tokenized import Row
from forkdiv.train.collate import collate
from forkdiv.train.losses.response import IGNORED
from forkdiv.train.packing import forward_passes
from tests.gpu.rows import (
    DEVICE,
    GPU,
    KIND,
    QWEN_05,
    QWEN_15,
    Rows,
    architecture,
    arguments,
    free,
    join_process_group,
    mixed_rows,
    random_model,
    synchronize,
    worker,
)

BATCH, LONGEST = (64, 2048) if GPU else (8, 64)
PACK, MICRO = (4096, 4) if GPU else (128, 2)
STEPS, WARM_UP = (4, 2) if GPU else (1, 1)
PACKED = {"pack_tokens": PACK, "micro_batch": MICRO}
PADDED = {"micro_batch": MICRO * 2}
# of the bare loop; and, of those of the worker, the one that each is measured against
BARE = {
    "padded": PADDED,
    "packed": PACKED,
    "packed, checkpointing": PACKED | {"activation_checkpointing": True},
}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "padded": ("padded", PADDED),
    "padded, stage 0": ("padded", PADDED | {"zero_stage": 0}),
    "packed, mask": ("packed", PACKED | {"packed_attention": "mask"}),
    "packed": ("packed", PACKED),
    "packed, stage 0": ("packed", PACKED | {"zero_stage": 0}),
    "packed, logits at once": ("packed", PACKED | {"logits_gib": 100}),
    "packed, one pass": ("packed", PACKED | {"micro_batch": 64}),
    "packed, checkpointing": ("packed, checkpointing", BARE["packed, checkpointing"]),
    "packed, LoRA": ("packed", PACKED | {"lora": 16}),
}


def main() -> None:
    _, add = arguments()
    join_process_group()
    rate = _matrix_rate() if GPU else 0.0
    if GPU:
        device = torch.cuda.get_device_properties(0)
        note = f"{device.name}, {device.total_memory / 2**30:.0f} GiB, torch {torch.__version__}"
        add("bfloat16 matrix product", rate / 1e12, "TFLOP/s", note)
    for name, shape in {"0.5B": QWEN_05, "1.5B": QWEN_15}.items():
        rows = mixed_rows(BATCH, architecture(shape)["vocab_size"], LONGEST)
        measured = Measured(add, sum(map(_length, rows)), _operations(shape, rows), rate)
        for way, settings in BARE.items():
            measured(f"{name} bare, {way}", _bare(shape, rows, settings))
        for way, (against, settings) in WAYS.items():
            given = dict(settings)
            lora = {"rank": given.pop("lora", 0)}
            sft = SftConfig.model_validate(
                {"batch_size": BATCH, "dtype": "bfloat16", "learning_rate": 1e-5, "lora": lora}
            )
            place = PlaceConfig.model_validate({"device": KIND, "workers": 1} | given)
            with worker(partial(random_model, shape), rows, sft, place) as run:
                measured(
                    f"{name} forkdiv, {way}",
                    partial(run.step, range(BATCH)),
                    f"{name} bare, {against}",
                )


@dataclass
class Measured:
    """Measures a step of `tokens` tokens and `operations` operations, on a GPU whose matrix rate
    is `rate`."""

    add: Rows
    tokens: int
    operations: float
    rate: float
    found: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, step: Callable[[], Any], against: str | None = None) -> None:
        free()
        seconds = _seconds(step)
        rate = self.found[name] = self.tokens / seconds
        note = f"{rate / self.found[against]:.3f} of the bare loop; " if against else ""
        if GPU:
            memory = torch.cuda.max_memory_allocated() / 2**30
            share = self.operations / seconds / self.rate
            note += f"{100 * share:.1f} % of the matrix rate, GPU busy {_busy(step):.2f}, "
            note += f"{memory:.1f} GiB"
        self.add(name, rate, "tokens/s", note)


def _busy(step: Callable[[], Any]) -> float:
    """The share of a step in which the GPU computes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        step()
        synchronize()
        seconds = time.perf_counter() - started
    busy = sum(event.self_device_time_total for event in profiler.key_averages())
    return float(busy) / 1e6 / seconds


def _length(row: Row) -> int:
    return len(row[0]) + len(row[1])


def _matrix_rate() -> float:
    """Operations a second of a large product in bfloat16."""
    size, rounds = 8192, 20
    a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        torch.mm(a, b)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(rounds):
        torch.mm(a, b)
    torch.cuda.synchronize()
    return rounds * 2 * size**3 / (time.perf_counter() - started)


def _seconds(step: Callable[[], Any]) -> float:
    """Seconds of one step, after a warm-up."""
    for _ in range(WARM_UP):
        step()
    synchronize()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    synchronize()
    return (time.perf_counter() - started) / STEPS


def _operations(shape: dict[str, Any], rows: list[Row]) -> float:
    """Operations of a step on `rows`."""
    model = random_model(shape)
    parameters = sum(p.numel() for p in model.parameters())
    if not model.config.tie_word_embeddings:
        parameters -= model.get_input_embeddings().weight.numel()
    lengths = [_length(row) for row in rows]
    attention = 12 * model.config.num_hidden_layers * model.config.hidden_size
    total: float = 6 * parameters * sum(lengths) + attention * sum(n * n for n in lengths)
    return total


def _bare(shape: dict[str, Any], rows: list[Row], settings: dict[str, Any]) -> Callable[[], None]:
    """What people write themselves: weights and AdamW in bfloat16 with no copy in float32, logits
    and loss by the model; the same passes and the same attention."""
    from forkdiv.train import varlen_attention

    model = random_model(shape).train()
    packs = bool(settings.get("pack_tokens")) and GPU
    if packs:
        varlen_attention.use(model)
    if settings.get("activation_checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=0.0, fused=True)
    lengths = [_length(row) for row in rows]
    pack = settings.get("pack_tokens") if packs else None
    passes = [p[0] for p in forward_passes(lengths, 1, settings["micro_batch"], pack)]
    total = sum(len(response) for _, response in rows)

    def step() -> None:
        for packed in passes:
            batch = collate(rows, packed, packs).to(DEVICE)
            logits = model(**batch.inputs, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(),
                batch.targets.flatten(),
                reduction="sum",
                ignore_index=IGNORED,
            )
            (loss / total).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
