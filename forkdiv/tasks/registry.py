"""Every task by its kind. A new task is a file in this folder and a line in `TASKS`."""

from __future__ import annotations

import importlib
from functools import lru_cache, partial

from forkdiv.core.config import tasks as settings
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.tasks.base import Task

# kind: its class, imported where the kind is first used, since some need libraries that load slowly
TASKS = {
    "graph_branching": "forkdiv.tasks.graph_branching:GraphBranching",
    "arithmetic_chain": "forkdiv.tasks.arithmetic_chain:ArithmeticChain",
    "search_modes": "forkdiv.tasks.search_modes:SearchModes",
    "words_or_code": "forkdiv.tasks.words_or_code:WordsOrCode",
    "counterfactual_arithmetic": "forkdiv.tasks.counterfactual_arithmetic:CounterfactualArithmetic",
    "short_facts": "forkdiv.tasks.short_facts:ShortFacts",
    "file": "forkdiv.tasks.own_data.task:OwnData",
}


@lru_cache(maxsize=16)
def build(config: TaskConfig) -> Task:
    """The task that `config` describes. Equal configs share one: a user's file is read once."""
    return task_class(config.kind)(config)


def task_class(kind: str) -> type[Task]:
    """The class of a kind's tasks. Raises KeyError for an unknown kind."""
    module, _, name = TASKS[kind].partition(":")
    found: type[Task] = getattr(importlib.import_module(module), name)
    return found


def _config_class(kind: str) -> type[TaskConfig]:
    return task_class(kind).config_class


for _kind in TASKS:
    settings.register(_kind, partial(_config_class, _kind))
