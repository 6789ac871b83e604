"""An evaluation: the problems of a task, and how their samples are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import EvalConfig, PromptConfig, StudyConfig
from forkdiv.core.records import Problem
from forkdiv.tasks.base import Task
from forkdiv.tasks.registry import build

RAW = PromptConfig()


@dataclass(frozen=True)
class Evaluation:
    """A task, and how checkpoints are evaluated on it: together with a checkpoint, it decides the
    samples, verdicts and exact probabilities."""

    task: Task
    config: EvalConfig
    decoder: DecoderConfig
    prompt: PromptConfig = RAW
    only: Sequence[Problem] | None = None  # these problems instead of the first of the split

    @classmethod
    def of(cls, study: StudyConfig) -> Evaluation:
        """Returns the evaluation that a study's settings describe."""
        return cls(build(study.task), study.eval, study.decoder, study.prompt)

    @cached_property
    def problems(self) -> list[Problem]:
        """The problems, in order. Raises UserError if the task has fewer than eval.problems."""
        if self.only is not None:
            return list(self.only)
        return self.task.heldout(self.config.split, self.config.problems)

    def on_validation(self, problems: int) -> Evaluation:
        """Returns the same evaluation on the first `problems` problems of the validation split."""
        update = {"split": "validation", "problems": problems}
        return replace(self, config=self.config.model_copy(update=update), only=None)
