"""Names of fields inside a column: `answer[0]`, `choices.label`, `meta.answers[0].text`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_STEP = re.compile(r"\.([^.\[\]]+)|\[(-?[0-9]{1,6})\]")


def column_of(name: str, columns: Sequence[str]) -> str | None:
    """Returns the column that a field is in: the name itself if there is such a column, else the
    part before its first step; None if neither is a column."""
    if name in columns:
        return name
    column = re.split(r"[.\[]", name, maxsplit=1)[0]
    steps = name[len(column) :]
    return column if column in columns and _STEP.sub("", steps) == "" else None


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """Returns the value of a field. Raises LookupError, with the part of the name that is missing,
    if the row does not have it."""
    if name in values:
        return values[name]
    column = re.split(r"[.\[]", name, maxsplit=1)[0]
    if column not in values:
        raise LookupError(column)
    value: Any = values[column]
    for step in _STEP.finditer(name, len(column)):
        key = step[1] if step[1] is not None else int(step[2])
        try:
            value = value[key]
        except (LookupError, TypeError) as error:
            raise LookupError(name[: step.end()]) from error
    return value


def fields_in(value: Any, name: str, limit: int = 3) -> list[str]:
    """Returns the names of the first texts and numbers inside a value, as they would be set."""
    if isinstance(value, Mapping):
        inner = [(f"{name}.{key}", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        inner = [(f"{name}[{at}]", item) for at, item in enumerate(value)]
    else:
        return [name]
    return [field for key, item in inner[:limit] for field in fields_in(item, key, 1)][:limit]
