"""Checks the scheduler of a sweep before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.tasks.registry import build
from forkdiv.train import schedule
from tuning.space import Point, at


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
