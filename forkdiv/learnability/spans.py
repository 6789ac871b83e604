"""Where the tokens of a response stand in its text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.study import PromptConfig
from forkdiv.core.records import Example
from forkdiv.core.thinking import continuation
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.prompting import chat_text, ids_with_offsets

Spans = NDArray[np.int64]


def token_spans(examples: Sequence[Example], start: Path, prompt: PromptConfig) -> list[Spans]:
    """Returns the character ranges [start, end) of the response tokens of each example, int64
    (tokens, 2); that of the end token is empty, at the end of the response.

    Raises UserError for a tokenizer without character offsets.
    """
    tokenizer = own_tokenizer(start).tokenizer
    out = []
    for example in examples:
        trained = example.response
        if prompt.template == "chat":
            trained = continuation(chat_text(tokenizer, example.prompt, prompt), trained)
        left_out = len(example.response) - len(trained)
        _, ends = ids_with_offsets(tokenizer, trained)
        last = [left_out + end for end in ends] + [len(example.response)]
        first = [left_out, *last[:-2], len(example.response)] if ends else [len(example.response)]
        out.append(np.stack([first, last], axis=1).astype(np.int64))
    return out


def units(text: str, spans: Spans, unit: str) -> NDArray[np.int64]:
    """Returns the unit of each token of a response, counted from 0: with "token" the token itself,
    with "word" or "line" that of the first character of the token that is not white space. The end
    token is a unit of its own."""
    if unit == "token":
        return np.arange(len(spans))
    starts = _word_starts(text) if unit == "word" else _line_starts(text)
    deciding = [_first_visible(text, int(a), int(b)) for a, b in spans]
    found = np.searchsorted(starts, deciding, side="right")
    found[-1] = len(starts) + 1
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _first_visible(text: str, start: int, end: int) -> int:
    token = text[start:end]
    return start + len(token) - len(token.lstrip()) if token.strip() else start


def _word_starts(text: str) -> list[int]:
    return [
        at for at, c in enumerate(text) if not c.isspace() and (at == 0 or text[at - 1].isspace())
    ]


def _line_starts(text: str) -> list[int]:
    return [0, *(at + 1 for at, c in enumerate(text) if c == "\n")]
