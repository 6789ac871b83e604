"""Which problems each iteration asks, and the seeds of its samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from forkdiv.core.config.rl import RlConfig
from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.records import Problem
from forkdiv.sample.sample_sets import SEED_SPACE
from forkdiv.tasks.base import Task, derive, no_grader

SPLIT = "train"


def problems(task: Task, dataset: DatasetConfig, config: RlConfig) -> list[Problem]:
    """Returns the training problems of a run: at most `config.prompts`, or as many as its
    iterations need. With `config.unseen`, none that fine-tuning on `dataset` has used, also not in
    another form.

    Raises UserError for a task without a grader or without such problems.
    """
    if not task.graded:
        raise no_grader("give rewards")
    if SPLIT not in task.sizes or not task.available(SPLIT):
        raise refuse(
            "this task has no training problems to learn from",
            f"task.kind={task.config.kind}",
            "a task or file with training problems",
            "set task.kind=file and task.train=FILE, or another task.kind",
        )
    wanted = config.prompts or config.iterations * config.groups
    seen = _used_in_fine_tuning(task, dataset) if config.unseen else set()
    drawn = _drawn(task, wanted + len(seen))
    unseen = [problem for problem in drawn if task.content_of(problem.id) not in seen]
    if not unseen:
        raise _all_seen(len(seen))
    if config.prompts and len(unseen) < config.prompts:
        raise refuse(
            "there are fewer prompts than requested",
            f"rl.prompts={config.prompts}",
            f"up to {len(unseen)} with this data and these task settings",
            "lower rl.prompts, or remove it",
        )
    return unseen[:wanted]


def _used_in_fine_tuning(task: Task, dataset: DatasetConfig) -> set[str]:
    if not task.sizes[SPLIT]:  # a file without completions: nothing was fine-tuned on it
        return set()
    return {task.content_of(example.problem_id) for example in task.sft_examples(dataset)}


def _drawn(task: Task, count: int) -> list[Problem]:
    """Returns the first `count` training problems, or nearly all; subsets have equal numbers."""
    parts = max(len(task.subsets), 1)
    most = task.available(SPLIT) // parts * parts or task.available(SPLIT)
    requested = count + -count % parts
    if requested <= most * 9 // 10:
        return task.heldout(SPLIT, requested)
    while True:
        try:
            return task.heldout(SPLIT, most)
        except UserError:  # the number of available problems is approximate
            if most <= 10 * parts:
                raise
            most = most * 9 // 10 // parts * parts


def _all_seen(seen: int) -> UserError:
    return refuse(
        "fine-tuning has used all training problems",
        f"{seen} problems in the data of `dataset`",
        "training problems that fine-tuning has not used (rl.unseen=true)",
        "set dataset.examples to the number that fine-tuning used; or set rl.unseen=false for a "
        "file that it did not use",
    )


@lru_cache(maxsize=2)
def _order(size: int, seed: int, turn: int) -> list[int]:
    """Returns the order of `size` problems when all are used for the turn-th time."""
    order = list(range(size))
    derive("rl-order", seed, turn).shuffle(order)
    return order


@dataclass(frozen=True)
class Schedule:
    """The problems of each iteration, in groups. Every problem is used once before any is used
    again, each time in another order."""

    problems: Sequence[Problem]
    config: RlConfig

    def at(self, iteration: int) -> list[Problem]:
        """Returns the problem of each group of an iteration, counted from 1."""
        first = (iteration - 1) * self.config.groups
        size = len(self.problems)
        positions = range(first, first + self.config.groups)
        orders = (_order(size, self.config.seed, position // size) for position in positions)
        return [
            self.problems[order[position % size]]
            for order, position in zip(orders, positions, strict=True)
        ]

    def seed(self, run: str, iteration: int, slot: int) -> int:
        """Returns the seed of the first response of a group of the run with this fingerprint;
        response i has seed + i. No request's seeds wrap around at 32 bits."""
        text = f"{run}/{self.config.seed}/{iteration}/{slot}"
        digest = hashlib.sha256(text.encode()).digest()
        group = self.config.group
        return int.from_bytes(digest[:8], "big") % (SEED_SPACE // group) * group
