"""The record of an artifact: what decided it, which files it has, and what it took to make.

A record is written beside the data when an artifact is published, and checked when it is found:
truncated, foreign and changed files are named, with what to do.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity, fingerprint_of

RECORD = "record.json"
DIGEST_BYTES = 64 * 2**20  # larger files are checkpoints, which have digests of their own
MAX_JSON_BYTES = 2**28  # of a record or a summary
QUICK_BYTES = 2**20  # files up to this size are compared with their digest at each look-up
# What parsers of JSON, Parquet and NumPy files raise for damaged data
PARSE_ERRORS = (
    ValueError,
    ArithmeticError,  # an infinite size or time
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,  # JSON of thousands of levels
    OSError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
)
REMEDY = "so that the result is computed again (`forkdiv store verify` lists all that is damaged)"


class DamagedResult(InvalidResult):
    """A stored file is truncated, foreign or changed. `path` is the file, `folder` its result."""

    def __init__(self, path: Path, folder: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}; delete {folder} {REMEDY}")
        self.path, self.folder, self.problem = path, folder, problem

    def __reduce__(self) -> tuple[type[DamagedResult], tuple[Path, Path, str]]:
        return DamagedResult, (self.path, self.folder, self.problem)  # it crosses Ray's processes


def make(
    identity: Identity, folder: Path, started: float, most_bytes: int | None = DIGEST_BYTES
) -> dict[str, Any]:
    """Returns the record of a folder that is complete. `started` is in seconds since the epoch;
    files of more than `most_bytes` get no digest (None: all files get one)."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f != folder / RECORD]
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in files}
    return {
        "fingerprint": identity.fingerprint,
        "identity": identity.describe(),
        "parents": dict(identity.parents),
        "files": sizes,
        "digests": {
            name: digest(folder / name)
            for name, size in sizes.items()
            if most_bytes is None or size <= most_bytes
        },
        "started": started,
        "seconds": round(time.time() - started, 3),
    }


def read(folder: Path) -> dict[str, Any]:
    """Returns the record of an artifact's folder. Raises DamagedResult if it is damaged, or belongs
    to another result."""
    path = folder / RECORD
    with reading(path, folder):
        record: dict[str, Any] = read_json(path)
        named, stage = str(record["fingerprint"]), str(record["identity"]["stage"])
        actual = fingerprint_of(record["identity"])
        float(record["seconds"])
        for name, size in record["files"].items():
            int(size)
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{name[:80]} is outside the folder")
        dict(record.get("digests", {}))
    if named != actual:
        problem = f"is damaged: its content has fingerprint {actual[:8]}, it says {named[:8]}"
        raise DamagedResult(path, folder, problem)
    if (stage, named) != (folder.parent.name, folder.name):
        problem = f"belongs to another result: {stage} {named[:8]}"
        raise DamagedResult(path, folder, problem)
    return record


def read_json(path: Path) -> Any:
    """Returns the content of a small file of a result. Raises one of PARSE_ERRORS."""
    if not path.is_file():
        raise ValueError("not a regular file")
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise ValueError(f"{size:,} bytes, more than {MAX_JSON_BYTES:,}")
    return json.loads(path.read_text(encoding="utf-8"))


def check_files(
    folder: Path,
    record: Mapping[str, Any],
    most_bytes: int = QUICK_BYTES,
    may_miss: str | None = None,
) -> None:
    """Raises DamagedResult if a file is missing, or has another size or content than recorded.
    The content is compared for files of up to `most_bytes`. Files whose name ends with `may_miss`
    may be missing."""
    digests = record.get("digests", {})  # records of older versions have none
    for name, size in record["files"].items():
        file = folder / name
        if may_miss and name.endswith(may_miss) and not file.exists():
            continue
        with reading(folder / RECORD, folder):  # a name may be longer than names can be
            problem = f"has {file.stat().st_size} bytes" if file.is_file() else "is missing"
        if problem != f"has {size} bytes":
            raise DamagedResult(file, folder, f"{problem}; allowed: {size} bytes, as published")
        if name in digests and size <= most_bytes and digest(file) != digests[name]:
            raise DamagedResult(file, folder, "has changed since it was published (bit rot?)")


@contextmanager
def reading(path: Path, folder: Path) -> Iterator[None]:
    """Turns what a parser raises in the block into a DamagedResult that names the file."""
    try:
        yield
    except PARSE_ERRORS as error:
        text = " ".join(str(error).split())[:160]
        raise DamagedResult(path, folder, f"is damaged ({type(error).__name__}: {text})") from error


def digest(file: Path) -> str:
    """Returns the SHA-256 of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
