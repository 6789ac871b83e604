"""Tokens a second of a training worker beside a bare PyTorch loop, and what share of the GPU's
matrix rate that is.

The model's arithmetic is that of PaLM's appendix B (arXiv 2204.02311): 6 operations per parameter
and token, and 12 · layers · width · length for attention; a tied embedding counts once, as the
output layer. Padding and recomputed activations do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
WAYS: dict[str, dict[str, Any]] = {
    "padded": {"micro_batch": MICRO * 2},
    "packed, mask": PACKED | {"packed_attention": "mask"},
    "packed, varlen": PACKED,
    "packed, varlen, logits at once": PACKED | {"logits_gib": 100},
    "packed, varlen, checkpointing": PACKED | {"activation_checkpointing": True},
    "LoRA, packed, varlen": PACKED | {"lora": 16},
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
        tokens = sum(len(prompt) + len(response) for prompt, response in rows)
        operations = _operations(shape, rows)
        for way in ("padded", "packed, varlen", "packed, varlen, checkpointing"):
            bare = _bare(shape, rows, WAYS[way])
            _row(add, f"{name} bare, {way}", tokens / _seconds(bare), tokens, operations, rate)
            del bare
        for way, settings in WAYS.items():
            given = dict(settings)
            lora = {"rank": given.pop("lora", 0)}
            sft = SftConfig.model_validate(
                {"batch_size": BATCH, "dtype": "bfloat16", "learning_rate": 1e-5, "lora": lora}
            )
            place = PlaceConfig.model_validate({"device": KIND, "workers": 1} | given)
            with worker(partial(random_model, shape), rows, sft, place) as run:
                seconds = _seconds(partial(run.step, range(BATCH)))
            _row(add, f"{name} forkdiv, {way}", tokens / seconds, tokens, operations, rate)


def _row(add: Rows, name: str, rate: float, tokens: int, operations: float, peak: float) -> None:
    share = f"{100 * rate / tokens * operations / peak:.1f} % of the matrix rate" if peak else ""
    memory = torch.cuda.max_memory_allocated() / 2**30 if GPU else 0.0
    add(name, rate, "tokens/s", f"{share}, at most {memory:.1f} GiB since the last row")
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


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
    lengths = [len(prompt) + len(response) for prompt, response in rows]
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
    lengths = [len(prompt) + len(response) for prompt, response in rows]
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
