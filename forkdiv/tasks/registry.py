"""Every task by its kind: `build` turns a task's config into the task."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from forkdiv.core.config.tasks import TaskConfig
from forkdiv.tasks.base import Task

# kind: module and class; imported when built, since some need libraries that load slowly
_TASKS = {
    "graph_branching": ("graph_branching", "GraphBranching"),
    "arithmetic_chain": ("arithmetic_chain", "ArithmeticChain"),
    "search_modes": ("search_modes", "SearchModes"),
    "words_or_code": ("words_or_code", "WordsOrCode"),
    "counterfactual_arithmetic": ("counterfactual_arithmetic", "CounterfactualArithmetic"),
    "short_facts": ("short_facts", "ShortFacts"),
    "file": ("own_data.task", "OwnData"),
}


@lru_cache(maxsize=16)
def build(config: TaskConfig) -> Task:
    """The task that `config` describes. Equal configs share one: a user's file is read once."""
    module, name = _TASKS[config.kind]
    made: Any = getattr(importlib.import_module(f"forkdiv.tasks.{module}"), name)
    task: Task = made(config)
    return task


def described(config: TaskConfig) -> dict[str, Any]:
    """What a task's config contributes to identity: a user's files by content, not by path."""
    own = config.model_dump(exclude={"train", "test"} if config.kind == "file" else set())
    digest = getattr(build(config), "digest", None)
    return own | ({"content": digest} if digest else {})
