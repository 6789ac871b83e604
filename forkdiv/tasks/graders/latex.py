r"""Boxes in a text: `\boxed{}`, `\fbox{}` and `\framebox{}`."""

from __future__ import annotations

import re

from forkdiv.tasks.graders.numbers import Unreadable

_TOKENS = re.compile(
    r"(?P<box>\\(?:boxed|fbox|framebox)\s*\{)|(?P<bare>\\boxed\s*(?P<content>-?[0-9][0-9.,/]*)"
    r"(?<![.,]))|(?P<other>\\.)|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)


def every_box(text: str) -> list[str | None]:
    r"""Returns the content of each `\boxed{...}` in order; None for a box that is not closed.

    Braces must balance, and `\{` is text. A box that contains another box is ignored. `\boxed 5`
    and `\boxed5` are boxes of a number.
    """
    starts: list[int] = []
    contents: dict[int, str | None] = {}  # by index of the box
    boxes: list[int] = []  # open boxes
    braces: list[bool] = []  # open braces: whether each belongs to a box
    for token in _TOKENS.finditer(text):
        if token["box"] or token["bare"]:
            if boxes:
                contents.pop(boxes[-1], None)
            contents[len(starts)] = token["content"]
            if token["box"]:
                boxes.append(len(starts))
                braces.append(True)
            starts.append(token.end())
        elif token["open"]:
            braces.append(False)
        elif token["close"] and braces and braces.pop():
            box = boxes.pop()
            if box in contents:
                contents[box] = text[starts[box] : token.start()]
    return list(contents.values())


def last_box_or_none(text: str) -> str | None:
    r"""Returns the content of the last `\boxed{...}`; None if there is none or it is not closed."""
    boxes = every_box(text)
    return boxes[-1] if boxes else None


def has_box(text: str) -> bool:
    return bool(every_box(text))


def last_box(text: str) -> str:
    """Returns the content of the last \\boxed{} or \\fbox{}, with balanced braces.

    Raises Unreadable if there is none, the last one is not closed or it is empty.
    """
    boxes = every_box(text)
    if not boxes:
        raise Unreadable("no \\boxed{}")
    if boxes[-1] is None:
        raise Unreadable("an unclosed \\boxed{}")
    if not boxes[-1].strip(" $"):
        raise Unreadable("an empty \\boxed{}")
    return boxes[-1]
