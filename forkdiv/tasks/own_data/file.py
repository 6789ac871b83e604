"""The common form of all file formats: columns, rows, and rows that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.errors import UserError, refuse

NOT_UTF8 = "is not UTF-8"
FORMATS = (
    "JSONL, JSON, CSV or TSV with a header (UTF-8, also as .gz), Parquet, Arrow, or a folder saved "
    "by datasets"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it is in the file."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read, with the reason."""

    line: int
    reason: str


@dataclass(frozen=True)
class RowFile:
    """An open file. `records` yields the rows in order, with the requested columns.

    `unit` is what the numbers of rows count, from 1: physical lines (of a CSV row, its first
    line), items of a JSON list, or rows. `blank` counts empty lines, which are not rows.
    """

    unit: str
    columns: tuple[str, ...]
    records: Callable[[Sequence[str]], Iterator[Record | Broken]]
    blank: int = 0


def in_memory(path: Path, unit: str, rows: Sequence[Record | Broken], blank: int = 0) -> RowFile:
    """Returns a file whose rows are all in memory; its columns are those of all rows.

    Raises UserError if there are no rows, or none can be read.
    """
    if not rows:
        raise no_rows(path)
    names: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Record):
            names.update(dict.fromkeys(row.values))
    if not names and isinstance(first := rows[0], Broken):
        raise unreadable(path, f"none of its rows can be read; {unit} {first.line} {first.reason}")
    return RowFile(unit, tuple(names), lambda columns: iter(rows), blank)


def no_rows(path: Path) -> UserError:
    return refuse(
        "the data file is empty",
        path,
        "a file with at least one row",
        "correct the file or the path",
    )


def unreadable(path: Path, why: str) -> UserError:
    return refuse(
        "the data file cannot be read",
        f"{path}: {why}",
        FORMATS,
        "correct the file or task.format",
    )


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def quoted(text: str, limit: int = 40) -> str:
    """Returns a user's text for a message: in quotes, on one line, shortened to `limit`."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
