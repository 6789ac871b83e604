"""The two documents that say which files a result or a set has: they are read with suspicion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forkdiv.core import store_record
from forkdiv.core.remote.storage_errors import StorageFailed
from forkdiv.core.store_record import RECORD

PARTS = "parts.json"


def read_record(data: bytes, where: str) -> dict[str, Any]:
    """Returns a record. Raises StorageFailed if it is damaged."""
    try:
        record: dict[str, Any] = json.loads(data)
        str(record["upload"]), float(record["started"]), dict(record["digests"])
        for name, size in record["files"].items():
            int(size), str(record["digests"][name])
            _check_inside(name)
    except store_record.PARSE_ERRORS as error:
        raise _damaged(f"{where}/{RECORD}", error) from error
    return record


def read_parts(data: bytes, where: str) -> dict[str, Any]:
    """Returns the list of files of a set. Raises StorageFailed if it is damaged."""
    try:
        content: dict[str, Any] = json.loads(data)
        if content["identity"] is not None:
            str(content["identity"])
        for name, part in content["parts"].items():
            int(part["size"]), float(part["written"]), str(part["sha256"]), str(part["upload"])
            _check_inside(name)
    except store_record.PARSE_ERRORS as error:
        raise _damaged(f"{where}/{PARTS}", error) from error
    return content


def _check_inside(name: str) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name[:80]} is outside the folder")


def _damaged(where: str, error: Exception) -> StorageFailed:
    text = " ".join(str(error).split())[:160]
    return StorageFailed(
        f"{where} is damaged ({type(error).__name__}: {text}); run `forkdiv store gc --remove`, so "
        "that the result is made again"
    )
