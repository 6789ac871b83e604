"""Where a response has its Python code: in fenced blocks, as a whole program, or as a continuation
of the prompt.

The readings of one response are ordered; the first that compiles is the response's program. Only
the sandbox compiles them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(
    r"^[ \t]*(?P<mark>```+|~~~+)[ \t]*(?P<language>[^\n`]*)\n(?P<code>.*?)"
    r"(?:^[ \t]*(?P=mark)[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_PYTHON = ("", "py", "python", "python3")
# What a model goes on with after its function: no part of it (as in the published harnesses)
_AFTERWARDS = re.compile(r"^(?:assert\b|print\b|if\b|\"\"\"|'''|```|<)", re.MULTILINE)
_BEGINS = re.compile(
    r"^(?:@|#|def\b|class\b|async\b|import\b|from\b|\w+(?:[ \t]*:[^\n=]+)?[ \t]*=(?!=))",
    re.MULTILINE,
)
_AT_MARGIN = re.compile(r"^(?=[^\s)\]}])", re.MULTILINE)


def programs(prompt: str, text: str, name: str | None) -> list[str]:
    """Returns the programs that a response can mean, the most likely first. `prompt` is the code
    that it continues (may be empty), `name` the function that it must define, if that is known."""
    found = _fenced_programs(prompt, text, name) if _FENCE.search(text) else None
    if found is None:
        found = _unfenced_programs(prompt, text, name)
    return list(dict.fromkeys(program for program in found if program.strip()))


def _fenced_programs(prompt: str, text: str, name: str | None) -> Iterator[str] | None:
    """Yields the programs of the first block of Python that defines the function, else of the
    first block."""
    blocks = [
        match["code"]
        for match in _FENCE.finditer(text)
        if match["language"].strip().partition(" ")[0].lower() in _PYTHON
    ]
    if not blocks:
        return None
    block = next((block for block in blocks if _defines(block, name)), blocks[0])
    return _of_block(prompt, block, name)


def _of_block(prompt: str, block: str, name: str | None) -> Iterator[str]:
    if _defines(block, name):
        # the prompt stays before it: it has imports and helper functions
        yield f"{prompt}\n{block}"
        yield block
    else:
        yield prompt + block
        yield from _shifted(prompt, block)


def _unfenced_programs(prompt: str, text: str, name: str | None) -> Iterator[str]:
    if not prompt or _defines(text, name):
        yield from _whole(prompt, text)
    if prompt:
        yield prompt + _body(text)
        yield from _shifted(prompt, _body(text))
        yield prompt + text


def _whole(prompt: str, text: str) -> Iterator[str]:
    """Yields the programs of a text with a whole function, without the words around it."""
    begin = _BEGINS.search(text)
    code = text[begin.start() :] if begin else text
    end = _AFTERWARDS.search(code)
    for part in (code[: end.start()] if end else code, *_without_tail(code)):
        yield f"{prompt}\n{part}" if prompt else part


def _without_tail(code: str) -> Iterator[str]:
    """Yields the code up to each line that begins at the margin, the longest first: what follows
    the code may be words."""
    starts = [match.start() for match in _AT_MARGIN.finditer(code)][1:]
    for start in reversed(starts[:50]):
        yield code[:start]


def _body(text: str) -> str:
    """Returns the beginning of a text that belongs to the function of the prompt: what is indented.
    The first line may lack indentation because it continues the prompt's last line."""
    first_line_end = text.find("\n") + 1
    if not first_line_end:
        return text
    outside = _AT_MARGIN.search(text, first_line_end)
    return text[: outside.start()] if outside else text


def _shifted(prompt: str, body: str) -> Iterator[str]:
    """Yields the program with one more space before the body: several tokenizers drop the first
    space of a text when they decode it."""
    if body.startswith(" "):
        yield f"{prompt} {body}"


def _defines(code: str, name: str | None) -> bool:
    pattern = re.escape(name) if name else r"\w+"
    return bool(re.search(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{pattern}\b", code, re.MULTILINE))
