"""Two ranks with a DeepSpeed engine each and no Ray: some steps of every way to place a run.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=… MASTER_PORT=… python -m tests.ranks OUT

Each way is exported to OUT/NAME, for tests/train/test_train_engine.py to compare.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import DatasetConfig, PlaceConfig, SftConfig
from forkdiv.data.token_table import BaseDistribution
from forkdiv.data.tokenized import Row
from forkdiv.train.targets import TokenTargets
from tests.stack import BASE

STEPS = 3
BATCH = 8


@dataclass(frozen=True)
class Way:
    """Settings of the place, and of the fine-tuning itself."""

    place: dict[str, Any] = field(default_factory=dict)
    sft: dict[str, Any] = field(default_factory=dict)


ADAPTERS = {"lora": {"rank": 4}}
PLAIN = {
    "stage-1": Way(),
    "stage-0": Way({"zero_stage": 0}),
    "stage-0-passes": Way({"zero_stage": 0, "micro_batch": 1}),
    "passes": Way({"micro_batch": 1}),
    "stage-2-packed": Way({"zero_stage": 2, "pack_tokens": 96, "micro_batch": 1}),
    "stage-3-passes": Way({"zero_stage": 3, "micro_batch": 3, "activation_checkpointing": True}),
    # 100 response tokens of a vocabulary of some 60 words: several parts in each pass
    "logits-in-parts": Way({"logits_gib": 1e-6}),
    "stage-3-logits-in-parts": Way({"zero_stage": 3, "logits_gib": 1e-6, "micro_batch": 3}),
    "checkpointing": Way({"activation_checkpointing": True}),
    "offload": Way({"zero_stage": 2, "offload": "optimizer"}),
    "offload-parameters": Way({"zero_stage": 3, "offload": "parameters"}),
}
WEIGHTED = {"loss": "fork-aware"}
FORK_AWARE = {
    "fork-aware": Way({}, WEIGHTED),
    "fork-aware-stage-2-packed": Way(
        {"zero_stage": 2, "pack_tokens": 96, "micro_batch": 1}, WEIGHTED
    ),
    "fork-aware-stage-3-in-parts": Way(
        {"zero_stage": 3, "logits_gib": 1e-6, "micro_batch": 3}, WEIGHTED
    ),
}
LORA = {
    "lora": Way({}, ADAPTERS),
    "lora-logits-in-parts": Way({"logits_gib": 1e-6}, ADAPTERS),
    "lora-stage-3": Way({"zero_stage": 3, "activation_checkpointing": True}, ADAPTERS),
}


def drawn_targets(rows: Sequence[Row]) -> TokenTargets:
    """Targets that differ from token to token: 0 to 4 likely tokens of the base, any weights."""
    import numpy as np

    lengths = np.array([len(response) for _, response in rows])
    random = np.random.default_rng(0)
    counts = random.integers(0, 5, lengths.sum())
    starts = np.concatenate([[0], counts.cumsum()])
    ids = np.concatenate([random.permutation(20)[:count] for count in counts]).astype(np.int32)
    base = BaseDistribution(starts, ids, random.uniform(0, 0.25, len(ids)).astype(np.float32))
    label, weight = random.uniform(0, 1, (2, lengths.sum())).astype(np.float32)
    row_starts = np.concatenate([[0], lengths.cumsum()])
    return TokenTargets(row_starts, label, np.where(counts > 0, weight, 0), base)


def main(out: Path, names: list[str]) -> None:
    import torch

    from forkdiv.data.tokenized import encode_examples
    from forkdiv.models.loading import load_tokenizer
    from forkdiv.tasks.graph_branching import GraphBranchingConfig
    from forkdiv.tasks.registry import build
    from forkdiv.train.deepspeed_engine import new_engine
    from forkdiv.train.sft_run import RAW
    from forkdiv.train.worker import Worker, export

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo")  # as Ray Train does
    data = build(GraphBranchingConfig()).sft_examples(DatasetConfig(examples=STEPS * BATCH))
    # responses of several lengths, as if some were cut short
    rows = [
        (p[i % 5 :], r[: 2 + i % 4]) for i, (p, r) in enumerate(encode_examples(data, BASE, RAW))
    ]
    targets = drawn_targets(rows)
    for name in names:
        way = (PLAIN | FORK_AWARE | LORA)[name]
        place = PlaceConfig.model_validate(way.place)
        sft = SftConfig.model_validate({"batch_size": BATCH, **way.sft})
        engine = new_engine(BASE, sft, place, world)
        own = targets if sft.loss == "fork-aware" else None
        no_ends = torch.tensor([], dtype=torch.long)
        worker = Worker(engine, rows, no_ends, sft, place, rank, world, targets=own)
        engine.train()
        for step in range(STEPS):
            worker.step(range(step * BATCH, (step + 1) * BATCH))
        export(engine, sft, load_tokenizer(BASE), out / name)
        engine.destroy()
        (out / f"{name}.modules-{rank}").write_text("\n".join(sys.modules))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
