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

from forkdiv.core.chat import USER
from forkdiv.core.errors import UserError, refuse, shortened
from forkdiv.core.json_types import type_name
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.conversations import read_conversation, with_reasoning
from forkdiv.tasks.own_data.field_path import column_of, fields_in, value_of
from forkdiv.tasks.own_data.file import Record
from forkdiv.tasks.own_data.json_text import decode_json, reason

# Usual column names, in any case, for roles that a config does not set.
USUAL_NAMES = {
    "messages": ("messages",),
    "prompt": ("prompt", "question", "problem", "instruction", "input"),
    "completion": ("completion", "response", "solution", "output"),
    "answer": ("answer", "target", "label"),
    "id": ("id",),
    "subset": ("subset",),
}
CONVERSATIONS = ("conversations", "conversation")  # messages, if no column could be the prompt
ALPACA = ("instruction", "input")  # the prompt, and what belongs to it
PREFERENCES = ("chosen", "rejected")
LISTED = 40  # characters of a column's name in messages


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
            repr(shortened(configured[role], LISTED)),
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
        if role == "prompt" and "input" not in configured:
            roles |= (alpaca := _alpaca(rest))
            if alpaca:
                continue
        usual = USUAL_NAMES[role]
        if role == "messages" and not _named(columns, USUAL_NAMES["prompt"]):
            usual += CONVERSATIONS
        if name := _column_by_usual_name(role, usual, rest, path):
            roles[role] = name
    _check_enough(roles, columns, path)
    return ColumnsConfig(**roles)


def _alpaca(columns: Sequence[str]) -> dict[str, str]:
    """Returns the roles of Alpaca's columns; empty if the file does not have them, or has other
    columns that could be the prompt."""
    by_name = {name.strip().lower(): name for name in columns}
    prompts = [name for name in USUAL_NAMES["prompt"] if name in by_name]
    if sorted(prompts) != sorted(ALPACA):
        return {}
    return dict(zip(("prompt", "input"), (by_name[name] for name in ALPACA), strict=True))


def _named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    return [column for column in columns if column.strip().lower() in names]


def _column_by_usual_name(
    role: str, usual: Sequence[str], columns: Sequence[str], path: Path
) -> str | None:
    candidates = _named(columns, usual)
    if len(candidates) > 1:
        raise refuse(
            f"several columns of {path} could be the {role}",
            _listed(candidates),
            "one of them",
            f"set task.columns.{role}",
        )
    return candidates[0] if candidates else None


def _check_enough(roles: dict[str, str], columns: Sequence[str], path: Path) -> None:
    if "messages" in roles or ("prompt" in roles and {"completion", "answer"} & roles.keys()):
        return
    if set(PREFERENCES) <= {name.strip().lower() for name in columns}:
        raise _preferences(columns, path, "prompt" in roles)
    missing, remedy = "a prompt", "task.columns.prompt or task.columns.messages"
    if "prompt" in roles:
        missing, remedy = (
            "a completion or an answer",
            "task.columns.completion or task.columns.answer",
        )
    raise refuse(
        f"no column of {path} could be identified as {missing}",
        f"the columns {_listed(columns)}",
        "messages, or a prompt with a completion or an answer",
        f"set {remedy}, for example {_example(roles, columns)}",
    )


def _example(roles: dict[str, str], columns: Sequence[str]) -> str:
    """Returns a setting that names a column whose role is not known yet."""
    role = "answer" if "prompt" in roles else "prompt"
    words = ("answer", "target", "label", "gold", "key") if role == "answer" else ("text", "quest")
    rest = [name for name in columns if name and name not in roles.values()]
    likely = [name for name in rest if any(word in name.lower() for word in words)]
    column = next(iter([*likely, *rest]), "COLUMN")
    return f"task.columns.{role}={shortened(column, LISTED)}"


