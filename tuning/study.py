"""A whole study: every point of the grid, then its summary; nothing that is done is done again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import canonical
from forkdiv.core.progress import Follower, Progress
from forkdiv.core.results import Summary
from forkdiv.core.store import Store, write_text
from forkdiv.coverage import summary
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.tracking import Tracker
from tuning.space import axes

SUMMARY = "summary.json"
NOT_SHOWN = {"place", "pretrain", "base", "checkpoint", "audit", "data", "plan"}


def folder(study: StudyConfig) -> Path:
    """Where the study's results lie for people: a view of what is in the store."""
    return study.place.root / study.name


def conduct(study: StudyConfig, base: Checkpoint, show: Callable[[str], None]) -> Summary:
    """The study's summary, found where it is done, else made; also written to its folder.

    Raises InvalidResult where trials failed. Cells that are invalid are in the summary and
    keep it from being published, so that the next run tries them again.
    """
    what = summary.identity(study, base)
    store = Store(study.place.root / "store")
    found = store.find(what)
    if found:
        show("this study is done; its results are read, not made again")
        done = read_summary(found.path / SUMMARY)
    else:
        done = _conduct(study, base, what.fingerprint, show)
        if summary.trusted(done):
            text = json.dumps(done.as_json())
            store.obtain(what, lambda path: write_text(path / SUMMARY, text))
    done = done.under_name(study.name)  # one that is found may have been made under another name
    write_summary(done, folder(study))
    return done


def read_summary(path: Path) -> Summary:
    return Summary.model_validate(json.loads(path.read_text()))


def write_summary(done: Summary, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SUMMARY, json.dumps(done.as_json(), indent=1))


def parent_run(study: StudyConfig, fingerprint: str) -> str:
    """The study's run in MLflow, created where it does not exist."""
    return Tracker.of(study.place).study(fingerprint, study.name, _flat(study))


def _conduct(
    study: StudyConfig, base: Checkpoint, fingerprint: str, show: Callable[[str], None]
) -> Summary:
    # after the checks and the look into the store: Ray's imports take seconds
    from tuning import session, sweep
    from tuning.best_decoder import best_decoders

    started = time.perf_counter()
    progress = Progress(folder(study) / "progress.jsonl")
    seconds: dict[str, float] = {}
    with Follower(progress.path, show):
        progress("starting Ray")
        with session.running(study.place):
            if where := session.dashboard(study.place):
                show(where)  # not into the progress file: it holds a token
            seconds["ray"] = time.perf_counter() - started
            study, base = session.prepared(study, base, progress)
            seconds["base"] = time.perf_counter() - started - seconds["ray"]
            with session.sampler(study, base) as sampler:
                progress("the sampler starts in the background; preparing MLflow")
                parent = parent_run(study, fingerprint)
                seconds["mlflow"] = time.perf_counter() - started - sum(seconds.values())
                swept = time.perf_counter()
                trials = sweep.run(
                    study, base, folder(study), sampler, parent, fingerprint, progress
                )
                seconds["sweep"] = time.perf_counter() - swept
    for trial in trials:
        for stage, passed in trial.seconds.items():
            seconds[f"sweep.{stage}"] = seconds.get(f"sweep.{stage}", 0.0) + passed
    seconds["total"] = time.perf_counter() - started
    return summary.assemble(
        study,
        fingerprint,
        axes(study),
        [trial.cells for trial in trials],
        seconds,
        dynamics=[cell for trial in trials for cell in trial.dynamics],
        best_decoders=best_decoders(trials, study.eval),
    )


def _flat(study: StudyConfig) -> dict[str, str]:
    """The study's settings as MLflow params, dotted."""
    flat: dict[str, str] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else key, value)
        else:
            flat[prefix] = json.dumps(node) if isinstance(node, list) else str(node)

    walk("", canonical(study.model_dump(mode="json", exclude=NOT_SHOWN)))
    return flat
