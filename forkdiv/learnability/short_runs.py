"""The short fine-tuning runs on halves of the data, and what they predict.

Each half is an artifact (stage `part`) and each run an ordinary one (stage `train`), so that a
stage that was killed continues, and `forkdiv why` and `forkdiv store` know them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.sft import FORK_AWARE
from forkdiv.core.config.study import LearnabilityConfig, SftConfig, StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.records import Example
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset, token_table
from forkdiv.data.token_table import TokenTable
from forkdiv.learnability.groups import halves
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.tasks.base import Task
from forkdiv.train import sft_run

SEED_SPACE = 2**32


@dataclass(frozen=True)
class Runs:
    """What the short runs of a study need: the study, its task, the base, and where they run."""

    study: StudyConfig
    task: Task
    base: Checkpoint
    store: Store
    progress: Progress
    turn: Callable[[], AbstractContextManager[object]]

    @property
    def config(self) -> LearnabilityConfig:
        return self.study.learnability

    def pairs(
        self,
        data: Artifact,
        examples: Sequence[Example],
        group_of: NDArray[np.int64],
        kind: str,
        table: TokenTable | None = None,
    ) -> list[tuple[NDArray[np.bool_], Checkpoint, Checkpoint]]:
        """Trains the runs on halves of `examples`, in pairs. Returns for each pair which rows are
        in the first half, and the run on the first half and on the second.

        `kind` names the examples and the round in identities; they are derived from the dataset
        `data`. With a `table` of the examples, the runs are trained on its classes."""
        out = []
        for pair in range(self.config.runs // 2):
            first = halves(group_of, self.config.seed, pair)
            runs = []
            for number, chosen in enumerate((first, ~first)):
                run = 2 * pair + number
                self.progress(f"learnability: {kind}, run {run + 1} of {self.config.runs}")
                rows = [examples[row] for row in np.flatnonzero(chosen)]
                name = {"kind": kind, "pair": pair, "half": number}
                own = None if table is None else table.rows(np.flatnonzero(chosen))
                runs.append(self._run(self._part(data, rows, name, own), run, own is not None))
            out.append((first, runs[0], runs[1]))
        return out

    def _part(
        self,
        data: Artifact,
        rows: Sequence[Example],
        name: dict[str, Any],
        table: TokenTable | None,
    ) -> Artifact:
        """Returns the artifact of one half, with the classes of its tokens if there are any."""
        parents = {"dataset": data.fingerprint, "base": self.base.fingerprint}
        knobs: dict[str, Any] = {"near": self.config.near, "seed": self.config.seed, **name}
        if table is not None:  # what the classes depend on
            unread = {"mask", "prompts", "prompt_limit"}
            knobs["learnability"] = self.config.model_dump(exclude=unread)
            knobs["sft"] = short(self.study.sft, self.config).deciding
        identity = Identity("part", knobs, parents)

        def make(folder: Path) -> None:
            dataset.write(folder, rows, identity, self.task, more={"part": name})
            if table is not None:
                token_table.write(folder, table)

        return self.store.obtain(identity, make, self.progress)

    def _run(self, part: Artifact, number: int, reads_table: bool) -> Checkpoint:
        sft = short(self.study.sft, self.config, number, reads_table)
        place, prompt = self.study.place, self.study.prompt.without_shots
        run = sft_run.obtain(
            self.store,
            part,
            self.base,
            sft,
            place,
            self.progress,
            prompt,
            turn=self.turn,
            table=part if reads_table else None,
        )
        return sft_run.last(run)


DATA = "data"


def short(
    sft: SftConfig, config: LearnabilityConfig, number: int = 0, reads_table: bool = False
) -> SftConfig:
    """Returns the settings of a short run: those of the study with fewer epochs, one checkpoint and
    a seed of its own; with cross-entropy, or with the loss that reads a table."""
    plain = SftConfig()
    seed = (sft.seed + 1 + config.seed + 2**16 * (number + 1)) % SEED_SPACE
    once = {name: getattr(plain, name) for name in ("save_epochs", "save_steps", "save_every")}
    update = once | {"epochs": config.epochs, "keep": None, "loss_options": {}, "seed": seed}
    update |= {"loss": FORK_AWARE if reads_table else "cross-entropy"}
    update |= {} if reads_table else {"fork_aware": plain.fork_aware}
    return sft.model_copy(update=update)
