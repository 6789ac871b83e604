r"""Answers in `\boxed{...}` or `\fbox{...}`, as mathematics models write them."""

from __future__ import annotations

import re

_TOKENS = re.compile(
    r"(?P<box>\\(?:boxed|fbox)\s*\{)|(?P<other>\\.)|(?P<open>\{)|(?P<close>\})", re.DOTALL
)


def every_box(text: str) -> list[str | None]:
    r"""What stands in each `\boxed{...}`, in the order they open; None where one never closes.

    Braces balance, and `\{` is text. A box with another one in it does not count.
    """
    starts: list[int] = []
    contents: dict[int, str | None] = {}  # by box, as they open
    boxes: list[int] = []  # those that are open
    braces: list[bool] = []  # those that are open, and whether they are a box's
    for token in _TOKENS.finditer(text):
        if token["box"]:
            if boxes:
                contents.pop(boxes[-1], None)
            boxes.append(len(starts))
            contents[len(starts)] = None
            starts.append(token.end())
            braces.append(True)
        elif token["open"]:
            braces.append(False)
        elif token["close"] and braces and braces.pop():
            box = boxes.pop()
            if box in contents:
                contents[box] = text[starts[box] : token.start()]
    return list(contents.values())


def last_box(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}`; None where there is none, or it never closes."""
    boxes = every_box(text)
    return boxes[-1] if boxes else None
