"""An RL job: the arguments of its worker, and the files in a run's workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forkdiv.core.config.base import Frozen
from forkdiv.core.config.rl import RlConfig
from forkdiv.core.config.study import DecoderConfig, PlaceConfig
from forkdiv.core.config.tasks import AnyTask
from forkdiv.core.records import Problem
from forkdiv.core.store import write_text
from forkdiv.core.thinking import Thinking

PROBLEMS, STOPPED, LOG = "problems.jsonl", "stopped.json", "log.jsonl"
CHECKPOINTS, EPISODES, STATES, WEIGHTS = "checkpoints", "episodes", "states", "weights"


class RlJob(Frozen):
    """The arguments of a worker. Paths are absolute, because Ray changes the workers' directory.

    `run` is the fingerprint of the run, `start` the folder from which it starts and
    `start_fingerprint` its fingerprint, `app` the name of the sampler's Serve application,
    `progress` the progress file, and `who` the name of the run in it.
    """

    workspace: Path
    run: str
    start: Path
    start_fingerprint: str
    rl: RlConfig
    place: PlaceConfig
    task: AnyTask
    decoder: DecoderConfig
    thinking: dict[str, Any] | None
    app: str
    progress: Path
    who: str

    @property
    def tags(self) -> Thinking | None:
        """The tags around the thinking in responses."""
        return Thinking(**self.thinking) if self.thinking else None


class Stopped(Frozen):
    """Why a run ended before its last iteration; repeating it would end in the same way."""

    iteration: int
    reason: str


def checkpoint_name(iteration: int) -> str:
    """Returns the name of a checkpoint's folder; `saved_checkpoints` reads the number."""
    return f"step-{iteration:06d}"


def write_problems(path: Path, problems: Sequence[Problem], asked: Sequence[str]) -> None:
    """Writes the problems, each with the prompt that the model reads (which may have shots)."""
    rows = (
        {
            "id": problem.id,
            "split": problem.split,
            "subset": problem.subset,
            "prompt": problem.prompt,
            "facts": dict(problem.facts),
            "asked": prompt,
        }
        for problem, prompt in zip(problems, asked, strict=True)
    )
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_problems(path: Path) -> Iterator[tuple[Problem, str]]:
    """Yields the problems with the prompts that the model reads."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        asked = row.pop("asked")
        yield Problem(**row), asked
