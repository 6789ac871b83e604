"""Readers of JSONL and JSON. A line of JSONL that cannot be read does not affect the others.

A JSON file is a list of objects. Also read are an object of columns
(`{"question": [...], "answer": [...]}`) and an object with one list of objects (`{"data": [...]}`).
JSONL in a file named .json is read too, and a list of objects in one named .jsonl.
"""

from __future__ import annotations

import json
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from forkdiv.core.errors import shortened
from forkdiv.core.files import size_text
from forkdiv.core.json_types import type_name
from forkdiv.tasks.own_data import lines
from forkdiv.tasks.own_data.file import (
    NOT_UTF8,
    Broken,
    Record,
    RowFile,
    in_memory,
    no_rows,
    unreadable,
)
from forkdiv.tasks.own_data.json_text import decode_json, reason, to_record
from forkdiv.tasks.own_data.lines import TOO_LONG, byte_lines, refuse_utf16

LONG_LINE = f"is longer than {size_text(lines.LONGEST_LINE)}"
CARRIAGE_RETURNS = (
    "has several rows separated by carriage returns only; convert the line ends to line feeds"
)


def read_jsonl(path: Path) -> RowFile:
    """Reads one object per line. Only a line feed ends a line, not other line separators.

    A file that is a list of objects is read as JSON.
    """
    rows: list[Record | Broken] = []
    blank = 0
    for number, line in byte_lines(path):
        if number == 1:
            refuse_utf16(path, line)
        if not line.strip():
            blank += 1
            continue
        if not rows and line.lstrip().startswith(b"["):
            return read_json(path)
        rows.append(_json_line(number, line))
    return in_memory(path, "line", rows, blank)


def _json_line(number: int, line: bytes) -> Record | Broken:
    if line == TOO_LONG:
        return Broken(number, LONG_LINE)
    try:
        text = line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        return Broken(number, f"{NOT_UTF8} at byte {error.start + 1}")
    try:
        return to_record(number, decode_json(text))
    except JSONDecodeError as error:
        if error.msg == "Extra data" and "\r" in text:
            return Broken(number, CARRIAGE_RETURNS)
        return Broken(number, f"is invalid JSON: {reason(error)} at character {error.pos + 1}")


def read_json(path: Path) -> RowFile:
    """Reads a list of objects. Raises UserError for invalid JSON, since its items are unknown."""
    data = lines.whole(path)
    if not data.strip():
        raise no_rows(path)
    try:
        value = decode_json(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise unreadable(path, f"line {line} {NOT_UTF8}; convert it to UTF-8") from error
    except JSONDecodeError as error:
        if error.msg == "Extra data" and _first_line_is_an_object(data):
            return read_jsonl(path)
        raise unreadable(
            path, f"line {error.lineno} is invalid JSON: {reason(error)} at column {error.colno}"
        ) from error
    items = value if isinstance(value, list) else _items(path, value)
    return in_memory(path, "item", [to_record(at, item) for at, item in enumerate(items, 1)])


def _first_line_is_an_object(data: bytes) -> bool:
    """Returns whether the first line is a whole object. Then the file is JSONL by another name."""
    first = next((line for line in data.split(b"\n") if line.strip()), b"")
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _items(path: Path, value: Any) -> list[Any]:
    """Returns the rows of a document that is not a list."""
    if isinstance(value, dict) and value:
        columns = list(value.values())
        lengths = {len(column) for column in columns if isinstance(column, list)}
        if all(isinstance(column, list) for column in columns) and not any(
            isinstance(item, dict) for column in columns for item in column
        ):
            if len(lengths) != 1:
                sizes = ", ".join(f"{shortened(key, 40)!r}: {len(value[key])}" for key in value)
                raise unreadable(path, f"its columns differ in length ({shortened(sizes, 200)})")
            return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
        lists = [column for column in columns if _is_list_of_objects(column)]
        if len(lists) == 1:
            return list(lists[0])
        if all(isinstance(column, dict) for column in columns):
            raise unreadable(
                path,
                "it contains an object of objects, not a list of objects (pandas: "
                "to_json(orient='records'))",
            )
    raise unreadable(path, f"it contains {type_name(value)}, not a list of objects")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
