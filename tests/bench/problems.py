"""Graph problems with their traces, on one core."""

from __future__ import annotations

import time

from forkdiv.core.config.study import DatasetConfig
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from tests.bench.row import Row

COUNT = 20_000


def measure() -> list[Row]:
    task = build(GraphBranchingConfig(degree=3, length=5, names=16))
    started = time.perf_counter()
    made = sum(1 for _ in task.sft_examples(DatasetConfig(examples=COUNT)))
    seconds = time.perf_counter() - started
    return [Row("problems_per_s", made / seconds, "problems/s", "degree 3, length 5, one core")]
