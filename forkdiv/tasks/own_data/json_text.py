"""JSON as users write it: numbers as written, and errors with their usual cause."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from json import JSONDecodeError
from typing import Any

from forkdiv.core.json_types import RepeatedKey, type_name
from forkdiv.tasks.own_data.file import Broken, Record


def decode_json(text: str) -> Any:
    """Decodes JSON with every number as Decimal, as written. Raises JSONDecodeError."""
    try:
        return _DECODER.decode(text)
    except InvalidOperation as error:
        raise JSONDecodeError("Number out of range", text, 0) from error
    except RecursionError as error:
        raise JSONDecodeError("Nested too deeply", text, 0) from error


def reason(error: JSONDecodeError) -> str:
    """Returns the decoder's message, with the usual cause if it can be seen."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if after[:1] == "\0":
        return f"{error.msg}: a null character"
    if error.msg == "Extra data" and after.strip() == ",":
        return f"{error.msg}: a comma after the object"
    if before.endswith(",") and after[:1] in ("}", "]"):
        return f"{error.msg}: a comma after the last value"
    if after[:1] == "'":
        return f"{error.msg}: single quotes, as Python writes them"
    return error.msg


def to_record(number: int, value: Any) -> Record | Broken:
    """Returns the record of a decoded object; a broken row for anything else."""
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
