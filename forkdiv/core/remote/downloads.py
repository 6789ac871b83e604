"""Downloads of files into a cache, each compared with its digest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forkdiv.core import store_record
from forkdiv.core.errors import InvalidResult
from forkdiv.core.remote.cache import Cache
from forkdiv.core.remote.objects import Objects
from forkdiv.core.remote.storage_errors import StorageFailed


@dataclass(frozen=True)
class Wanted:
    """A file and the object that it is a copy of. `written` is the time that it gets, in seconds
    since the epoch: the same on every machine, as a changed time is taken for changed weights."""

    file: Path
    key: str
    size: int
    sha256: str
    written: float


def download(objects: Objects, cache: Cache, wanted: Sequence[Wanted]) -> None:
    """Downloads files to folders of the cache that exist or not.

    Raises StorageFailed for an object that is missing or has other content than was published, and
    InvalidResult if the disk is full.
    """
    if not wanted:
        return
    cache.make_room(sum(one.size for one in wanted))
    with disk_errors(cache.folder):
        for one in wanted:
            one.file.parent.mkdir(parents=True, exist_ok=True)
        objects.download({one.file: one.key for one in wanted})
    for one in wanted:
        if (actual := store_record.digest(one.file)) != one.sha256:
            raise StorageFailed(
                f"{objects.url}/{one.key} is damaged: got SHA-256 {actual[:16]}; allowed: "
                f"{one.sha256[:16]}, as published; run `forkdiv store gc --remove`, so that it is "
                "made again"
            )
        os.utime(one.file, (one.written, one.written))


@contextmanager
def disk_errors(cache: Path) -> Iterator[None]:
    """Turns a full disk in the block into an InvalidResult that says what to do."""
    try:
        yield
    except OSError as error:
        raise InvalidResult(
            f"files cannot be written to the cache {cache}: {error.strerror or error}; "
            "make room on its disk, lower place.cache_gib, or set place.cache to another disk"
        ) from error
