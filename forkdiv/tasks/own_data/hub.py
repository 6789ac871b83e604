"""Datasets of the Hugging Face Hub by name: the rows of one split, as one data file.

The library datasets finds subsets, splits and files as everywhere else, by the dataset's card and
the names of its files. Only the files of the split are downloaded, into the hub's own cache, and no
code of the repository runs. The rows are written to the store, which every node can read; there
they are identified by their content as any data file, so that two revisions with the same rows give
the same results, and a revision with other rows gives others.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.errors import UserError, refuse
from forkdiv.core.files import size_text
from forkdiv.core.fingerprint import Identity
from forkdiv.core.hub import Repository, listed, open_repository
from forkdiv.core.hub_names import DatasetName
from forkdiv.core.store import Store
from forkdiv.tasks.own_data.hub_rows import Written, check_size, read_by_library, write_rows

# the files in which a repository describes its subsets and splits
DESCRIPTIONS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
WHOLE = "default"  # the subset of a dataset that names none


@dataclass(frozen=True)
class NamedData:
    """The rows of a split in a data file of the store. `subset` is None if the dataset has only
    one; `left_out` are columns of images, audio or other bytes."""

    path: Path
    commit: str
    subset: str | None
    split: str
    rows: int
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        subset = f"subset {self.subset}, " if self.subset else ""
        left = f", without the columns {listed(self.left_out)}" if self.left_out else ""
        return f"{subset}split {self.split}, {self.rows:,} rows{left}"


def fetch_dataset(
    name: DatasetName,
    store: Store,
    show: Callable[[str], None],
    default_split: str = "test",
) -> NamedData:
    """Returns the rows of a split of a dataset as a data file in the store: JSONL, or the JSON or
    CSV file that the split consists of.

    Without `name.subset` the dataset's default or only subset is used; without `name.split` its
    only split, else `default_split`. `show` gets a line before a download, and one where another
    process computes the same file. With HF_HUB_OFFLINE=1, or without a network, the commit and the
    files come from the hub's cache, or the rows from the store.

    Raises UserError if the dataset, its revision, subset or split is not there (with the names of
    those that are), if it may not be read, or if it needs code of its own; InvalidResult for an
    interrupted download.
    """
    repository = open_repository("dataset", name)
    asked = {
        "repository": name.repo,
        "commit": repository.commit,
        "subset": name.subset,
        "split": name.split,
        "default_split": None if name.split else default_split,
    }

    def build(folder: Path) -> None:
        with _opened(repository, name, default_split) as split:
            check_size({file: repository.files[file] for file in split.files})
            if size := repository.missing(split.files):
                show(f"downloading {name} from the Hugging Face Hub: {size_text(size)} of data")
            written = split.write(folder)
        about = {
            "file": written.path.name,
            "subset": split.subset,
            "split": split.name,
            "rows": written.rows,
            "left_out": list(written.left_out),
        }
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")

    artifact = store.obtain(Identity("source", asked), build, show)
    with artifact.reading("about.json") as path:
        about = json.loads(path.read_text(encoding="utf-8"))
        return NamedData(
            artifact.path / about["file"],
            repository.commit,
            about["subset"],
            about["split"],
            about["rows"],
            tuple(about["left_out"]),
        )


@dataclass(frozen=True)
class _Split:
    """One split of one subset; `files` are its files in the repository."""

    repository: Repository
    subset: str | None
    name: str
    files: Sequence[str]
    builder: Any

    def write(self, folder: Path) -> Written:
        """Writes the rows into the folder, in a file named after the dataset, subset and split, as
        messages and dataset cards call it."""
        parts = [self.repository.name.repo, *([self.subset] if self.subset else []), self.name]
        stem = re.sub(r"[^\w.-]+", "-", "-".join(parts))
        source = self.repository.folder(self.files)
        with read_by_library(self.repository.name):
            local = [source / file for file in self.files]
            return write_rows(self.builder, self.name, local, folder, stem)


@contextmanager
def _opened(repository: Repository, name: DatasetName, default_split: str) -> Iterator[_Split]:
    """Yields the split. The library reads the repository in a folder that has its descriptions and
    the names of all its files, so that it needs none of them for finding those of the split."""
    files = repository.files
    _check_no_script(repository)
    described = [file for file in DESCRIPTIONS if file in files]
    source = repository.folder(described) if described else None
    # named as the repository is: the library calls the dataset so
    with tempfile.TemporaryDirectory(prefix="forkdiv-") as above:
        outline = Path(above) / name.repo.rpartition("/")[2]
        outline.mkdir()
        for file in files:
            (outline / file).parent.mkdir(parents=True, exist_ok=True)
            if source and file in described:
                (outline / file).write_bytes((source / file).read_bytes())
            else:
                (outline / file).touch()
        yield _find(repository, name, default_split, outline)


def _find(repository: Repository, name: DatasetName, default_split: str, outline: Path) -> _Split:
    with read_by_library(name):
        subset, arguments = _subset(name, outline)
        builder = _builder(outline, **arguments)
        # resolved: the folder may be reached through a link
        root = outline.resolve()
        files = {
            str(split): [Path(path).resolve().relative_to(root).as_posix() for path in paths]
            for split, paths in builder.config.data_files.items()
        }
    split = _chosen_split(name, subset, list(files), default_split)
    _check_all_parts(repository, files[split])
    return _Split(repository, subset, split, files[split], builder)


def _builder(outline: Path, **arguments: Any) -> Any:
    from datasets import load_dataset_builder

    return load_dataset_builder(str(outline), **arguments)


def _subset(name: DatasetName, outline: Path) -> tuple[str | None, dict[str, str]]:
    """Returns the subset (None: the dataset has only one) and how the library is asked for it: a
    configuration of the dataset's card, or else a folder of the repository."""
    from datasets import get_dataset_config_names
    from datasets.inspect import get_dataset_default_config_name

    try:
        subsets = get_dataset_config_names(str(outline))
    except FileNotFoundError:  # no file that the library can read
        raise _no_data(name, outline) from None
    only = subsets == [WHOLE]
    if name.subset is None:
        default = None if only else get_dataset_default_config_name(str(outline))
        if only or default:
            return default, {"name": default} if default else {}
        came = f"{name.repo} without a subset"
    elif name.subset in subsets:
        return (None if only else name.subset), {"name": name.subset}
    elif only and (outline / name.subset).is_dir():
        return name.subset, {"data_dir": name.subset}
    else:
        came = name.subset
    folders = sorted(entry.name for entry in outline.iterdir() if entry.is_dir())
    known = (folders if only else subsets) or [WHOLE]
    example = name.repo if known == [WHOLE] else f"{name.repo}/{known[0]}"
    raise refuse(
        f"the dataset {name.repo} needs the name of one of its subsets"
        if name.subset is None
        else f"the dataset {name.repo} has no subset of this name",
        came,
        listed(known),
        f"write {example}" + (f":{name.split}" if name.split else ""),
    )


