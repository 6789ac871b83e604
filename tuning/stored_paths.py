"""Settings that name files of results on S3-compatible storage, which may not be on this machine:
the base and the data of a study, or a checkpoint that a person names by its path in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import Store


def download(study: StudyConfig, weights: bool = True, others: Iterable[object] = ()) -> None:
    """Copies what the settings name to this machine, if place.store has it; without `weights`, the
    weights of checkpoints are left out. `others` are paths, or lists of paths, beside them."""
    if store := Store.remote_of(study.place):
        for path in (*_paths_of(study), *_paths_in(others)):
            _ = store.whole(path) if weights else store.present(path)


def _paths_of(settings: BaseModel) -> Iterator[Path]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _paths_of(value)
        yield from _paths_in([value])


def _paths_in(values: Iterable[object]) -> Iterator[Path]:
    for value in values:
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Path):
                yield one.absolute()
