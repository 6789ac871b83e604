"""The scheduler of a sweep: Ray Tune's ASHA, on pass@k of saved checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.tasks.registry import build
from forkdiv.train import schedule
from tuning.space import Point, at

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


def check_scheduler(study: StudyConfig, grid: Sequence[Point]) -> None:
    """Raises UserError for a scheduler that could stop no trial."""
    sweep = study.sweep
    if sweep.scheduler == "none":
        return
    if not study.place.overlap or study.place.engine.takes_turns:
        turns = f"place.engine.while_training={study.place.engine.while_training}"
        raise refuse(
            f"sweep.scheduler={sweep.scheduler} needs checkpoints that are measured while their "
            "training continues",
            turns if study.place.overlap else "place.overlap=false",
            "place.overlap=true and place.engine.while_training=beside",
            "change that setting, or set sweep.scheduler=none",
        )
    for point in grid:
        own = at(study, point)
        if not point.tuned or own.interpolation != 1:
            continue
        saved = schedule.retained(build(own.task).examples(own.dataset), own.sft)
        early = [save for save in saved[:-1] if save.epoch >= sweep.grace_epochs]
        if not early:
            raise refuse(
                f"sweep.scheduler={sweep.scheduler} compares trials by the checkpoints that they "
                f"save, and {point.name} saves none from sweep.grace_epochs to before its end",
                f"checkpoints after epochs {', '.join(f'{save.epoch:g}' for save in saved)}, "
                f"grace_epochs={sweep.grace_epochs:g}",
                "a checkpoint after each epoch in which a trial may be stopped",
                "set sft.save_epochs or sft.save_every, or lower sweep.grace_epochs",
            )


def stopped_note(study: StudyConfig, stopped: Sequence[tuple[Point, float]], trials: int) -> str:
    """Returns the note of a report on trials that the scheduler stopped, with their epochs."""
    names = [f"{point.name} (after epoch {epoch:g})" for point, epoch in stopped]
    shown = "; ".join(names[:12]) + (f"; and {len(names) - 12} more" if len(names) > 12 else "")
    return (
        f"{len(stopped)} of {trials} trials were stopped early by sweep.scheduler="
        f"{study.sweep.scheduler}, because their pass@{study.eval.ks[-1]} was behind that of other "
        f"trials after the same number of epochs: {shown}. They are not in the tables of fine-tuned "
        "models; what was measured of them is in the training dynamics."
    )
