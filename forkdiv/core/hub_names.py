"""Names of repositories on the Hugging Face Hub, as settings and options take them.

    org/name                             a model, or a dataset with one subset
    org/name@revision                    a branch, a tag or a commit of it
    org/dataset:test                     a split of a dataset
    org/dataset/subset:test@revision     a split of a subset (the hub calls it a configuration)

What exists on this machine under the same text is used instead, and `./org/name` is always a path.
A setting holds a name as a relative path, since the paths of settings are absolute; `is_name` tells
them apart. The command line replaces names by local files before a command starts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_REPOSITORY = r"(?P<repo>[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)"
_REVISION = r"(?:@(?P<revision>[\w.][\w./-]*))?"
_MODEL = re.compile(_REPOSITORY + _REVISION, re.ASCII)
_DATASET = re.compile(
    _REPOSITORY + r"(?:/(?P<subset>[^:@\s]+))?(?::(?P<split>[\w.-]+))?" + _REVISION, re.ASCII
)
# endings of files: a text with one of them is a path, although the file may be missing
_FILE = re.compile(
    r"\.(jsonl|ndjson|json|csv|tsv|parquet|arrow|feather|gz|zip|ya?ml|jinja|txt|py|safetensors|bin|gguf)",
    re.IGNORECASE,
)
MODEL_FORM = "org/name or org/name@revision"
DATASET_FORM = "org/dataset, org/dataset:split or org/dataset/subset:split, each with @revision"


@dataclass(frozen=True)
class ModelName:
    """A model on the hub; `revision` None is its default branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo + _at(self.revision)


@dataclass(frozen=True)
class DatasetName:
    """A dataset on the hub; `revision` None is its default branch, and `subset` and `split` None
    are those that `forkdiv.tasks.own_data.hub` chooses."""

    repo: str
    subset: str | None = None
    split: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        subset = f"/{self.subset}" if self.subset else ""
        split = f":{self.split}" if self.split else ""
        return f"{self.repo}{subset}{split}{_at(self.revision)}"


@dataclass(frozen=True)
class Source:
    """Where a setting's files came from: the name as it was written, and the commit that its
    revision was when the command started. `part` is the subset and split of a dataset."""

    setting: str
    name: str
    commit: str
    part: str = ""

    def __str__(self) -> str:
        part = f", {self.part}" if self.part else ""
        return f"{self.setting}: {self.name} is commit {self.commit} on the Hugging Face Hub{part}"


def _at(revision: str | None) -> str:
    return f"@{revision}" if revision else ""


def model_name(text: str) -> ModelName | None:
    """Returns the name of a model, or None for a text that cannot be one."""
    match = _MODEL.fullmatch(text)
    if match is None or _is_file(match["repo"]) or _climbs(match["revision"]):
        return None
    return ModelName(match["repo"], match["revision"])


def dataset_name(text: str) -> DatasetName | None:
    """Returns the name of a dataset, or None for a text that cannot be one."""
    match = _DATASET.fullmatch(text)
    if match is None or _is_file(text) or _climbs(match["subset"]) or _climbs(match["revision"]):
        return None
    return DatasetName(match["repo"], match["subset"], match["split"], match["revision"])


def path_text(value: object) -> object:
    """Returns a path as text, and other values unchanged. Pydantic refuses a Path from a validator
    where it reads JSON, as it does for the trials of a sweep."""
    return str(value) if isinstance(value, Path) else value


def model_or_path(value: object) -> object:
    """Returns what a setting for a checkpoint holds: an absolute path, or a name as a relative one.
    Other values than texts and paths are returned unchanged, for pydantic to refuse."""
    if not isinstance(value, str | Path):
        return value
    return _as_name(str(value)) if model_name(str(value)) else Path(value).absolute()


def dataset_or_path(value: object) -> object:
    """As `model_or_path`, for a setting for data."""
    if not isinstance(value, str | Path):
        return value
    return _as_name(str(value)) if dataset_name(str(value)) else Path(value).absolute()


def is_name(path: Path) -> bool:
    """Returns whether the path of a setting stands for a name on the hub."""
    return not path.is_absolute()


def shadowed(path: Path) -> str | None:
    """Returns the text `org/name` for which a folder or file of this machine is used, if `path` is
    one that such a text names from the current folder; else None."""
    try:
        text = path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return None
    return text if model_name(text) or dataset_name(text) else None


def _as_name(text: str) -> Path:
    path = Path(text)
    try:
        exists = path.exists()
    except OSError:  # the name is too long, or a folder above it cannot be entered
        exists = False
    return path.absolute() if exists else path


def _is_file(text: str) -> bool:
    return _FILE.fullmatch(PurePosixPath(text).suffix) is not None


def _climbs(text: str | None) -> bool:
    """Returns whether a part of a name would leave its folder in the cache."""
    return text is not None and ".." in PurePosixPath(text).parts
