"""A conversation as a single string, so that a prompt is text in every schema, file and request.

A single user turn is stored as its own text. Several turns, or a system turn, are stored as JSON
after a mark. A user's text that begins with the mark is stored in that way too, so every string
has one reading. A few-shot prompt is stored as an object with the worked examples (shots) and the
prompt. Chat templates are applied later, where the tokenizer is available.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from forkdiv.core.errors import shortened
from forkdiv.core.json_types import type_name

MARK = "\x1e"  # ASCII's record separator, which no keyboard types
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)
TEXT_PARTS = ("text", "input_text", "output_text")  # types of content parts that have a text

Shot = tuple[str, str]  # a worked example: a packed prompt, and a response to it


def pack(messages: Sequence[Mapping[str, str]]) -> str:
    """Returns the prompt that `unpack` turns back into these messages.

    Raises ValueError if there are no messages, or a message does not have a role and a content.
    """
    turns = [_turn(message, number) for number, message in enumerate(messages, 1)]
    if not turns:
        raise ValueError("a conversation has no messages")
    content = turns[0]["content"]
    if len(turns) == 1 and turns[0]["role"] == USER and not content.startswith(MARK):
        return content
    return MARK + json.dumps(turns, ensure_ascii=False, separators=(",", ":"))


def with_shots(prompt: str, shots: Sequence[Shot]) -> str:
    """Returns the few-shot prompt that shows `shots` before a packed prompt; the prompt itself
    without shots."""
    if not shots:
        return prompt
    parts = {"shots": [list(shot) for shot in shots], "prompt": prompt}
    return MARK + json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def split_shots(prompt: str) -> tuple[list[Shot], str]:
    """Returns the shots of a prompt, and the packed prompt without them.

    Raises ValueError if the text after the mark was not written by `with_shots` or `pack`.
    """
    if not prompt.startswith(MARK + "{"):
        return [], prompt
    parts = json.loads(prompt.removeprefix(MARK))
    try:
        shots = [(str(asked), str(answered)) for asked, answered in parts["shots"]]
        return shots, str(parts["prompt"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a few-shot prompt has other parts than shots and prompt") from error


def unpack(prompt: str) -> list[dict[str, str]]:
    """Returns the messages of a prompt; text without the mark is a single user turn. Shots are
    earlier turns of user and assistant, after the prompt's system turn if it has one.

    Raises ValueError if the text after the mark was not written by `pack` or `with_shots`.
    """
    if not prompt.startswith(MARK):
        return [{"role": USER, "content": prompt}]
    shots, own = split_shots(prompt)
    if shots:
        turns = unpack(own)
        first = [turn for turn in turns[:1] if turn["role"] == SYSTEM]
        shown = [
            turn
            for asked, answered in shots
            for turn in (*unpack(asked), {"role": ASSISTANT, "content": answered})
            if turn["role"] != SYSTEM
        ]
        return [*first, *shown, *turns[len(first) :]]
    turns = json.loads(prompt.removeprefix(MARK))
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"a conversation is {type_name(turns)}, not a list of messages")
    return [_turn(turn, number) for number, turn in enumerate(turns, 1)]


def content_text(content: object, number: int) -> object:
    """Returns the content of message `number`, with a list of text parts joined by line feeds, as
    vLLM joins them. Raises ValueError for a part that is not text."""
    if isinstance(content, list):
        return "\n".join(_part(part, number) for part in content)
    return content


def _part(part: object, number: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        kind, text = part.get("type"), part.get("text")
        if kind in TEXT_PARTS and isinstance(text, str):
            return text
        if kind not in TEXT_PARTS:
            kind = shortened(repr(kind), 40)
            raise ValueError(f"message {number} has a content part of type {kind}; allowed: text")
    raise ValueError(f"message {number} has a content part without a text")


def prompt_and_answer(messages: object) -> tuple[str, str | None]:
    """Returns the packed prompt and the assistant's last turn, or None if the last turn is the
    user's.

    Only the last turn is trained on and sampled; earlier turns are part of the prompt.
    Raises ValueError with the reason if `messages` is not such a conversation.
    """
    if not isinstance(messages, list):
        raise ValueError(f"messages is {type_name(messages)}, not a list of messages")
    if not messages:
        raise ValueError("messages is empty")
    turns = [_turn(message, number) for number, message in enumerate(messages, 1)]
    answer = turns.pop()["content"] if turns[-1]["role"] == ASSISTANT else None
    if answer is not None and not answer.strip():
        raise ValueError("empty completion: the last message is blank")
    _check_order(turns)
    return pack(turns), answer


def _check_order(turns: Sequence[Mapping[str, str]]) -> None:
    """Raises ValueError unless the last turn is the user's and a system turn, if any, is first."""
    if not turns:
        raise ValueError("the assistant's message is not preceded by a user message")
    if turns[-1]["role"] != USER:
        role = turns[-1]["role"]
        raise ValueError(f"message {len(turns)} has the role {role!r}; {USER!r} is required here")
    for number, turn in enumerate(turns, 1):
        if turn["role"] == SYSTEM and number > 1:
            raise ValueError(f"message {number} is a system message, which must be the first")
        if turn["role"] != SYSTEM and not turn["content"].strip():
            raise ValueError(f"message {number} is blank")


def _turn(message: object, number: int) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise ValueError(f"message {number} is {type_name(message)}, not an object")
    # a column of a file that only some messages use is null in the others
    extra = [key for key in message if key not in ("role", "content") and message[key] is not None]
    if extra:
        raise ValueError(f"message {number} has a key other than role and content: {extra[0]!r}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"message {number} has the role {role!r}; allowed: {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise ValueError(f"message {number} has a content that is {type_name(content)}, not text")
    return {"role": role, "content": content}
