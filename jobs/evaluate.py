"""Compare pass@k of one checkpoint with the base, under one decoder.

    forkdiv evaluate checkpoint=DIR base=DIR
    forkdiv evaluate --config counterfactual base=DIR checkpoint=TUNED_DIR
    forkdiv evaluate dataset.fork_density=0.5 decoder.temperature=0.7

The checkpoint is `checkpoint=DIR`; without it, the checkpoint that `train` makes with the same
settings.
"""

from __future__ import annotations

import json

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.results import Cell
from forkdiv.core.store import write_text
from forkdiv.coverage import summary
from forkdiv.report.tables import in_thinking, readable_text
from forkdiv.terminal import say, show_table
from tuning import preflight, prompt_notes, row_lengths
from tuning.adapters import with_merged
from tuning.resources import Work
from tuning.space import Point, check_data, single_point


def run(study: StudyConfig) -> None:
    from tuning.open_study import open_study

    named = study
    study = with_merged(study, say)
    base = preflight.check(study, takes_checkpoint=True)
    study = study.model_copy(update={"sweep": type(study.sweep)()})
    point = single_point(study)
    checkpoint = preflight.check_study_checkpoint(study, base)
    paths = [base.path, *([checkpoint.path] if checkpoint else [])]
    for note in prompt_notes.notes(study, paths, trains=checkpoint is None):
        say(f"note: {note}")
    study = row_lengths.fitting(study, paths, trains=checkpoint is None, show=say)
    if checkpoint is None:
        check_data(study)
    trains = checkpoint is None or study.base is None
    with open_study(study, base, "evaluate", say, Work(trains=trains)) as work:
        study, base = work.study, work.base
        if checkpoint:
            checkpoint = work.shared(checkpoint)
            untrained = Point(study.decoder.temperature, study.sft.seed, tuned=False)
            result = work.pipeline.compared(study, untrained, {0: checkpoint})
        else:
            result = work.pipeline.run(point)
    name = str(named.checkpoint) if checkpoint else point.name
    cells = [cell.as_json() for cell in result.cells]
    evaluation = {"checkpoint": name, "base": str(named.base or base.path), "cells": cells}
    evaluation["sources"] = [str(source) for source in study.sources]
    path = study.folder / "evaluation.json"
    write_text(path, json.dumps(evaluation | {"seconds": result.seconds}, indent=1))
    show_table(*_table(result.cells), title=f"{name}: pass@k (change from the base)")
    say(f"evaluation: {path}")
    summary.check_cells(result.cells, untuned="")


def _table(cells: list[Cell]) -> tuple[list[str], list[list[str]]]:
    ks = list(cells[0].pass_at)
    rows = [
        [
            cell.subset,
            *(_entry(cell, k) for k in ks),
            readable_text(cell) + in_thinking(cell),
        ]
        for cell in cells
    ]
    return ["subset", *(f"pass@{k}" for k in ks), "readable"], rows


def _entry(cell: Cell, k: int) -> str:
    value, change = cell.pass_at[k], cell.delta_to_base.get(k)
    if value is None:
        return "invalid"
    return f"{value.value:.3f}" + (f" ({change.value:+.3f})" if change else "")


if __name__ == "__main__":
    cli.run_job("evaluate")
