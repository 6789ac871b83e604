"""Finds the roles of a file's columns, and converts records into rows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from forkdiv.core.chat import USER, pack, prompt_and_answer
from forkdiv.core.errors import refuse
from forkdiv.core.json_types import type_name
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.field_path import column_of, fields_in, value_of
from forkdiv.tasks.own_data.file import Record
from forkdiv.tasks.own_data.text import decode_json

# Usual column names, in any case, for roles that a config does not set.
USUAL_NAMES = {
    "messages": ("messages",),
    "prompt": ("prompt", "question", "problem", "instruction", "input"),
    "completion": ("completion", "response", "solution", "output"),
    "answer": ("answer", "target", "label"),
    "id": ("id",),
    "subset": ("subset",),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row. `prompt` is packed (see `forkdiv.core.chat`); without an id column, `id` is
    derived from the prompt; `subset` is empty if the file has no such column."""

    id: str
    prompt: str
    completion: str | None
    answer: str | None
    subset: str
    line: int


class Unusable(Exception):
    """A record cannot be used; the message is the reason."""


def prompt_id(prompt: str) -> str:
    """Returns a problem's id: 80 bits of the hash of its prompt, the same in every file."""
    return hashlib.blake2b(prompt.encode("utf-8"), digest_size=10).hexdigest()


def find_columns(
    columns: Sequence[str],
    config: ColumnsConfig,
    path: Path,
    optional: frozenset[str] = frozenset(),
) -> ColumnsConfig:
    """Returns the columns to read: those of the config, others by their usual names.

    Messages replace a prompt and its completion. Raises UserError if a configured column is
    missing and not `optional`, if several columns fit a role, or if there is no prompt, or neither
    a completion nor an answer.
    """
    configured = {role: name for role, name in config.model_dump().items() if name is not None}
    roles = {role: name for role, name in configured.items() if column_of(name, columns)}
    for role in sorted(configured.keys() - roles.keys() - optional):
        raise refuse(
            f"task.columns.{role} names a column that {path} does not have",
            repr(configured[role]),
            _listed(columns),
            f"correct task.columns.{role}",
        )
    for role in USUAL_NAMES:
        if role in configured:
            continue
        if role == "messages" and {"prompt", "completion"} & configured.keys():
            continue
        if role in ("prompt", "completion") and "messages" in roles:
            continue
        taken = {column_of(name, columns) for name in roles.values()}
        rest = [name for name in columns if name not in taken]
        if name := _column_by_usual_name(role, rest, path):
            roles[role] = name
    _check_enough(roles, columns, path)
    return ColumnsConfig(**roles)


def _column_by_usual_name(role: str, columns: Sequence[str], path: Path) -> str | None:
    candidates = [name for name in columns if name.strip().lower() in USUAL_NAMES[role]]
    if len(candidates) > 1:
        raise refuse(
            f"several columns of {path} could be the {role}",
            _listed(candidates),
            "one of them",
            f"set task.columns.{role}",
        )
    return candidates[0] if candidates else None


def _check_enough(roles: dict[str, str], columns: Sequence[str], path: Path) -> None:
    if "messages" in roles:
        return
    missing, remedy = "a prompt", "task.columns.prompt or task.columns.messages"
    if "prompt" in roles:
        if {"completion", "answer"} & roles.keys():
            return
        missing, remedy = (
            "a completion or an answer",
            "task.columns.completion or task.columns.answer",
        )
    raise refuse(
        f"no column of {path} could be identified as {missing}",
        f"the columns {_listed(columns)}",
        "messages, or a prompt with a completion or an answer",
        f"set task.kind=file and {remedy}, for example {_example(roles, columns)}",
    )


def _example(roles: dict[str, str], columns: Sequence[str]) -> str:
    """Returns a setting that names a column whose role is not known yet."""
    role = "answer" if "prompt" in roles else "prompt"
    words = ("answer", "target", "label", "gold", "key") if role == "answer" else ("text", "quest")
    rest = [name for name in columns if name and name not in roles.values()]
    likely = [name for name in rest if any(word in name.lower() for word in words)]
    column = next(iter([*likely, *rest]), "COLUMN")
    return f"task.columns.{role}={column}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "none"


def to_row(record: Record, columns: ColumnsConfig) -> Row:
    """Converts a record into a row. Raises Unusable with the reason."""
    if columns.messages:
        prompt, completion = _conversation(_value(record, columns.messages))
    else:
        assert columns.prompt
        text = _text(_value(record, columns.prompt), "prompt")
        prompt = pack([{"role": USER, "content": text}])
        completion = None
        if columns.completion:
            completion = _text(_value(record, columns.completion), "completion")
    # if both are the same column, the grader extracts the answer from the completion
    answer_column = columns.answer if columns.answer != columns.completion else None
    answer = _label(record, answer_column, "answer")
    if completion is None and answer is None:
        raise Unusable("ends with a user message and has no answer")
    id = _label(record, columns.id, "id") or prompt_id(prompt)
    subset = _label(record, columns.subset, "subset") or ""
    return Row(id, prompt, completion, answer, subset, record.line)


def _conversation(value: Any) -> tuple[str, str | None]:
    if isinstance(value, str):  # as CSV holds it
        try:
            value = decode_json(value)
        except json.JSONDecodeError as error:
            raise Unusable("messages is text that is not valid JSON") from error
    try:
        prompt, answer = prompt_and_answer(value)
    except ValueError as error:
        raise Unusable(str(error)) from error
    for text in (prompt, answer or ""):
        _check_letters(text, "messages")
    return prompt, answer


def _value(record: Record, column: str) -> Any:
    try:
        return value_of(record.values, column)
    except LookupError as error:
        part = error.args[0]
        kind = "column" if part == re.split(r"[.\[]", column)[0] else "field"
        raise Unusable(f"has no {kind} {part!r}") from error


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
        at = error.start + 1
        raise Unusable(f"the {role} has an unpaired surrogate at character {at}") from error


def _label(record: Record, column: str | None, role: str) -> str | None:
    """Returns an id, subset or answer as text; numbers are converted."""
    if column is None:
        return None
    value = _value(record, column)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _number_text(value, role)
    if isinstance(value, list | dict) and (fields := fields_in(value, column)):
        named = " or ".join(f"task.columns.{role}={field}" for field in fields)
        raise Unusable(
            f"the {role} is {type_name(value)}, not text or a number; name the field that is the "
            f"{role}: task.kind=file {named}"
        )
    if not isinstance(value, str):
        raise Unusable(f"the {role} is {type_name(value)}, not text or a number")
    return _text(value, role)


def _number_text(number: int | float | Decimal, role: str) -> str:
    """Returns a number as text. 18.0 becomes `18`, since several tools store a column of integers
    with missing values as floats. Raises Unusable for NaN and infinity."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite():
        raise Unusable(f"the {role} is {number}, not a finite number")
    if exact.as_tuple().exponent and abs(exact.adjusted()) > 30:
        return str(exact)
    return format(exact, "f").removesuffix(".0")
