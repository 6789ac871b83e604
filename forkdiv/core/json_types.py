"""Names of the types of JSON values, for messages."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class RepeatedKey:
    """Stands for a JSON object that has the same key twice, whose meaning is ambiguous."""

    key: str


def type_name(value: object) -> str:
    """Returns the name of a value's type as users know it, with its article."""
    if isinstance(value, RepeatedKey):
        return f"an object that has the key {value.key!r} twice"
    names: dict[type, str] = {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        Decimal: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"of type {type(value).__name__}")
