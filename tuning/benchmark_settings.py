"""Settings that follow from a benchmark and that the user did not set: where its data is, how it is
worded, and the texts that end a response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forkdiv.benchmarks.base import Benchmark, Source
from forkdiv.benchmarks.config import BenchmarkConfig
from forkdiv.benchmarks.registry import BENCHMARKS
from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse


def with_source(study: StudyConfig, reads: tuple[str, ...]) -> StudyConfig:
    """Returns the study with the datasets on the hub that a benchmark stands for: in place of its
    name in `data`, of missing data of two checkpoints, of a missing task.test, and of a missing
    prompt.shots_data where shots are drawn.

    A file or folder with the name of a benchmark is used as a file.
    """
    if "task" not in reads:
        return study
    update: dict[str, Any] = {}
    if "data" in reads and study.data and (name := _named(study.data)):
        benchmark = BENCHMARKS.get(name)
        update["data"] = _path(benchmark, benchmark.source)
        if not isinstance(study.task, BenchmarkConfig):
            update["task"] = BenchmarkConfig(benchmark=name)
    task = update.get("task", study.task)
    if not isinstance(task, BenchmarkConfig):
        return study
    if "data" in reads and study.checkpoint and study.data is None and task.test is None:
        update["data"] = _path(task.found, task.found.source)
    has_data = "data" in reads and bool(update.get("data", study.data))
    if task.test is None and not has_data:
        update["task"] = task.model_copy(update={"test": _path(task.found, task.found.source)})
    is_published = "data" in update or (task.test is None and not has_data)
    draws = study.prompt.shots and study.prompt.shots_data is None and task.train is None
    if draws and is_published and "prompt" in reads and task.found.shots:
        shots = {"shots_data": _path(task.found, task.found.shots)}
        update["prompt"] = study.prompt.model_copy(update=shots)
    return study.model_copy(update=update)


def resolve(study: StudyConfig) -> StudyConfig:
    """Returns the study with the wording and the texts that end a response; without a benchmark,
    the study itself. Models that are asked by a text go on after their answer."""
    task = study.task
    if not isinstance(task, BenchmarkConfig):
        return study
    wording = task.wording or ("chat" if study.prompt.template == "chat" else "text")
    update: dict[str, Any] = {"task": task.model_copy(update={"wording": wording})}
    if wording == "text":
        stop = task.found.stop
        update["decoder"] = _stopping(study.decoder, stop)
        update["decoders"] = {name: _stopping(own, stop) for name, own in study.decoders.items()}
    return study.model_copy(update=update)


def _named(data: Path) -> str | None:
    """Returns the benchmark that a path names, unless there is such a file."""
    name = data.name
    here = data.parent in (Path.cwd(), Path())
    return name if here and name in BENCHMARKS.names() and not data.exists() else None


def _path(benchmark: Benchmark, source: Source | None) -> Path:
    if source is None:
        raise refuse(
            f"the benchmark {benchmark.name} has no data of its own",
            "its name",
            "a file in its form",
            f"set --data FILE --as {benchmark.name}",
        )
    return Path(source.name)


def _stopping(decoder: DecoderConfig, stop: tuple[str, ...]) -> DecoderConfig:
    """Returns the decoder with these texts as `stop`, unless it has its own or draws trees, whose
    branches cannot end at a text."""
    if "stop" in decoder.model_fields_set or decoder.tree_samples:
        return decoder
    return decoder.model_copy(update={"stop": stop})
