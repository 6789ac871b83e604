"""What a study found, as the plain JSON that its table, report and other tools read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from forkdiv.core.config.study import AXES, StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity, stages
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
    trials: Sequence[Sequence[dict[str, Any]]],
    seconds: Mapping[str, float],
    dynamics: Sequence[dict[str, Any]] = (),
    best_decoders: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The summary of a study from the cells of its trials; `axes` are those it varies,
    `dynamics` the cells of checkpoints that were saved before a run's last one."""
    cells = [cell for trial in trials for cell in trial]
    return {
        "study": study.name,
        "fingerprint": fingerprint,
        "commit": commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": study.model_dump(mode="json", exclude={"place", "pretrain", "checkpoint"}),
        "confidence": study.eval.confidence,
        "axes": list(axes),
        "notes": list(build(study.task).notes),
        "base": [cell for cell in cells if not cell["tuned"]],
        "cells": [cell for cell in cells if cell["tuned"]],
        "dynamics": list(dynamics),
        "best_decoders": list(best_decoders),
        "unit": "epoch",
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
        "versions": versions(),
    }


def metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The study's own headline numbers for MLflow: the worst change at the largest k."""
    changes = [
        cell["delta_to_base"][max(cell["delta_to_base"], key=int)]["value"]
        for cell in summary["cells"]
        if cell["subset"] == "all" and cell["delta_to_base"]
    ]
    worst = {"largest_loss_at_max_k": min(changes)} if changes else {}
    return worst | {f"seconds_{stage}": value for stage, value in summary["seconds"].items()}


def check(summary: Mapping[str, Any]) -> None:
    """Raise InvalidResult where a cell is invalid or sampled and exact values disagree."""
    check_cells([*summary["base"], *summary["cells"], *summary["dynamics"]])


def trusted(summary: Mapping[str, Any]) -> bool:
    """Whether `check` has nothing to say."""
    try:
        check(summary)
    except InvalidResult:
        return False
    return True


def check_cells(cells: Sequence[Mapping[str, Any]], untuned: str = "base ") -> None:
    """As `check`, for cells alone; `untuned` names those of no tuned model."""
    wrong = []
    for cell in cells:
        data = [f"{axis} {cell[axis]}" for axis in AXES if cell.get(axis) is not None]
        who = " ".join([*(data or ["tuned"]), ""]) if cell["tuned"] else untuned
        how = f"{cell['decoder']} " if cell.get("decoder") else ""
        name = f"{who}{how}T={cell['temperature']:g}"
        if not cell["valid"]:
            wrong.append(f"{name} {cell['subset']}: {cell['errors']} samples without a verdict")
        elif cell["agreement"] and not cell["agreement"]["agrees"]:
            z, k = cell["agreement"]["worst_z"], cell["agreement"]["at_k"]
            wrong.append(f"{name} {cell['subset']}: sampled pass@{k} is {z:.1f} errors off exact")
    if wrong:
        raise InvalidResult("do not trust these cells: " + "; ".join(wrong))
