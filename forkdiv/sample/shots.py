"""Few-shot prompts: the worked examples (shots) that a model sees before each problem.

They are drawn by seed from the training problems of the task, or from a file, and are the same for
every problem, as in the published few-shot results: so results of problems are comparable, and an
engine computes the common beginning of the prompts once. Only a problem that is itself among the
shots gets the next example of the order in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from forkdiv.core.chat import Shot
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.errors import refuse
from forkdiv.tasks.base import Task, derive
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.own_data.task import UNGRADED, OwnData
from forkdiv.tasks.registry import build


@dataclass(frozen=True)
class Shots:
    """`count` shots before each problem: the first of `ordered`, which has one in reserve."""

    count: int
    ordered: tuple[Shot, ...]

    def before(self, prompt: str) -> list[Shot]:
        """Returns the shots that are shown before a problem, never the problem itself."""
        own = _comparable(prompt)
        return [shot for shot in self.ordered if _comparable(shot[0]) != own][: self.count]

    def identity(self) -> dict[str, Any]:
        """Returns the shots' part of the identity of results; empty without shots."""
        if not self.count:
            return {}
        text = json.dumps([list(shot) for shot in self.ordered])
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        return {"shots": {"count": self.count, "examples": digest}}


NO_SHOTS = Shots(0, ())


def draw_shots(task: Task, prompt: PromptConfig) -> Shots:
    """Returns the shots of prompt.shots. Raises UserError if there are too few examples."""
    if not prompt.shots:
        return NO_SHOTS
    return _drawn(task.config, prompt.shots, prompt.shots_seed, prompt.shots_data)


@lru_cache(maxsize=16)
def _drawn(config: TaskConfig, count: int, seed: int, file: Path | None) -> Shots:
    """Draws distinct problems, each with its first response."""
    task = build(config)
    examples = task.shot_pool() if file is None else _examples_of(file, config)
    pool: dict[str, Shot] = {}
    for asked, answered in examples:
        pool.setdefault(_comparable(asked), (asked, answered))
    ordered = list(pool.values())
    if len(ordered) <= count:
        raise refuse(
            "there are too few examples to draw the shots from",
            f"prompt.shots={count} and {len(ordered)} problems in {file or 'the training data'}",
            f"at least {count + 1} problems, so that no problem is its own shot",
            "lower prompt.shots, or set prompt.shots_data to a file with more problems",
        )
    derive("shots", seed).shuffle(ordered)
    return Shots(count, tuple(ordered[: count + 1]))


def _examples_of(file: Path, config: TaskConfig) -> Iterable[Shot]:
    """Returns the examples of a file, read as the task's own file is, else by usual names."""
    update = {"train": file, "test": None, "skip_train": (), "skip_test": (), "grader": UNGRADED}
    own = config if isinstance(config, FileConfig) else FileConfig(train=file)
    task = build(own.model_copy(update=update))
    assert isinstance(task, OwnData)
    return [(example.prompt, example.response) for example in task.training_examples()]


def _comparable(prompt: str) -> str:
    """Returns the prompt with normalized white space: two files may end a line differently."""
    return " ".join(prompt.split())
