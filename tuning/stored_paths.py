"""Settings that name files of results on S3-compatible storage, which may not be on this machine:
the base and the data of a study, or a checkpoint that a person names by its path in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import Store


def download(study: StudyConfig, weights: bool = True) -> None:
    """Copies what the settings name to this machine, if place.store has it; without `weights`, the
    weights of checkpoints are left out."""
    if store := Store.remote_of(study.place):
        for path in _paths(study):
            _ = store.whole(path) if weights else store.present(path)


def _paths(settings: BaseModel) -> Iterator[Path]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _paths(value)
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Path) and one.is_absolute():
                yield one
