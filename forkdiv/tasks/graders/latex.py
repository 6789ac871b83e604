"""What little of LaTeX graders need: the last box of a text, and its content as plain text."""

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


def last_box_or_none(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}`; None where there is none, or it never closes."""
    boxes = every_box(text)
    return boxes[-1] if boxes else None


def has_box(text: str) -> bool:
    return bool(every_box(text))


def last_box(text: str) -> str:
    """The content of the last \\boxed{} or \\fbox{}, its braces balanced.

    Raises Unreadable where there is none or the last one is not closed.
    """
    boxes = every_box(text)
    if not boxes:
        raise Unreadable("no \\boxed{}")
    if boxes[-1] is None:
        raise Unreadable("an unclosed \\boxed{}")
    return boxes[-1]


def without_fonts(text: str) -> str:
    """`\\text{B}` and its kin as what they show."""
    return _FONT.sub(r"\1", text)


def plain(text: str) -> str:
    """One way to write a text that is not a number: without fonts, spacing, dollars, a last stop.

    Spaces stay where they part two words, so that `1 2` is not 12.
    """
    text = text.replace("\\$", "")
    text = _SPACE.sub(" ", re.sub(r"\\[dt]frac(?![A-Za-z])", r"\\frac", without_fonts(text)))
    words = " ".join(re.sub(r"\\([%#&])", r"\1", text).split()).removesuffix(".")
    return re.sub(r"(?<!\w) | (?!\w)", "", words)


def value_or_text(content: str) -> str:
    """A number as its value, anything else as plain text; digits with an E stay digits."""
    try:
        number = numbers.whole(without_fonts(content), e_notation=False)
    except Unreadable:
        number = None
    return plain(content) if number is None else str(number)
