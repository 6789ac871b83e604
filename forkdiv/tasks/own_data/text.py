"""Readers of JSONL, JSON and CSV. A row that cannot be read does not affect the other rows; if the
boundaries of rows cannot be determined, the file is refused."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from forkdiv.core.json_types import RepeatedKey, type_name
from forkdiv.tasks.own_data.file import (
    NOT_UTF8,
    Broken,
    Record,
    RowFile,
    in_memory,
    no_rows,
    unreadable,
)

BOM = b"\xef\xbb\xbf"


def read_jsonl(path: Path) -> RowFile:
    """Reads one object per line. Only a line feed ends a line, not other line separators."""
    rows: list[Record | Broken] = []
    blank = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1:
                _refuse_utf16(path, line)
                line = line.removeprefix(BOM)
            if line.strip():
                rows.append(_json_line(number, line))
            else:
                blank += 1
    return in_memory(path, "line", rows, blank)


def _json_line(number: int, line: bytes) -> Record | Broken:
    try:
        return _object(number, decode_json(line.rstrip(b"\r\n").decode("utf-8")))
    except UnicodeDecodeError as error:
        return Broken(number, f"{NOT_UTF8} at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return Broken(number, f"is invalid JSON: {error.msg} at character {error.pos + 1}")


def read_json(path: Path) -> RowFile:
    """Reads a list of objects. Raises UserError for invalid JSON, since its items are unknown."""
    data = path.read_bytes()
    _refuse_utf16(path, data)
    data = data.removeprefix(BOM)
    if not data.strip():
        raise no_rows(path)
    try:
        items = decode_json(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise unreadable(path, f"line {line} {NOT_UTF8}") from error
    except json.JSONDecodeError as error:
        hint = " (one object per line: task.format=jsonl)" if error.msg == "Extra data" else ""
        raise unreadable(
            path, f"line {error.lineno} is invalid JSON: {error.msg} at column {error.colno}{hint}"
        ) from error
    if not isinstance(items, list):
        hint = "(one object per line: task.format=jsonl)"
        raise unreadable(path, f"it contains {type_name(items)}, not a list of objects {hint}")
    return in_memory(path, "item", [_object(at, item) for at, item in enumerate(items, 1)])


def decode_json(text: str) -> Any:
    """Decodes JSON with every number as Decimal, as written. Raises JSONDecodeError."""
    try:
        return _DECODER.decode(text)
    except InvalidOperation as error:
        raise json.JSONDecodeError("Number out of range", text, 0) from error
    except RecursionError as error:
        raise json.JSONDecodeError("Nested too deeply", text, 0) from error


def _object(number: int, value: Any) -> Record | Broken:
    if isinstance(value, dict):
        return Record(number, value)
    allowed = "" if isinstance(value, RepeatedKey) else ", not an object"
    return Broken(number, f"is {type_name(value)}{allowed}")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any] | RepeatedKey:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    keys = [key for key, _ in pairs]
    return RepeatedKey(next(key for key in keys if keys.count(key) > 1))


# Decimal accepts an integer of any length, and keeps a fraction as written
_DECODER = json.JSONDecoder(
    object_pairs_hook=_each_key_once, parse_int=Decimal, parse_float=Decimal
)


def read_csv(path: Path) -> RowFile:
    """Reads comma-separated values with a header; quoted fields may contain line breaks."""
    with path.open("rb") as start:
        _refuse_utf16(path, start.read(2))
    # an invalid byte becomes a lone surrogate, so its row can be reported and the others read
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
        with _fields_of_any_length():
            rows = list(_csv_rows(path, lines))
    filled = [row for row in rows if not isinstance(row[1], list) or row[1]]
    if not filled:
        raise no_rows(path)
    header = _csv_header(path, filled[0][1])
    records = [_csv_record(line, fields, header) for line, fields in filled[1:]]
    return in_memory(path, "line", records, len(rows) - len(filled))


def _csv_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Yields the first physical line of each row with its fields, or with an error message.

    After an error the reader continues with the next physical line.
    """
    reader = csv.reader(lines, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            yield first, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise unreadable(path, f"line {first} has a quote that is never closed") from error
            yield first, f"is invalid CSV: {error}"


def _csv_header(path: Path, fields: list[str] | str) -> list[str]:
    if isinstance(fields, str):
        raise unreadable(path, f"its header {fields}")
    if not _is_utf8(fields):
        raise unreadable(path, f"its header {NOT_UTF8}")
    twice = [name for name in fields if name and fields.count(name) > 1]
    if twice:
        raise unreadable(path, f"its header has the column {twice[0]!r} twice")
    return fields


def _csv_record(line: int, fields: list[str] | str, header: list[str]) -> Record | Broken:
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


def _refuse_utf16(path: Path, start: bytes) -> None:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise unreadable(path, "it is UTF-16")
