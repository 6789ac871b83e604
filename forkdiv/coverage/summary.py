"""The summary of a study: assembled from its cells, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forkdiv.core.code_version import commit
from forkdiv.core.config.axis_names import is_measured
from forkdiv.core.config.study import NOT_IDENTITY, WHICH_CHECKPOINTS, StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity, stages
from forkdiv.core.results import BestDecoder, Cell, CheckpointPaths, Summary
from forkdiv.core.store import versions
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.evaluation import Evaluation
from forkdiv.tasks.own_data.checked import digest
from forkdiv.tasks.registry import build

# settings that a summary leaves out
NOT_REPORTED = {"place", "pretrain", "power", *WHICH_CHECKPOINTS}


def identity(study: StudyConfig, base: Checkpoint) -> Identity:
    """Returns the identity of a study. Name and place are excluded, so that it does not depend on
    where the study runs."""
    config = study.model_dump(exclude={"task", "prompt", "learnability", *NOT_IDENTITY})
    if study.reads_table:
        config["learnability"] = study.learnability.deciding
    evaluation = Evaluation.of(study)
    task = evaluation.task
    config |= {"prompt": evaluation.prompt, **evaluation.shots.identity()}
    of_base = evaluation.grading(base)
    grading = {"grading": of_base} if of_base else {}
    files = {"files": files} if (files := _varied_files(study)) else {}
    return Identity(
        "study",
        config | {"task": task.identity(), "stages": stages(study.reads_table)} | grading | files,
        {"base": base.fingerprint},
    )


def _varied_files(study: StudyConfig) -> dict[str, list[str]]:
    """Returns the digests of the files that axes of the study name, by path of the setting."""
    return {
        path: [digest(value) if isinstance(value, Path) else "" for value in values]
        for path, values in study.sweep.by_path.items()
        if isinstance(values, tuple) and any(isinstance(value, Path) for value in values)
    }


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
    """Returns the summary of a study from the cells of its trials.

    `axes` are the axes of the sweep; `dynamics` are the cells of checkpoints before the last one
    of a run. `notes` default to those of the task, `settings` to those of the study.
    """
    cells = [cell for trial in trials for cell in trial]
    study_settings = study.model_dump(mode="json", exclude=NOT_REPORTED)
    paths = {"checkpoints": checkpoints} if checkpoints else {}
    return Summary(
        study=study.name,
        fingerprint=fingerprint,
        commit=commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=study_settings if settings is None else dict(settings),
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
    """Returns the headline metrics of the study for MLflow: the largest loss at the largest k, and
    the seconds of each stage."""
    changes = [
        cell.delta_to_base[max(cell.delta_to_base)].value
        for cell in summary.cells
        if cell.subset == "all" and cell.delta_to_base
    ]
    worst = {"largest_loss_at_max_k": min(changes)} if changes else {}
    return worst | {f"seconds/{stage}": value for stage, value in summary.seconds.items()}


def check(summary: Summary) -> None:
    """Raises InvalidResult if a cell is invalid, or if sampled and exact pass@k disagree."""
    check_cells([*summary.base, *summary.cells, *summary.dynamics])


def is_valid(summary: Summary) -> bool:
    """Returns whether `check` passes."""
    try:
        check(summary)
    except InvalidResult:
        return False
    return True


def check_cells(cells: Sequence[Cell], untuned: str = "base ") -> None:
    """Checks cells like `check`; `untuned` is the prefix for cells of the base in messages."""
    problems = []
    for cell in cells:
        axes = [
            f"{axis} {value}"
            for axis, value in cell.axes.items()
            if value is not None and not is_measured(axis)
        ]
        model = " ".join([*(axes or ["tuned"]), ""]) if cell.tuned else untuned
        decoder = f"{cell.decoder} " if cell.decoder else ""
        name = f"{model}{decoder}T={cell.temperature:g}"
        if not cell.valid:
            problems.append(f"{name} {cell.subset}: {cell.errors} samples without a verdict")
        elif cell.agreement and not cell.agreement.agrees:
            z, k = cell.agreement.worst_z, cell.agreement.at_k
            problems.append(
                f"{name} {cell.subset}: sampled pass@{k} differs from exact by {z:.1f} standard "
                "errors"
            )
    if problems:
        raise InvalidResult("these cells cannot be trusted: " + "; ".join(problems))