def _preferences(columns: Sequence[str], path: Path, has_prompt: bool) -> UserError:
    role = "completion" if has_prompt else "messages"
    return refuse(
        f"{path} has pairs of preferred and rejected responses, which forkdiv does not train on",
        f"the columns {_listed(columns)}",
        "messages, or a prompt with a completion or an answer",
        f"to use the preferred responses, set task.columns.{role}=chosen",
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(shortened(name, LISTED)) for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "none"


def to_row(record: Record, columns: ColumnsConfig) -> Row:
    """Converts a record into a row. Raises Unusable with the reason."""
    if columns.messages:
        prompt, completion = _conversation(_value(record, columns.messages))
    else:
        prompt, completion = _prompt_and_completion(record, columns)
    # if both are the same column, the grader extracts the answer from the completion
    answer_column = columns.answer if columns.answer != columns.completion else None
    answer = _label(record, answer_column, "answer")
    if completion is None and answer is None:
        raise Unusable("ends with a user message and has no answer")
    id = _optional_label(record, columns.id, "id") or prompt_id(prompt)
    subset = _optional_label(record, columns.subset, "subset") or ""
    return Row(id, prompt, completion, answer, subset, record.line)


def _prompt_and_completion(record: Record, columns: ColumnsConfig) -> tuple[str, str | None]:
    """Returns the packed prompt and the completion; each is text or a list of messages."""
    assert columns.prompt
    prompt = _value(record, columns.prompt)
    completion = _value(record, columns.completion) if columns.completion else None
    if isinstance(prompt, list) and not isinstance(completion, str):
        return _conversation([*prompt, *completion] if isinstance(completion, list) else prompt)
    turns = prompt if isinstance(prompt, list) else [_user_turn(_text(prompt, "prompt"))]
    if columns.input and not isinstance(prompt, list):
        more = _input(record, columns.input)
        if more is not None and more != "":
            turns = [_user_turn(f"{prompt}\n\n{_text(more, 'input')}")]
    packed, _ = _conversation(turns)
    if not columns.completion:
        return packed, None
    return packed, _after_reasoning(record, columns.reasoning, _text(completion, "completion"))


def _after_reasoning(record: Record, column: str | None, completion: str) -> str:
    """Returns the completion after the thinking in the column, if the row has some."""
    if column is None or (value := _value(record, column)) is None or value == "":
        return completion
    try:
        return with_reasoning(completion, _text(value, "reasoning"))
    except ValueError as error:
        raise Unusable(str(error)) from error


def _input(record: Record, column: str) -> Any:
    """Returns the rest of the prompt; None for a row without it."""
    try:
        return value_of(record.values, column)
    except LookupError:
        return None


def _user_turn(text: str) -> dict[str, str]:
    return {"role": USER, "content": text}


def _conversation(value: Any) -> tuple[str, str | None]:
    if isinstance(value, str):  # as CSV holds it
        try:
            value = decode_json(value)
        except json.JSONDecodeError as error:
            raise Unusable(f"messages is text that is not valid JSON ({reason(error)})") from error
    try:
        prompt, answer = read_conversation(value)
    except ValueError as error:
        raise Unusable(shortened(str(error), 200)) from error
    for text in (prompt, answer or ""):
        _check_letters(text, "messages")
    return prompt, answer


def _value(record: Record, column: str) -> Any:
    try:
        return value_of(record.values, column)
    except LookupError as error:
        part = error.args[0]
        kind = "column" if part == re.split(r"[.\[]", column)[0] else "field"
        raise Unusable(f"has no {kind} {shortened(part, LISTED)!r}") from error


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


def _optional_label(record: Record, column: str | None, role: str) -> str | None:
    """Returns an id or subset as text; None if it is null, or blank as an empty CSV field is."""
    if column is None or (value := _value(record, column)) is None or value == "":
        return None
    return _label(record, column, role)


def _label(record: Record, column: str | None, role: str) -> str | None:
    """Returns an id, subset or answer as text; numbers are converted."""
    if column is None:
        return None
    value = _value(record, column)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return number_text(value, role)
    if isinstance(value, list | dict) and (fields := fields_in(value, column)):
        named = " or ".join(f"task.columns.{role}={shortened(field, 60)}" for field in fields)
        raise Unusable(
            f"the {role} is {type_name(value)}, not text or a number; name the field that is the "
            f"{role}: {named}"
        )
    if not isinstance(value, str):
        raise Unusable(f"the {role} is {type_name(value)}, not text or a number")
    return _text(value, role)


def number_text(number: int | float | Decimal, role: str) -> str:
    """Returns a number as text. 18.0 becomes `18`, since several tools store a column of integers
    with missing values as floats. Raises Unusable for NaN and infinity."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite():
        raise Unusable(f"the {role} is {number}, not a finite number")
    if exact.as_tuple().exponent and abs(exact.adjusted()) > 30:
        return str(exact)
    return format(exact, "f").removesuffix(".0")
