"""Thinking in a response: the text between an opening and a closing tag, before the answer.

A chat template may write the opening tag itself, at the end of the prompt; then a response begins
inside its thinking. Graders read what follows the last closing tag. A response whose thinking is
not closed has no answer, whatever its thinking says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# opening and closing tags of published models; the first is by far the most frequent
TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
)
UNCLOSED = "its thinking has no end"


@dataclass(frozen=True)
class Thinking:
    """The tags around the thinking. `start` is empty if it is not known; `opened` says that the
    prompt ends with it, so that a response begins inside its thinking."""

    start: str
    end: str
    opened: bool = False

    def answer_in(self, text: str) -> str | None:
        """Returns the part of a response that is its answer: what follows the last closing tag, or
        all of a response without thinking. None if the thinking is not closed."""
        _, end, after = text.rpartition(self.end)
        if self.start and self.start in after:
            return None  # opened again, or never closed
        if not end and self.opened:
            return None
        # line feeds stand between the tag and the answer
        return after.lstrip() if end else text

    def as_json(self) -> dict[str, object]:
        """Returns what decides verdicts, for the identity of results."""
        return {"start": self.start, "end": self.end, "opened": self.opened}


def tags_of(end: str) -> tuple[str, str]:
    """Returns the opening and the closing tag for a closing tag; the opening one is empty if it
    does not follow from it."""
    known = {closing: opening for opening, closing in TAGS}
    if end in known:
        return known[end], end
    start = end.replace("/", "", 1)
    return ("" if start == end else start), end


def tags_of_opening(start: str) -> tuple[str, str]:
    """Returns the known pair of tags with this opening one. Raises KeyError for another."""
    return start, dict(TAGS)[start]


def tags_in(texts: Iterable[str]) -> tuple[str, str] | None:
    """Returns the first known pair of tags of which a text has the closing one, or None."""
    texts = list(texts)
    for start, end in TAGS:
        if any(end in text for text in texts):
            return start, end
    return None


def opens(prompt: str, start: str) -> bool:
    """Whether a rendered prompt ends with the opening tag."""
    return prompt.rstrip().endswith(start)


def joined(reasoning: str, answer: str) -> str:
    """Returns one response from its thinking and its answer, in the form that most models use."""
    start, end = TAGS[0]
    return f"{start}\n{reasoning.strip()}\n{end}\n\n{answer}"


def continuation(prompt: str, response: str) -> str:
    """Returns the response that continues the rendered prompt: if the prompt ends with an opening
    tag and the response begins with it again, the response without it."""
    for start, _ in TAGS:
        if opens(prompt, start) and response.lstrip().startswith(start):
            space = prompt[len(prompt.rstrip()) :]
            return response.lstrip().removeprefix(start).removeprefix(space)
    return response
