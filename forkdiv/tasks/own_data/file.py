"""What every format of file comes down to: columns, rows, and rows that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.errors import UserError, refuse

NOT_UTF8 = "is not UTF-8"


@dataclass(frozen=True, slots=True)
class Record:
    """One row as the file holds it."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read, and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class RowFile:
    """A file that could be opened. `records` reads the named columns, rows in order.

    `unit` is what a row's number counts, from 1: physical lines (a CSV row is at its first),
    items of a JSON list, or rows. `blank` counts lines with nothing on them, which are no rows.
    """

    unit: str
    columns: tuple[str, ...]
    records: Callable[[Sequence[str]], Iterator[Record | Broken]]
    blank: int = 0


def loaded(path: Path, unit: str, rows: Sequence[Record | Broken], blank: int = 0) -> RowFile:
    """A file whose rows are all in memory; its columns are those that any row has.

    Raises UserError where there are no rows, or none can be read.
    """
    if not rows:
        raise no_rows(path)
    names: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Record):
            names.update(dict.fromkeys(row.values))
    if not names and isinstance(first := rows[0], Broken):
        raise unreadable(path, f"no row of it can be read; {unit} {first.line} {first.reason}")
    return RowFile(unit, tuple(names), lambda wanted: iter(rows), blank)


def no_rows(path: Path) -> UserError:
    return refuse("a file of the task is empty", path, "at least one row", "correct the path")


def unreadable(path: Path, why: str) -> UserError:
    return refuse(
        "a file of the task cannot be read",
        f"{path}: {why}",
        "UTF-8 JSONL, a JSON list, CSV with a header, Parquet, or a folder saved by datasets",
        "mend the file or correct task.format",
    )


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def quoted(text: str, limit: int = 40) -> str:
    """In quotes and on one line, shortened: what a message shows of a user's text."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
