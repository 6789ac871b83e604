"""pass@k of one checkpoint against the base, under one decoder.

The checkpoint is `checkpoint=DIR`, else the one that `train` makes of the same settings.

    forkdiv evaluate dataset.fork_density=0.5 decoder.temperature=0.7
    forkdiv evaluate checkpoint=forkdiv/models/base/graph-d3-l3
"""

from __future__ import annotations

import json

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import Follower, Progress
from forkdiv.core.results import Cell
from forkdiv.core.store import Store, write_text
from forkdiv.coverage import summary
from forkdiv.tasks.registry import build
from forkdiv.terminal import say, show_table
from tuning import preflight
from tuning.space import Point, check_data, single
from tuning.study import folder


def run(study: StudyConfig) -> None:
    from forkdiv.sample.deployment import ServeSampler
    from tuning import session
    from tuning.trial import Line

    base = preflight.check(study, takes_checkpoint=True)
    study = study.model_copy(update={"sweep": type(study.sweep)()})
    point = single(study)
    task = build(study.task)
    given = preflight.check_beside(study.checkpoint, base, task) if study.checkpoint else None
    if given is None:
        check_data(study)
    progress = Progress(folder(study) / "progress.jsonl", "evaluate")
    store = Store(study.place.root / "store")
    with Follower(progress.path, say), session.running(study.place):
        study, base = session.prepared(study, base, progress)
        given = session.shared(study.place, given) if given else None
        with session.sampler(study, base) as app:
            line = Line(study, base, store, ServeSampler(app, study.place.engine), progress)
            if given:
                alone = Point(study.decoder.temperature, study.sft.seed, tuned=False)
                result = line.compared(study, alone, {0: given})
            else:
                result = line.walk(point)
    name = str(given.path) if given else point.name
    found = {
        "checkpoint": name,
        "base": str(base.path),
        "cells": [cell.as_json() for cell in result.cells],
    }
    path = folder(study) / "evaluation.json"
    write_text(path, json.dumps(found | {"seconds": result.seconds}, indent=1))
    show_table(*_table(result.cells), title=f"{name}: pass@k (change to the base)")
    say(f"evaluation: {path}")
    summary.check_cells(result.cells, untuned="")


def _table(cells: list[Cell]) -> tuple[list[str], list[list[str]]]:
    ks = list(cells[0].pass_at)
    rows = [
        [
            cell.subset,
            *(_entry(cell, k) for k in ks),
            str(cell.truncated + cell.unparsable),
        ]
        for cell in cells
    ]
    return ["subset", *(f"pass@{k}" for k in ks), "cut or unreadable"], rows


def _entry(cell: Cell, k: int) -> str:
    value, change = cell.pass_at[k], cell.delta_to_base.get(k)
    if value is None:
        return "invalid"
    return f"{value.value:.3f}" + (f" ({change.value:+.3f})" if change else "")


if __name__ == "__main__":
    cli.run_job("evaluate")
