"""A training job: the arguments of the workers, and the files in a run's workspace."""

from __future__ import annotations

from pathlib import Path

from forkdiv.core.config.base import Frozen
from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.train.schedule import Save

ROWS, TARGETS, DIVERGED = "rows.npz", "targets.npz", "diverged.json"


class TrainingJob(Frozen):
    """The arguments of a worker. Paths are absolute, because Ray changes the workers' directory.

    `resume_from` is a training state of another layout (workers, ZeRO stage, device) to start
    from, or None; `progress` is the progress file, and `who` the name of the trial in it.
    """

    workspace: Path
    resume_from: Path | None
    start: Path
    sft: SftConfig
    place: PlaceConfig
    progress: Path
    who: str


class Divergence(Frozen):
    """The first batch whose loss is NaN or infinite. `last_step` is the step of the last saved
    state before it (0: none was saved), and `checkpoint` its weights (None: none was saved)."""

    epoch: int
    step: int
    rows: tuple[int, ...]
    last_step: int
    checkpoint: Path | None


def checkpoint_folder(workspace: Path, save: Save) -> Path:
    """Returns the folder of a checkpoint before the run is published."""
    return workspace / "checkpoints" / save.name
