"""Resolves paths to samples files: a named file, or the newest file of each task in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forkdiv.core.errors import UserError, refuse
from forkdiv.core.files import require_regular

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[^_]*)\.jsonl")
ALLOWED = "samples_*.jsonl of lm_eval --log_samples, or a folder of them"


@dataclass(frozen=True, slots=True)
class SamplesFile:
    """A samples file. `task` and `date` are parsed from its name; empty for other names."""

    path: Path
    task: str = ""
    date: str = ""


def find(paths: Iterable[Path]) -> list[SamplesFile]:
    """Returns the samples files at the paths.

    Raises UserError if a path has no samples files, or those of several models.
    """
    files = [file for path in paths for file in _files_at(path)]
    repeated = [file.path for at, file in enumerate(files) if file.path in _paths(files[:at])]
    if repeated:
        raise refuse(
            "a samples file is listed twice", repeated[0], "each file once", "remove one of them"
        )
    return files


def _paths(files: Sequence[SamplesFile]) -> list[Path]:
    return [file.path for file in files]


def _files_at(path: Path) -> list[SamplesFile]:
    path = path.absolute()
    if path.is_dir():
        return _newest_of_each_task(_samples_folder(path))
    if not path.exists():
        raise refuse("the samples path does not exist", path, ALLOWED, "correct the path")
    require_regular(path, "a samples file cannot be read", "correct the path")
    if path.name.startswith("results_"):
        hint = "use the samples_*.jsonl beside it, or the folder"
        raise refuse("a results file contains no samples", path, ALLOWED, hint)
    return [_samples_file(path)]


def _samples_file(path: Path) -> SamplesFile:
    match = _NAME.fullmatch(path.name)
    return SamplesFile(path, match["task"], match["date"]) if match else SamplesFile(path)


def _samples_folder(path: Path) -> Path:
    """Returns the folder that contains the files: lm_eval creates one folder for each model."""
    if _samples_files(path):
        return path
    models = [
        subfolder
        for subfolder in sorted(path.iterdir())
        if subfolder.is_dir() and _samples_files(subfolder)
    ]
    if len(models) == 1:
        return models[0]
    if not models:
        raise refuse(
            "a folder contains no samples", path, ALLOWED, "run lm_eval with --log_samples"
        )
    raise _several_models(path, models)


def _several_models(path: Path, models: Sequence[Path]) -> UserError:
    names = ", ".join(model.name for model in models[:5]) + (" …" if models[5:] else "")
    return refuse(
        "a folder contains the samples of several models",
        f"{len(models)} in {path}: {names}",
        "the samples of one model",
        "set --samples to the folder of one model, and --base to the folder of its base",
    )


def _samples_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("samples_*.jsonl"))


def _newest_of_each_task(folder: Path) -> list[SamplesFile]:
    """Returns one file for each task: lm_eval never overwrites, and its viewers use the newest."""
    newest: dict[str, SamplesFile] = {}
    for file in map(_samples_file, _samples_files(folder)):
        name = file.task or file.path.name
        if name not in newest or newest[name].date < file.date:
            newest[name] = file
    return list(newest.values())
