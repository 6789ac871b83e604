"""A conversation as one text, so that a prompt is text in every schema, file and request.

A single user turn is its own text. Anything longer, or with a system turn, is JSON behind a
mark, and so is a user's text that begins with the mark: no text has two readings. Applying a
chat template is the business of whoever has the tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from forkdiv.core.json_types import type_name

MARK = "\x1e"  # ASCII's record separator, which no keyboard types
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)


def pack(messages: Sequence[Mapping[str, str]]) -> str:
    """The prompt that `unpack` turns back into these messages.

    Raises ValueError where there are none, or one is no role and content.
    """
    turns = [_turn(message, at) for at, message in enumerate(messages, 1)]
    if not turns:
        raise ValueError("a conversation without messages")
    content = turns[0]["content"]
    if len(turns) == 1 and turns[0]["role"] == USER and not content.startswith(MARK):
        return content
    return MARK + json.dumps(turns, ensure_ascii=False, separators=(",", ":"))


def unpack(prompt: str) -> list[dict[str, str]]:
    """The messages of a prompt; text without the mark is one user turn.

    Raises ValueError for text behind the mark that `pack` did not write.
    """
    if not prompt.startswith(MARK):
        return [{"role": USER, "content": prompt}]
    turns = json.loads(prompt.removeprefix(MARK))
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"a conversation that is {type_name(turns)}, not a list of messages")
    return [_turn(turn, at) for at, turn in enumerate(turns, 1)]


def prompt_and_answer(messages: object) -> tuple[str, str | None]:
    """The packed prompt and the assistant's last turn; None where a user speaks last.

    Only the last turn is learnt from and sampled: earlier ones are part of the prompt.
    Raises ValueError, with the reason, for what is no such conversation.
    """
    if not isinstance(messages, list):
        raise ValueError(f"messages is {type_name(messages)}, not a list of messages")
    if not messages:
        raise ValueError("messages is empty")
    turns = [_turn(message, at) for at, message in enumerate(messages, 1)]
    answer = turns.pop()["content"] if turns[-1]["role"] == ASSISTANT else None
    if answer is not None and not answer.strip():
        raise ValueError("empty completion: the last message is blank")
    _check_order(turns)
    return pack(turns), answer


def _check_order(turns: Sequence[Mapping[str, str]]) -> None:
    """Raises ValueError unless a user speaks last, and a system turn, if any, comes first."""
    if not turns:
        raise ValueError("the assistant answers to nothing: no message before the last one")
    if turns[-1]["role"] != USER:
        raise ValueError(f"message {len(turns)} is the {turns[-1]['role']}'s, not the user's")
    for at, turn in enumerate(turns, 1):
        if turn["role"] == SYSTEM and at > 1:
            raise ValueError(f"message {at} is a system message, which must be the first")
        if turn["role"] != SYSTEM and not turn["content"].strip():
            raise ValueError(f"message {at} is blank")


def _turn(message: object, at: int) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise ValueError(f"message {at} is {type_name(message)}, not an object")
    # columns of a file that only some messages have are null in the others
    rest = [key for key in message if key not in ("role", "content") and message[key] is not None]
    if rest:
        raise ValueError(f"message {at} has more than a role and a content: {rest[0]!r}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"message {at} has the role {role!r}; allowed: {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise ValueError(f"message {at} has a content that is {type_name(content)}, not text")
    return {"role": role, "content": content}
