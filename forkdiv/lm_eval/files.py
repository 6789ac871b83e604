"""Which files are meant by a path: one that was named, or a folder's newest of every task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forkdiv.core.errors import UserError, refuse

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[^_]*)\.jsonl")
ALLOWED = "samples_*.jsonl of lm_eval --log_samples, or a folder of them"


@dataclass(frozen=True, slots=True)
class SamplesFile:
    """A file; `task` and `date` are those in its name, empty where that is not the tool's."""

    path: Path
    task: str = ""
    date: str = ""


def find(paths: Iterable[Path]) -> list[SamplesFile]:
    """The files that are meant. Raises UserError where a path leads to none, or to two models."""
    files = [file for path in paths for file in _of_path(path)]
    twice = [one.path for at, one in enumerate(files) if one.path in _paths(files[:at])]
    if twice:
        raise refuse("a samples file is named twice", twice[0], "each once", "drop one of them")
    return files


def _paths(files: Sequence[SamplesFile]) -> list[Path]:
    return [one.path for one in files]


def _of_path(path: Path) -> list[SamplesFile]:
    path = path.absolute()
    if path.is_dir():
        return _newest(_folder(path))
    if not path.is_file():
        raise refuse("there are no samples", path, ALLOWED, "correct the path")
    if path.name.startswith("results_"):
        hint = "name the samples_*.jsonl beside it, or the folder"
        raise refuse("a results file holds no samples", path, ALLOWED, hint)
    return [_named(path)]


def _named(path: Path) -> SamplesFile:
    match = _NAME.fullmatch(path.name)
    return SamplesFile(path, match["task"], match["date"]) if match else SamplesFile(path)


def _folder(path: Path) -> Path:
    """The folder that holds the files: the tool puts them into one per model."""
    if _inside(path):
        return path
    models = [one for one in sorted(path.iterdir()) if one.is_dir() and _inside(one)]
    if len(models) == 1:
        return models[0]
    if not models:
        raise refuse("a folder holds no samples", path, ALLOWED, "run lm_eval with --log_samples")
    raise _several(path, models)


def _several(path: Path, models: Sequence[Path]) -> UserError:
    names = ", ".join(one.name for one in models[:5]) + (" …" if models[5:] else "")
    return refuse(
        "a folder holds the samples of several models",
        f"{len(models)} in {path}: {names}",
        "those of one model",
        "name one model's folder, and another with --base",
    )


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.glob("samples_*.jsonl"))


def _newest(folder: Path) -> list[SamplesFile]:
    """One of each task: the tool never overwrites, and its own viewers take the newest too."""
    newest: dict[str, SamplesFile] = {}
    for file in map(_named, _inside(folder)):
        name = file.task or file.path.name
        if name not in newest or newest[name].date < file.date:
            newest[name] = file
    return list(newest.values())
