"""Which column of a file holds what, and one record turned into a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from forkdiv.core.chat import USER, pack, prompt_and_answer
from forkdiv.core.errors import refuse
from forkdiv.core.json_types import type_name
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.file import Record
from forkdiv.tasks.own_data.text import decode_json

# Where a config names no column: usual names, whatever their case.
USUAL = {
    "messages": ("messages",),
    "prompt": ("prompt", "question", "problem", "instruction", "input"),
    "completion": ("completion", "response", "solution", "output"),
    "answer": ("answer", "target", "label"),
    "id": ("id",),
    "subset": ("subset",),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row. `prompt` is packed (see `conversation`); a row without an id of its own
    has its prompt's; `subset` is empty where the file has none."""

    id: str
    prompt: str
    completion: str | None
    answer: str | None
    subset: str
    line: int


class Unusable(Exception):
    """Why a record makes no row."""


def prompt_id(prompt: str) -> str:
    """A problem is its prompt: 80 bits of its hash name it in every file and under every id."""
    return hashlib.blake2b(prompt.encode("utf-8"), digest_size=10).hexdigest()


def find_columns(
    there: Sequence[str],
    named: ColumnsConfig,
    path: Path,
    optional: frozenset[str] = frozenset(),
) -> ColumnsConfig:
    """The columns to read: those named, and by their usual names those that are not.

    Messages take the place of a prompt and its completion. Raises UserError where a named one
    is missing that is not `optional`, several may be meant, or nothing asks or answers.
    """
    wanted = {role: name for role, name in named.model_dump().items() if name is not None}
    found = {role: name for role, name in wanted.items() if name in there}
    for role in sorted(wanted.keys() - found.keys() - optional):
        raise refuse(
            f"task.columns.{role} is no column of {path}",
            repr(wanted[role]),
            _listed(there),
            f"correct task.columns.{role}",
        )
    for role in USUAL:
        if role in wanted or (role == "messages" and {"prompt", "completion"} & wanted.keys()):
            continue
        if role in ("prompt", "completion") and "messages" in found:
            continue
        rest = [name for name in there if name not in found.values()]
        if name := _usual(role, rest, path):
            found[role] = name
    _check_enough(found, there, path)
    return ColumnsConfig(**found)


def _usual(role: str, there: Sequence[str], path: Path) -> str | None:
    several = [name for name in there if name.strip().lower() in USUAL[role]]
    if len(several) > 1:
        raise refuse(
            f"several columns of {path} may hold the {role}",
            _listed(several),
            "one of them",
            f"set task.columns.{role}",
        )
    return several[0] if several else None


def _check_enough(found: dict[str, str], there: Sequence[str], path: Path) -> None:
    if "messages" in found:
        return
    missing, remedy = "a prompt", "task.columns.prompt or task.columns.messages"
    if "prompt" in found:
        if {"completion", "answer"} & found.keys():
            return
        missing, remedy = "a completion or an answer", "task.columns.completion or .answer"
    raise refuse(
        f"no column of {path} is known to hold {missing}",
        f"the columns {_listed(there)}",
        "messages, or a prompt with a completion or an answer",
        f"set {remedy}",
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "none"


def to_row(record: Record, columns: ColumnsConfig) -> Row:
    """Raises Unusable with the reason."""
    if columns.messages:
        prompt, completion = _conversation(_value(record, columns.messages))
    else:
        assert columns.prompt
        text = _text(_value(record, columns.prompt), "prompt")
        prompt = pack([{"role": USER, "content": text}])
        completion = None
        if columns.completion:
            completion = _text(_value(record, columns.completion), "completion")
    # where one column is both, the grader reads the answer out of the completion
    own = columns.answer if columns.answer != columns.completion else None
    answer = _label(record, own, "answer")
    if completion is None and answer is None:
        raise Unusable("ends with the user's message and has no answer")
    id = _label(record, columns.id, "id") or prompt_id(prompt)
    subset = _label(record, columns.subset, "subset") or ""
    return Row(id, prompt, completion, answer, subset, record.line)


def _conversation(value: Any) -> tuple[str, str | None]:
    if isinstance(value, str):  # as CSV holds it
        try:
            value = decode_json(value)
        except json.JSONDecodeError as error:
            raise Unusable("messages is text that is no JSON") from error
    try:
        prompt, answer = prompt_and_answer(value)
    except ValueError as error:
        raise Unusable(str(error)) from error
    for text in (prompt, answer or ""):
        _check_letters(text, "messages")
    return prompt, answer


def _value(record: Record, column: str) -> Any:
    if column not in record.values:
        raise Unusable(f"has no column {column!r}")
    return record.values[column]


def _text(value: Any, role: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"the {role} is {type_name(value)}, not text")
    if not value.strip():
        raise Unusable(f"empty {role}")
    _check_letters(value, role)
    return value


def _check_letters(text: str, role: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unusable(f"the {role} has half of a character pair at {error.start + 1}") from error


def _label(record: Record, column: str | None, role: str) -> str | None:
    """Text, or a number as text: what identifies, sorts or is compared."""
    if column is None:
        return None
    value = _value(record, column)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _spelled(value, role)
    if not isinstance(value, str):
        raise Unusable(f"the {role} is {type_name(value)}, not text or a number")
    return _text(value, role)


def _spelled(number: int | float | Decimal, role: str) -> str:
    """A number as text: 18 and 18.0 are `18`, since a column of integers with a gap is stored
    as floats by several tools. Raises Unusable for what is not finite."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite():
        raise Unusable(f"the {role} is {number}, not a number")
    if exact.as_tuple().exponent and abs(exact.adjusted()) > 30:
        return str(exact)
    return format(exact, "f").removesuffix(".0")
