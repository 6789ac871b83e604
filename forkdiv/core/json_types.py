"""What a message calls the type of a JSON value."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class RepeatedKey:
    """In place of a JSON object that names a key twice: either value may be the one meant."""

    key: str


def type_name(value: object) -> str:
    """What a person calls the type of a value, with its article."""
    if isinstance(value, RepeatedKey):
        return f"an object that names the key {value.key!r} twice"
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
