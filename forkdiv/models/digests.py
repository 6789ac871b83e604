"""What a checkpoint of ours was when it was written: a digest of each of its weight files."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from forkdiv.core.errors import refuse

SEAL = "digests.json"


def seal(folder: Path) -> None:
    """Write the SHA-256 of every safetensors file beside them."""
    digests = {file.name: _of(file) for file in sorted(folder.glob("*.safetensors"))}
    (folder / SEAL).write_text(json.dumps(digests, indent=1))


def check_seal(folder: Path) -> None:
    """Refuse weights that are not as they were written; a folder without a seal is not ours.

    A file is read once for as long as its size and its time of change stay the same.
    """
    if not (folder / SEAL).is_file():
        return
    for name, digest in json.loads((folder / SEAL).read_text()).items():
        file = folder / name
        found = _of(file) if file.is_file() else "no such file"
        if found != digest:
            raise refuse(
                f"the weights {file} are not those that were written",
                f"SHA-256 {found[:16]}",
                f"{digest[:16]}, as {SEAL} has it",
                f"make the checkpoint again; or, if you changed it, delete {SEAL}",
            )


def _of(file: Path) -> str:
    state = file.stat()
    return _digest(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
