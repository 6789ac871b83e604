"""Conversations as users' files have them, read as messages with a role and a text.

Read are OpenAI's messages (`role` and `content`, with a content of text or of text parts) and
ShareGPT's (`from` and `value`). The thinking beside the text of the last message
(`reasoning_content`) becomes part of the completion; chat templates leave out that of earlier
messages, and so does this. What a file adds to a message without a meaning here is dropped:
empty values (`"tool_calls": []`), and OpenAI's `weight` if it says that the last message counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkdiv.core.chat import ASSISTANT, ROLES, SYSTEM, USER, content_text, prompt_and_answer
from forkdiv.core.errors import shortened
from forkdiv.core.json_types import type_name
from forkdiv.core.thinking import joined, tags_in

SPEAKERS = {
    "human": USER,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "bot": ASSISTANT,
    "model": ASSISTANT,
    "developer": SYSTEM,  # OpenAI's later name
}
REASONING = ("reasoning_content", "reasoning", "thinking")  # of DeepSeek, vLLM and Harmony
EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


def read_conversation(value: object) -> tuple[str, str | None]:
    """Returns the packed prompt and the assistant's last message, or None if the last message is
    the user's. Raises ValueError with the reason if `value` is not a conversation."""
    if not isinstance(value, list):
        return prompt_and_answer(value)
    messages = [_message(item, number) for number, item in enumerate(value, 1)]
    if value and isinstance(value[-1], Mapping) and value[-1].get("weight") == 0:
        raise ValueError(f"message {len(value)} has the weight 0, so it is not to be learnt from")
    prompt, answer = prompt_and_answer(messages)
    return prompt, answer if answer is None else with_reasoning(answer, _reasoning(value[-1]))


def with_reasoning(answer: str, reasoning: str | None) -> str:
    """Returns the answer after its thinking, with tags around the thinking. Raises ValueError if
    the answer has tags of thinking itself."""
    if reasoning is None:
        return answer
    if tags := tags_in([answer]):
        raise ValueError(f"has its thinking twice: as a field, and before {tags[1]} in its text")
    return joined(reasoning, answer)


def _reasoning(message: object) -> str | None:
    """Returns the thinking beside the text of a message, or None."""
    if not isinstance(message, Mapping):
        return None
    fields = [key for key in REASONING if message.get(key) not in EMPTY]
    texts = {message[key] if isinstance(message[key], str) else None for key in fields}
    if None in texts or len(texts) > 1:
        raise ValueError(f"the last message has {' and '.join(fields)}; allowed: one text")
    return next(iter(texts), None)


def _message(item: object, number: int) -> object:
    if not isinstance(item, Mapping):
        return item
    names = ("from", "value") if "from" in item and "role" not in item else ("role", "content")
    known = (*names, *REASONING)
    extra = [
        key
        for key, value in item.items()
        if key not in known and value not in EMPTY and not (key == "weight" and value in (0, 1))
    ]
    if extra:
        key = shortened(str(extra[0]), 40)
        raise ValueError(f"message {number} has a key other than {' and '.join(names)}: {key!r}")
    role, content = item.get(names[0]), item.get(names[1])
    if not isinstance(role, str) or SPEAKERS.get(role, role) not in ROLES:
        allowed = ", ".join((*ROLES, *SPEAKERS)) if names[0] == "from" else ", ".join(ROLES)
        shown = repr(shortened(role, 40)) if isinstance(role, str) else type_name(role)
        raise ValueError(f"message {number} has the role {shown}; allowed: {allowed}")
    return {"role": SPEAKERS.get(role, role), "content": content_text(content, number)}
