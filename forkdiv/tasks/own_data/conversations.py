"""Conversations as users' files have them, read as messages with a role and a text.

Read are OpenAI's messages (`role` and `content`, with a content of text or of text parts) and
ShareGPT's (`from` and `value`). What a file adds to a message without a meaning here is dropped:
empty values (`"tool_calls": []`), and OpenAI's `weight` if it says that the last message counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkdiv.core.chat import ASSISTANT, ROLES, SYSTEM, USER, prompt_and_answer
from forkdiv.core.errors import shortened
from forkdiv.core.json_types import type_name

SPEAKERS = {
    "human": USER,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "bot": ASSISTANT,
    "model": ASSISTANT,
    "developer": SYSTEM,  # OpenAI's later name
}
EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


def read_conversation(value: object) -> tuple[str, str | None]:
    """Returns the packed prompt and the assistant's last message, or None if the last message is
    the user's. Raises ValueError with the reason if `value` is not a conversation."""
    if not isinstance(value, list):
        return prompt_and_answer(value)
    messages = [_message(item, number) for number, item in enumerate(value, 1)]
    if value and isinstance(value[-1], Mapping) and value[-1].get("weight") == 0:
        raise ValueError(f"message {len(value)} has the weight 0, so it is not to be learnt from")
    return prompt_and_answer(messages)


def _message(item: object, number: int) -> object:
    if not isinstance(item, Mapping):
        return item
    names = ("from", "value") if "from" in item and "role" not in item else ("role", "content")
    extra = [
        key
        for key, value in item.items()
        if key not in names and value not in EMPTY and not (key == "weight" and value in (0, 1))
    ]
    if extra:
        key = shortened(str(extra[0]), 40)
        raise ValueError(f"message {number} has a key other than {' and '.join(names)}: {key!r}")
    role, content = item.get(names[0]), item.get(names[1])
    if not isinstance(role, str) or SPEAKERS.get(role, role) not in ROLES:
        allowed = ", ".join((*ROLES, *SPEAKERS)) if names[0] == "from" else ", ".join(ROLES)
        shown = repr(shortened(role, 40)) if isinstance(role, str) else type_name(role)
        raise ValueError(f"message {number} has the role {shown}; allowed: {allowed}")
    if isinstance(content, list):
        content = "\n".join(_part(part, number) for part in content)
    return {"role": SPEAKERS.get(role, role), "content": content}


def _part(part: object, number: int) -> str:
    """Returns the text of a content part. Parts are joined by line feeds, as vLLM joins them."""
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        kind, text = part.get("type"), part.get("text")
        if kind in ("text", "input_text", "output_text") and isinstance(text, str):
            return text
        if kind != "text":
            kind = shortened(repr(kind), 40)
            raise ValueError(f"message {number} has a content part of type {kind}; allowed: text")
    raise ValueError(f"message {number} has a content part without a text")
