"""Settings that follow from a benchmark and that the user did not set: where its data is, how it is
worded, and the texts that end a response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forkdiv.benchmarks.base import Benchmark
from forkdiv.benchmarks.config import BenchmarkConfig
from forkdiv.benchmarks.registry import BENCHMARKS
from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.hub_names import DatasetName
from forkdiv.tasks.own_data.config import FileConfig
from tuning.by_name import AUDITED

GRADER_ONLY = ("coverage",)  # its problems are in the files of samples


def with_source(
    study: StudyConfig, verb: str, reads: tuple[str, ...], compares: bool
) -> StudyConfig:
    """Returns the study with the datasets on the hub that a benchmark stands for: in place of its
    name in `data`, of missing data of a command that `compares` checkpoints, of a missing
    task.test, and of a missing prompt.shots_data where shots are drawn. Where `data` are what a
    model learns from, the name stands for the training split.

    A file or folder with the name of a benchmark is used as a file. Raises UserError for settings
    that do not fit the benchmark, and if it has no such split.
    """
    if "task" not in reads or verb in GRADER_ONLY:
        return study
    data = study.data if "data" in reads else None
    named = _named(data) if data else None
    task = _as_benchmark(study.task, named) if named else study.task
    if not isinstance(task, BenchmarkConfig):
        return study
    update: dict[str, Any] = {"task": task}
    if named:
        benchmark = BENCHMARKS.get(named)
        learns = verb in AUDITED
        split = "training split" if learns else "data"
        source = benchmark.shots if learns else benchmark.source
        update["data"] = _path(benchmark, source, split)
    elif data is None and task.test is None:
        path = _path(task.found, task.found.source)
        update |= {"data": path} if compares else {"task": task.model_copy(update={"test": path})}
    is_published = "data" in update or update["task"].test != task.test
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


def _as_benchmark(task: TaskConfig, name: str) -> BenchmarkConfig:
    """Returns the task of a benchmark that `data` names, with the settings that `task` has."""
    if isinstance(task, BenchmarkConfig):
        return task
    is_file = isinstance(task, FileConfig)
    own = {key: getattr(task, key) for key in task.model_fields_set - {"kind"}} if is_file else {}
    try:
        return BenchmarkConfig(benchmark=name, **own)
    except ValidationError as error:
        raise UserError(str(error.errors()[0]["ctx"]["error"])) from error


def _named(data: Path) -> str | None:
    """Returns the benchmark that a path names, unless there is such a file."""
    name = data.name
    here = data.parent in (Path.cwd(), Path())
    return name if here and name in BENCHMARKS.names() and not data.exists() else None


def _path(benchmark: Benchmark, source: DatasetName | None, what: str = "data") -> Path:
    if source is None:
        raise refuse(
            f"the benchmark {benchmark.name} has no {what} of its own",
            benchmark.name,
            "a file in its form",
            f"set --data FILE and task.benchmark={benchmark.name}",
        )
    return Path(str(source))


def _stopping(decoder: DecoderConfig, stop: tuple[str, ...]) -> DecoderConfig:
    """Returns the decoder with these texts as `stop`, unless it has its own or draws trees, whose
    branches cannot end at a text."""
    if "stop" in decoder.model_fields_set or decoder.tree_samples:
        return decoder
    return decoder.model_copy(update={"stop": stop})
