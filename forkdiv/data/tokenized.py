"""Fine-tuning examples as token ids: encoded and checked once, before any worker starts."""

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

Row = tuple[list[int], list[int]]  # the token ids of a prompt, and of its response


def encoded(examples: Iterable[Example], start: Path, prompt: PromptConfig) -> list[Row]:
    """Every example for the checkpoint `start`, in order.

    Raises UserError where there are none, where one has an empty prompt or response or does not
    fit the context, and for a tokenizer that cannot end a response. A padding token is not
    needed: what is padded is never read.
    """
    from forkdiv.models.loading import load_tokenizer  # torch: seconds

    tokenizer = load_tokenizer(start)
    if tokenizer.eos_token_id is None:
        raise refuse(
            f"the tokenizer of {start} has no end token, so no response would ever end",
            "eos_token=None",
            "a tokenizer with an end token",
            "set eos_token in its tokenizer_config.json",
        )
    context = int(read_config(start).get("max_position_embeddings") or 0)
    rows, long = [], []
    for at, example in enumerate(examples):
        row = encode(tokenizer, example.prompt, example.response, prompt)
        _check_filled(row, at, example)
        if context and sum(map(len, row)) > context:
            long.append((at, sum(map(len, row))))
        rows.append(row)
    if not rows:
        raise refuse(
            "there is nothing to fine-tune on",
            "a dataset of no examples",
            "one example or more",
            "raise dataset.examples, or look at what was left out of your file",
        )
    if long:
        raise _too_long(long, context, start)
    return rows


def write(path: Path, rows: Sequence[Row]) -> None:
    """Keep rows for the workers; all of them or nothing."""
    aside = path.with_name(f".{path.name}")
    with aside.open("wb") as file:
        np.savez(
            file,
            ids=np.array([i for row in rows for part in row for i in part], dtype=np.int32),
            lengths=np.array([[len(part) for part in row] for row in rows], dtype=np.int32),
        )
    publish_file(aside, path)


def read(path: Path) -> list[Row]:
    with np.load(path) as kept:
        ids, lengths = kept["ids"].tolist(), kept["lengths"].reshape(-1, 2)
    ends = np.cumsum(lengths.ravel()).reshape(-1, 2)
    starts = ends - lengths
    return [
        (ids[a:b], ids[c:d]) for (a, c), (b, d) in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _check_filled(row: Row, at: int, example: Example) -> None:
    """Both parts must hold a token, the response one beside its end token."""
    for part, name, least in ((row[0], "prompt", 1), (row[1], "response", 2)):
        if len(part) < least:
            raise refuse(
                f"the {name} of example {at} ({example.problem_id}) is empty once it is tokens",
                repr(getattr(example, name)),
                f"a {name} of one token or more",
                "mend the example or leave it out",
            )


def _too_long(long: Sequence[tuple[int, int]], context: int, start: Path) -> UserError:
    at, longest = max(long, key=lambda one: one[1])
    return refuse(
        f"{len(long)} examples do not fit the context of {start}",
        f"{longest} tokens in example {at}",
        f"at most {context}, prompt, response and end token together",
        "leave them out, or start from a model with a longer context",
    )
