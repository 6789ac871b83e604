"""An evaluation: the problems of a task, and how their samples are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from forkdiv.core.chat import with_shots
from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import EvalConfig, PromptConfig, StudyConfig
from forkdiv.core.records import Problem
from forkdiv.core.thinking import Thinking, tags_of
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.thinking import checkpoint_tags, with_prompt
from forkdiv.sample.shots import NO_SHOTS, Shots, draw_shots
from forkdiv.tasks.base import Task
from forkdiv.tasks.registry import build

RAW = PromptConfig()
PROBES = 64


@dataclass(frozen=True)
class Evaluation:
    """A task, and how checkpoints are evaluated on it: together with a checkpoint, it decides the
    samples, verdicts and exact probabilities. `prompt` has no shots: these are in `shots`."""

    task: Task
    config: EvalConfig
    decoder: DecoderConfig
    prompt: PromptConfig = RAW
    only: Sequence[Problem] | None = None  # these problems instead of the first of the split
    shots: Shots = NO_SHOTS

    @classmethod
    def of(cls, study: StudyConfig) -> Evaluation:
        """Returns the evaluation that a study's settings describe. Raises UserError if the shots
        of prompt.shots cannot be drawn."""
        task, prompt = build(study.task), study.prompt
        shots = draw_shots(task, prompt)
        return cls(task, study.eval, study.decoder, prompt.without_shots, shots=shots)

    def asked(self, prompt: str) -> str:
        """Returns the prompt that a model reads for the prompt of a problem: with its shots."""
        return with_shots(prompt, self.shots.before(prompt))

    @cached_property
    def asked_problems(self) -> list[Problem]:
        """The problems with the prompts that a model reads."""
        if not self.shots.count:
            return self.problems
        return [replace(problem, prompt=self.asked(problem.prompt)) for problem in self.problems]

    @cached_property
    def problems(self) -> list[Problem]:
        """The problems, in order. Raises UserError if the task has fewer than eval.problems."""
        if self.only is not None:
            return list(self.only)
        return self.task.heldout(self.config.split, self.config.problems)

    @cached_property
    def probes(self) -> list[str]:
        """The prompts of the first problems of the split, whatever eval.problems is: the token ids
        that a checkpoint reads for them are part of the identity of its samples."""
        parts = max(len(self.task.subsets), 1)
        # half of the split: the number of problems is approximate
        count = min(PROBES, self.task.available(self.config.split) // 2)
        problems = self.task.heldout(self.config.split, max(count - count % parts, parts))
        return [self.asked(problem.prompt) for problem in problems]

    def thinking(self, checkpoint: Checkpoint) -> Thinking | None:
        """Returns the tags around the thinking in the checkpoint's responses; None if its template,
        its vocabulary, the task's own responses and the settings have none."""
        folder = checkpoint.token_files
        tags = self.task.thinking_tags
        if self.config.thinking_end:
            tags = tags_of(self.config.thinking_end)
        elif tags is None and folder is not None:
            tags = checkpoint_tags(folder, self.prompt)
        return None if tags is None else with_prompt(tags, folder, self.prompt)

    def grading(self, checkpoint: Checkpoint) -> dict[str, object]:
        """Returns what decides the verdicts on the checkpoint's samples besides the task's
        settings: a part of the identity of results that depend on them."""
        thinking = self.thinking(checkpoint)
        own = {"thinking": thinking.as_json()} if thinking else {}
        return self.task.grading() | own

    def on_validation(self, problems: int) -> Evaluation:
        """Returns the same evaluation on the first `problems` problems of the validation split."""
        update = {"split": "validation", "problems": problems}
        return replace(self, config=self.config.model_copy(update=update), only=None)
