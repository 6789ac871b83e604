"""The scheduler of a sweep: Ray Tune's ASHA, on pass@k of saved checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from forkdiv.core.config.study import StudyConfig
from tuning.space import Point, at
from tuning.trial import TrialResult

EPOCH = "epoch"  # reported with the metrics of a saved checkpoint, and not for the base


def scheduler(study: StudyConfig, grid: Sequence[Point]) -> TrialScheduler | None:
    """Returns the scheduler of the study's trials; None: every trial runs to its end."""
    sweep = study.sweep
    if sweep.scheduler == "none":
        return None
    return ASHAScheduler(
        time_attr=EPOCH,
        metric=f"pass_at_{study.eval.ks[-1]}",
        mode="max",
        max_t=max(at(study, point).sft.epochs for point in grid),
        grace_period=sweep.grace_epochs,
        reduction_factor=sweep.reduction,
    )


def stopped_note(study: StudyConfig, stopped: Sequence[TrialResult], trials: int) -> str:
    """Returns the note of a report on the trials that the scheduler stopped."""
    names = [f"{trial.point.name} (after epoch {trial.cells[0].epoch:g})" for trial in stopped]
    shown = "; ".join(names[:12]) + (f"; and {len(names) - 12} more" if len(names) > 12 else "")
    return (
        f"{len(stopped)} of {trials} trials were stopped early by sweep.scheduler="
        f"{study.sweep.scheduler}, because their pass@{study.eval.ks[-1]} was behind that of other "
        f"trials after the same number of epochs: {shown}. They are not in the tables of "
        "fine-tuned models; what was measured of them is in the training dynamics."
    )
