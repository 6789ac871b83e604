"""Digests of the weight files of checkpoints that forkdiv writes, to detect later changes."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path

from forkdiv.core.errors import refuse, shortened
from forkdiv.models.files import is_file_name, read_json
from forkdiv.models.weights import weight_files

DIGESTS = "digests.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def write_digests(folder: Path) -> None:
    """Writes the SHA-256 of every safetensors file in the folder to digests.json."""
    digests = {file.name: _digest(file) for file in sorted(folder.glob("*.safetensors"))}
    (folder / DIGESTS).write_text(json.dumps(digests, indent=1))


def check_digests(folder: Path) -> None:
    """Raises UserError if weights changed, or were added to the model, since forkdiv wrote them. A
    folder without digests.json was not written by forkdiv and is not checked.

    A file is read again only if its size or modification time has changed.
    """
    if not (folder / DIGESTS).exists():
        return
    recorded = _recorded(folder)
    for name, expected in recorded.items():
        file = folder / name
        actual = _digest(file) if file.is_file() else "no such file"
        if actual != expected:
            raise refuse(
                f"the weights {file} have changed since they were written",
                f"SHA-256 {actual[:16]}" if file.is_file() else actual,
                f"SHA-256 {expected[:16]}, as recorded in {DIGESTS}",
                f"create the checkpoint again; if you changed it on purpose, delete {DIGESTS}",
            )
    added = [file.name for file in weight_files(folder) if file.name not in recorded]
    if added:
        raise refuse(
            f"the weights of {folder} have changed since they were written",
            f"{added[0]}, which {DIGESTS} does not name",
            f"the files in {DIGESTS}: {', '.join(recorded) or 'none'}",
            f"create the checkpoint again; if you changed it on purpose, delete {DIGESTS}",
        )


def _recorded(folder: Path) -> dict[str, str]:
    """Returns the recorded digests by file name."""
    recorded = read_json(folder / DIGESTS)
    for name, digest in recorded.items():
        if not is_file_name(name) or not _SHA256.fullmatch(str(digest)):
            raise refuse(
                f"{folder / DIGESTS} is damaged",
                shortened(f"{name!r}: {digest!r}"),
                "names of files in the same folder, and their SHA-256",
                f"create the checkpoint again; if you changed it on purpose, delete {DIGESTS}",
            )
    return recorded


def _digest(file: Path) -> str:
    state = file.stat()
    return _cached_digest(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _cached_digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