def _chosen_split(
    name: DatasetName, subset: str | None, splits: Sequence[str], default_split: str
) -> str:
    if name.split in splits:
        return str(name.split)
    if name.split is None and len(splits) == 1:
        return splits[0]
    if name.split is None and default_split in splits:
        return default_split
    whole = f"{name.repo}/{subset}" if subset else name.repo
    raise refuse(
        f"the dataset {whole} has no split of this name"
        if name.split
        else f"the dataset {whole} has several splits",
        name.split or f"{name} without a split",
        listed(splits),
        f"write {whole}:{splits[0]}",
    )


def _check_no_script(repository: Repository) -> None:
    """Raises UserError for a dataset that a Python script of its repository reads."""
    script = f"{repository.name.repo.rpartition('/')[2]}.py"
    if script in repository.files:
        raise refuse(
            f"the dataset {repository.name.repo} is read by its own Python code, which forkdiv "
            "never runs",
            script,
            "a dataset of data files (Parquet, JSON, CSV …)",
            "the hub converts most of them to Parquet: try "
            f"{repository.name.repo}/SUBSET:SPLIT@refs/convert/parquet",
        )


def _check_all_parts(repository: Repository, files: Sequence[str]) -> None:
    """Raises UserError if a file NAME-00000-of-00003 lacks its companions, as in a cache that was
    filled in part by another program."""
    missing = set()
    for file in files:
        if match := re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})(.*)", file):
            for part in range(int(match[3])):
                other = f"{match[1]}-{part:05}-of-{match[3]}"
                if not any(known.startswith(other) for known in files):
                    missing.add(other)
    if missing:
        raise refuse(
            f"the dataset {repository.name} is incomplete",
            f"no {listed(sorted(missing))}",
            "all parts of the split",
            "run the same command with a network, so that the rest is downloaded",
        )


def _no_data(name: DatasetName, outline: Path) -> UserError:
    found = sorted(
        path.relative_to(outline).as_posix() for path in outline.rglob("*") if path.is_file()
    )
    return refuse(
        f"the dataset {name} has no files that can be read",
        listed(found),
        "Parquet, JSON, JSONL, CSV, Arrow or text files",
        "name another dataset or revision",
    )
