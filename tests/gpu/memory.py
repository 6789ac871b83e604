"""The GPU memory of a training worker against the estimate of `forkdiv plan`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.train.memory import OVERHEAD_GIB, estimate
from forkdiv.train.memory import shape as shape_of
from tests.gpu.rows import (
    GPU,
    KIND,
    QWEN_05,
    QWEN_7,
    QWEN_15,
    architecture,
    arguments,
    free,
    join_process_group,
    random_model,
    synchronize,
    worker,
)

TOKENS, BATCH = (1024, 16) if GPU else (32, 4)
LORA = {"lora": {"rank": 16}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "0.5B": (QWEN_05, {"micro_batch": 4}, {}),
    "0.5B float32": (QWEN_05, {"micro_batch": 4}, {"dtype": "float32"}),
    "0.5B stage 3": (QWEN_05, {"micro_batch": 4, "zero_stage": 3}, {}),
    "0.5B checkpointing": (QWEN_05, {"micro_batch": 4, "activation_checkpointing": True}, {}),
    "0.5B packed": (QWEN_05, {"micro_batch": 1, "pack_tokens": 4096}, {}),
    "0.5B all logits": (QWEN_05, {"micro_batch": 8, "logits_gib": 100}, {}),
    "1.5B checkpointing": (QWEN_15, {"micro_batch": 8, "activation_checkpointing": True}, {}),
    "1.5B": (QWEN_15, {"micro_batch": 4}, {}),
    "7B LoRA": (QWEN_7, {"micro_batch": 4, "activation_checkpointing": True}, LORA),
}


def main() -> None:
    _, add = arguments()
    join_process_group()
    for name, (shape, place, sft) in CASES.items():
        given = {"batch_size": BATCH, "dtype": "bfloat16", "learning_rate": 1e-5} | sft
        config = SftConfig.model_validate(given)
        placed = PlaceConfig.model_validate({"device": KIND, "workers": 1} | place)
        planned = estimate(shape_of(architecture(shape), config), config, placed, TOKENS)
        vocabulary = architecture(shape)["vocab_size"]
        ids = torch.randint(1, vocabulary, (BATCH, TOKENS)).tolist()
        rows = [(row[:2], row[2:]) for row in ids]
        dtype = torch.float32 if config.dtype == "float32" else torch.bfloat16
        free()
        with worker(partial(random_model, shape, dtype), rows, config, placed) as run:
            for _ in range(2):
                run.step(range(BATCH))
            synchronize()
            peak, kept = (
                (f() / 2**30 if GPU else 0.0)
                for f in (torch.cuda.max_memory_allocated, torch.cuda.max_memory_reserved)
            )
        parts = ", ".join(f"{k} {v:.1f}" for k, v in planned.gpu.items() if v and k != "overhead")
        without = planned.total - OVERHEAD_GIB
        add(f"{name}", peak, "GiB", f"planned {without:.1f} ({parts}); reserved {kept:.1f}")


if __name__ == "__main__":
    main()
