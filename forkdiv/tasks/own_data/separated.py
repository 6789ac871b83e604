"""Readers of CSV and TSV. A row that cannot be read does not affect the other rows; if the
boundaries of rows cannot be determined, the file is refused."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forkdiv.tasks.own_data.file import (
    NOT_UTF8,
    Broken,
    Record,
    RowFile,
    in_memory,
    no_rows,
    unreadable,
)
from forkdiv.tasks.own_data.lines import text_lines


def read_csv(path: Path) -> RowFile:
    """Reads comma-separated values with a header; quoted fields may contain line breaks."""
    return _read_separated(path, ",")


def read_tsv(path: Path) -> RowFile:
    """Reads tab-separated values with a header, with the quotes of CSV."""
    return _read_separated(path, "\t")


def _read_separated(path: Path, separator: str) -> RowFile:
    with _fields_of_any_length():
        rows = list(_rows(path, text_lines(path), separator))
    filled = [row for row in rows if not isinstance(row[1], list) or row[1]]
    if not filled:
        raise no_rows(path)
    header = _header(path, filled[0][1], separator)
    records = [_record(line, fields, header) for line, fields in filled[1:]]
    return in_memory(path, "line", records, len(rows) - len(filled))


def _rows(
    path: Path, lines: Iterable[str], separator: str
) -> Iterator[tuple[int, list[str] | str]]:
    """Yields the first physical line of each row with its fields, or with an error message.

    After an error the reader continues with the next physical line.
    """
    reader = csv.reader(lines, strict=True, delimiter=separator)
    while True:
        first = reader.line_num + 1
        try:
            yield first, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise unreadable(path, f"line {first} has a quote that is never closed") from error
            quotes = " (a quote inside a quoted field is written twice, not with a backslash)"
            hint = quotes if "expected after" in str(error) else ""
            yield first, f"is invalid CSV: {error}{hint}"


def _header(path: Path, fields: list[str] | str, separator: str) -> list[str]:
    if isinstance(fields, str):
        raise unreadable(path, f"its header {fields}")
    if not _is_utf8(fields):
        raise unreadable(path, f"its header {NOT_UTF8}")
    twice = [name for name in fields if name and fields.count(name) > 1]
    if twice:
        raise unreadable(path, f"its header has the column {twice[0]!r} twice")
    other = next((mark for mark in ";\t|," if mark != separator and mark in fields[0]), None)
    if len(fields) == 1 and other:
        raise unreadable(
            path,
            f"its header is one column, {fields[0]!r}; columns are separated by {separator!r} "
            f"here, not by {other!r} (tabs: task.format=tsv)",
        )
    return fields


def _record(line: int, fields: list[str] | str, header: list[str]) -> Record | Broken:
    if isinstance(fields, str):
        return Broken(line, fields)
    if len(fields) != len(header):
        return Broken(line, f"has {len(fields)} fields, but the header has {len(header)}")
    if not _is_utf8(fields):
        return Broken(line, NOT_UTF8)
    return Record(line, dict(zip(header, fields, strict=True)))


def _is_utf8(fields: Iterable[str]) -> bool:
    try:
        "".join(fields).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lifts the csv module's limit of 128 KiB per field, which long solutions can exceed."""
    usual = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(usual)
