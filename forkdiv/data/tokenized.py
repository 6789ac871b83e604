"""Tokenizes fine-tuning examples once, before any worker starts, and checks them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from forkdiv.core.config.study import PromptConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.records import Example
from forkdiv.core.store import publish_file
from forkdiv.models.checkpoint import read_config
from forkdiv.models.prompting import encode
from forkdiv.models.shape import context_length

Row = tuple[list[int], list[int]]  # the token ids of a prompt, and of its response


def encode_examples(examples: Iterable[Example], start: Path, prompt: PromptConfig) -> list[Row]:
    """Returns the token ids of all examples for the checkpoint `start`, in order.

    Raises UserError if there are no examples, if an example has an empty prompt or response or
    does not fit the context, or if the tokenizer has no end token. A padding token is not needed:
    padding is never read.
    """
    from forkdiv.models.loading import load_tokenizer  # torch: seconds

    tokenizer = load_tokenizer(start)
    if tokenizer.eos_token_id is None:
        raise refuse(
            f"the tokenizer of {start} has no end token, so responses would not end",
            "eos_token=None",
            "a tokenizer with an end token",
            "set eos_token in its tokenizer_config.json",
        )
    context = context_length(read_config(start)) or 0
    rows, long = [], []
    for index, example in enumerate(examples):
        row = encode(tokenizer, example.prompt, example.response, prompt)
        _check_not_empty(row, index, example)
        if context and sum(map(len, row)) > context:
            long.append((index, sum(map(len, row))))
        rows.append(row)
    if not rows:
        raise refuse(
            "the fine-tuning dataset is empty",
            "no examples",
            "one example or more",
            "raise dataset.examples, or check which rows of your file were skipped",
        )
    if long:
        raise _too_long(long, context, start)
    return rows


def write(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows for the workers, atomically."""
    aside = path.with_name(f".{path.name}")
    with aside.open("wb") as file:
        np.savez(
            file,
            ids=np.array([i for row in rows for part in row for i in part], dtype=np.int32),
            lengths=np.array([[len(part) for part in row] for row in rows], dtype=np.int32),
        )
    publish_file(aside, path)


def read(path: Path) -> list[Row]:
    with np.load(path) as arrays:
        ids, lengths = arrays["ids"].tolist(), arrays["lengths"].reshape(-1, 2)
    ends = np.cumsum(lengths.ravel()).reshape(-1, 2)
    starts = ends - lengths
    return [
        (ids[a:b], ids[c:d]) for (a, c), (b, d) in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _check_not_empty(row: Row, index: int, example: Example) -> None:
    """Raises UserError unless prompt and response have a token, not counting the end token."""
    for part, name, least in ((row[0], "prompt", 1), (row[1], "response", 2)):
        if len(part) < least:
            raise refuse(
                f"the {name} of example {index} ({example.problem_id}) has no tokens",
                repr(getattr(example, name)),
                f"a {name} of one token or more",
                "correct the example or remove it",
            )


def _too_long(long: Sequence[tuple[int, int]], context: int, start: Path) -> UserError:
    index, longest = max(long, key=lambda item: item[1])
    return refuse(
        f"{len(long)} examples do not fit the context of {start}",
        f"{longest} tokens in example {index}",
        f"at most {context} tokens for prompt, response and end token together",
        "remove these examples, or set base to a model with a longer context",
    )
