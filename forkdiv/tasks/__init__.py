"""Tasks: one per file. `build` turns a task's config into the task."""

from __future__ import annotations

from forkdiv.config import GraphBranchingConfig
from forkdiv.tasks.base import Task
from forkdiv.tasks.graph_branching import GraphBranching


def build(config: GraphBranchingConfig) -> Task:
    """The task that `config` describes."""
    return GraphBranching(config)
