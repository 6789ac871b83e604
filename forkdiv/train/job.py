"""A training job: what crosses to the workers, and the files of a run's workspace."""

from __future__ import annotations

from pathlib import Path

from forkdiv.core.config.base import Frozen
from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.train.schedule import Save

ROWS, DIVERGED = "rows.npz", "diverged.json"


class TrainingJob(Frozen):
    """All that a worker reads. Paths are absolute: Ray's workers change directory.

    `carried` is the state that the run goes on from, where another number of workers wrote one;
    `progress` is the file that `who` writes progress to.
    """

    workspace: Path
    carried: Path | None
    start: Path
    sft: SftConfig
    place: PlaceConfig
    progress: Path
    who: str


class Divergence(Frozen):
    """Where the loss stopped being a finite number: the batch, how many steps had been saved
    before it, and the checkpoint of their weights, None where there were none."""

    epoch: int
    step: int
    rows: tuple[int, ...]
    done: int
    kept: Path | None


def checkpoint_folder(workspace: Path, save: Save) -> Path:
    """Where a checkpoint lies until the run is published."""
    return workspace / "checkpoints" / save.name
