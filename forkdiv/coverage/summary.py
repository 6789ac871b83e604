"""What a study found: put together from its cells, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity, stages
from forkdiv.core.results import BestDecoder, Cell, CheckpointPaths, Summary
from forkdiv.core.store import commit, versions
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.tasks.registry import build

NOT_IDENTITY = {"name", "place", "base", "checkpoint", "pretrain", "audit", "data", "plan"}


def identity(study: StudyConfig, base: Checkpoint) -> Identity:
    """The whole study without its name and place, so that it is the same wherever it runs."""
    config = study.model_dump(exclude={"task", *NOT_IDENTITY})
    return Identity(
        "study",
        config | {"task": build(study.task).identity(), "stages": stages()},
        {"base": base.fingerprint},
    )


def assemble(
    study: StudyConfig,
    fingerprint: str,
    axes: Sequence[str],
    trials: Sequence[Sequence[Cell]],
    seconds: Mapping[str, float],
    dynamics: Sequence[Cell] = (),
    best_decoders: Sequence[BestDecoder] = (),
    unit: str = "epoch",
    notes: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    checkpoints: CheckpointPaths | None = None,
) -> Summary:
    """The summary of a study from the cells of its trials; `axes` are those it varies,
    `dynamics` the cells of checkpoints that were saved before a run's last one. `notes` and
    `settings` are the task's and the study's where they are not given."""
    cells = [cell for trial in trials for cell in trial]
    own = study.model_dump(mode="json", exclude={"place", "pretrain", "checkpoint"})
    paths = {"checkpoints": checkpoints} if checkpoints else {}
    return Summary(
        study=study.name,
        fingerprint=fingerprint,
        commit=commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=own if settings is None else dict(settings),
        confidence=study.eval.confidence,
        axes=tuple(axes),
        notes=tuple(build(study.task).notes if notes is None else notes),
        base=tuple(cell for cell in cells if not cell.tuned),
        cells=tuple(cell for cell in cells if cell.tuned),
        dynamics=tuple(dynamics),
        best_decoders=tuple(best_decoders),
        unit=unit,
        seconds={stage: round(value, 1) for stage, value in seconds.items()},
        versions=versions(),
        **paths,
    )


def metrics(summary: Summary) -> dict[str, float]:
    """The study's own headline numbers for MLflow: the worst change at the largest k."""
    changes = [
        cell.delta_to_base[max(cell.delta_to_base)].value
        for cell in summary.cells
        if cell.subset == "all" and cell.delta_to_base
    ]
    worst = {"largest_loss_at_max_k": min(changes)} if changes else {}
    return worst | {f"seconds_{stage}": value for stage, value in summary.seconds.items()}


def check(summary: Summary) -> None:
    """Raise InvalidResult where a cell is invalid or sampled and exact values disagree."""
    check_cells([*summary.base, *summary.cells, *summary.dynamics])


def trusted(summary: Summary) -> bool:
    """Whether `check` has nothing to say."""
    try:
        check(summary)
    except InvalidResult:
        return False
    return True


def check_cells(cells: Sequence[Cell], untuned: str = "base ") -> None:
    """As `check`, for cells alone; `untuned` names those of no tuned model."""
    wrong = []
    for cell in cells:
        axes = [f"{axis} {value}" for axis, value in cell.axes.items() if value is not None]
        who = " ".join([*(axes or ["tuned"]), ""]) if cell.tuned else untuned
        how = f"{cell.decoder} " if cell.decoder else ""
        name = f"{who}{how}T={cell.temperature:g}"
        if not cell.valid:
            wrong.append(f"{name} {cell.subset}: {cell.errors} samples without a verdict")
        elif cell.agreement and not cell.agreement.agrees:
            z, k = cell.agreement.worst_z, cell.agreement.at_k
            wrong.append(f"{name} {cell.subset}: sampled pass@{k} is {z:.1f} errors off exact")
    if wrong:
        raise InvalidResult("do not trust these cells: " + "; ".join(wrong))
