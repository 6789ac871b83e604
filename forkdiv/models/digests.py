"""Digests of the weight files of checkpoints that forkdiv writes, to detect later changes."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from forkdiv.core.errors import refuse

DIGESTS = "digests.json"


def write_digests(folder: Path) -> None:
    """Writes the SHA-256 of every safetensors file in the folder to digests.json."""
    digests = {file.name: _digest(file) for file in sorted(folder.glob("*.safetensors"))}
    (folder / DIGESTS).write_text(json.dumps(digests, indent=1))


def check_digests(folder: Path) -> None:
    """Raises UserError if weights changed since forkdiv wrote them. A folder without digests.json
    was not written by forkdiv and is not checked.

    A file is read again only if its size or modification time has changed.
    """
    if not (folder / DIGESTS).is_file():
        return
    for name, expected in json.loads((folder / DIGESTS).read_text()).items():
        file = folder / name
        actual = f"SHA-256 {_digest(file)[:16]}" if file.is_file() else "no such file"
        if actual != f"SHA-256 {expected[:16]}":
            raise refuse(
                f"the weights {file} have changed since they were written",
                actual,
                f"SHA-256 {expected[:16]}, as recorded in {DIGESTS}",
                f"create the checkpoint again; if you changed it on purpose, delete {DIGESTS}",
            )


def _digest(file: Path) -> str:
    state = file.stat()
    return _cached_digest(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _cached_digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
