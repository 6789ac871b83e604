"""Every task by its kind. A new task is a file in this folder and a line in `TASKS`."""

from __future__ import annotations

from functools import lru_cache, partial

from forkdiv.core.config.open_list import load_object
from forkdiv.core.config.tasks import KINDS, TaskConfig
from forkdiv.tasks.base import Task

# kind -> class, imported at its first use because some need libraries that load slowly
TASKS = {
    "graph_branching": "forkdiv.tasks.graph_branching:GraphBranching",
    "arithmetic_chain": "forkdiv.tasks.arithmetic_chain:ArithmeticChain",
    "search_modes": "forkdiv.tasks.search_modes:SearchModes",
    "words_or_code": "forkdiv.tasks.words_or_code:WordsOrCode",
    "counterfactual_arithmetic": "forkdiv.tasks.counterfactual_arithmetic:CounterfactualArithmetic",
    "short_facts": "forkdiv.tasks.short_facts:ShortFacts",
    "file": "forkdiv.tasks.own_data.task:OwnData",
    "benchmark": "forkdiv.benchmarks.task:BenchmarkTask",
}


@lru_cache(maxsize=16)
def build(config: TaskConfig) -> Task:
    """Returns the task of `config`. Equal configs share a task, so a user's file is read once."""
    task: Task = KINDS.get(config.kind)(config)
    return task


for _kind, _place in TASKS.items():
    KINDS.register(_kind, partial(load_object, _place))
