"""The LaTeX that graders need: the last box of a text, and its content as plain text."""

from __future__ import annotations

import re

from forkdiv.tasks.graders import numbers
from forkdiv.tasks.graders.numbers import Unreadable

_TOKENS = re.compile(
    r"(?P<box>\\(?:boxed|fbox)\s*\{)|(?P<other>\\.)|(?P<open>\{)|(?P<close>\})", re.DOTALL
)
_FONT = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:bf|it|rm)|mbox|operatorname)\s*\{([^{}]*)\}")
_SPACE = re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])|\\(?:left|right)(?![A-Za-z])|~|\$")


def every_box(text: str) -> list[str | None]:
    r"""Returns the content of each `\boxed{...}` in order; None for a box that is not closed.

    Braces must balance, and `\{` is text. A box that contains another box is ignored.
    """
    starts: list[int] = []
    contents: dict[int, str | None] = {}  # by index of the box
    boxes: list[int] = []  # open boxes
    braces: list[bool] = []  # open braces: whether each belongs to a box
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


def last_box_or_none(text: str) -> str | None:
    r"""Returns the content of the last `\boxed{...}`; None if there is none or it is not closed."""
    boxes = every_box(text)
    return boxes[-1] if boxes else None


def has_box(text: str) -> bool:
    return bool(every_box(text))


def last_box(text: str) -> str:
    """Returns the content of the last \\boxed{} or \\fbox{}, with balanced braces.

    Raises Unreadable if there is none or the last one is not closed.
    """
    boxes = every_box(text)
    if not boxes:
        raise Unreadable("no \\boxed{}")
    if boxes[-1] is None:
        raise Unreadable("an unclosed \\boxed{}")
    return boxes[-1]


def without_fonts(text: str) -> str:
    """Replaces `\\text{B}` and similar commands by their content."""
    return _FONT.sub(r"\1", text)


def plain(text: str) -> str:
    """Normalises a text that is not a number: no fonts, spacing, dollars or final full stop.

    Spaces between words remain, so that `1 2` does not become 12.
    """
    text = text.replace("\\$", "")
    text = _SPACE.sub(" ", re.sub(r"\\[dt]frac(?![A-Za-z])", r"\\frac", without_fonts(text)))
    words = " ".join(re.sub(r"\\([%#&])", r"\1", text).split()).removesuffix(".")
    return re.sub(r"(?<!\w) | (?!\w)", "", words)


def value_or_text(content: str) -> str:
    """Returns a number as its value, anything else as plain text; digits with an E are text."""
    try:
        number = numbers.whole(without_fonts(content), e_notation=False)
    except Unreadable:
        number = None
    return plain(content) if number is None else str(number)
