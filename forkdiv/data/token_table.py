"""The classes of response tokens, and the base's next-token distribution at each: what fine-tuning
reads of a learnability table.

The files are `classes.npz` and, with unlabelled prompts, `unlabelled.npz` (as `tokenized.write`
writes rows). The rows are those of the dataset, in its order, then the unlabelled ones. For people
and for an audit there are `tokens.parquet` and `card.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.errors import refuse
from forkdiv.core.records import Example
from forkdiv.data.tokenized import Row

CLASSES, UNLABELLED = "classes.npz", "unlabelled.npz"
TOKENS, CARD = "tokens.parquet", "card.json"
Floats = NDArray[np.float32]


class TokenClass(IntEnum):
    """What the held-out predictions say about a response token.

    KNOWN: the base predicts it. LEARNABLE: runs that have not seen its row predict it better than
    the base. INDECIPHERABLE: they do not, and the base finds it plausible. ARBITRARY: they do not,
    and the base gives it nearly nothing. FREE: a token of an unlabelled prompt, drawn by the base.
    """

    KNOWN = 0
    LEARNABLE = 1
    INDECIPHERABLE = 2
    ARBITRARY = 3
    FREE = 4


# the classes whose tokens are not trained on their label alone
LEFT_TO_THE_BASE = (TokenClass.INDECIPHERABLE, TokenClass.ARBITRARY)


@dataclass(frozen=True)
class BaseDistribution:
    """The likely tokens of the base at each position: those of position t are `ids` and `p` from
    `starts[t]` to `starts[t + 1]`. int64 (positions + 1,), int32 and float32 (entries,). The rest
    of the probability is on all other tokens together."""

    starts: NDArray[np.int64]
    ids: NDArray[np.int32]
    p: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1

    def part(self, first: int, last: int) -> BaseDistribution:
        """Returns the positions from `first` to `last`, without `last`."""
        starts = self.starts[first : last + 1]
        inside = slice(int(starts[0]), int(starts[-1]))
        return BaseDistribution(starts - starts[0], self.ids[inside], self.p[inside])

    @classmethod
    def joined(cls, parts: Sequence[BaseDistribution]) -> BaseDistribution:
        counts = [np.diff(part.starts) for part in parts]
        starts = np.concatenate([[0], *counts]).cumsum().astype(np.int64)
        return cls(
            starts, np.concatenate([x.ids for x in parts]), np.concatenate([x.p for x in parts])
        )


@dataclass(frozen=True)
class TokenTable:
    """The class of every response token, uint8 (tokens,), and the base's distribution there.

    `lengths` (rows,) is the number of response tokens of each row, `labels` (tokens,) their ids.
    """

    lengths: NDArray[np.int64]
    labels: NDArray[np.int32]
    classes: NDArray[np.uint8]
    base: BaseDistribution

    @property
    def row_starts(self) -> NDArray[np.int64]:
        """The index of the first token of each row, and the number of all tokens; (rows + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    def rows(self, chosen: NDArray[np.int64]) -> TokenTable:
        """Returns the table of some of its rows, in the given order."""
        starts = self.row_starts
        tokens = np.concatenate([np.arange(starts[row], starts[row + 1]) for row in chosen])
        parts = [self.base.part(int(starts[row]), int(starts[row + 1])) for row in chosen]
        base = BaseDistribution.joined(parts)
        return TokenTable(self.lengths[chosen], self.labels[tokens], self.classes[tokens], base)

    def check_rows(self, rows: Sequence[Row], where: Path) -> None:
        """Raises UserError unless the table was computed for these rows."""
        lengths = np.array([len(response) for _, response in rows], dtype=np.int64)
        same = np.array_equal(lengths, self.lengths) and np.array_equal(
            np.array([i for _, response in rows for i in response], dtype=np.int32), self.labels
        )
        if not same:
            raise refuse(
                f"the learnability table {where} is of other data",
                f"{len(self.lengths):,} rows with {len(self.labels):,} response tokens there; "
                f"{len(lengths):,} rows with {int(lengths.sum()):,} here, or other tokens",
                "a table of these rows under this tokenizer",
                "run `forkdiv learnability` with the settings of this data",
            )


def digest(examples: Sequence[Example]) -> str:
    """Returns a digest of prompts and responses, by which an audit recognises a table's data."""
    found = hashlib.sha256()
    for example in examples:
        for text in (example.prompt, example.response):
            found.update(f"{len(text)}:{text}".encode())
    return found.hexdigest()


def write(folder: Path, table: TokenTable) -> None:
    """Writes `classes.npz` into the folder of an artifact that is being built."""
    arrays: dict[str, Any] = {
        "lengths": table.lengths,
        "labels": table.labels,
        "classes": table.classes,
        "starts": table.base.starts,
        "ids": table.base.ids,
        "p": table.base.p,
    }
    with (folder / CLASSES).open("wb") as file:
        np.savez(file, **arrays)


def read(folder: Path) -> TokenTable:
    """Returns the table in the folder of a learnability artifact. Raises UserError if it cannot be
    read."""
    path = folder / CLASSES
    try:
        with np.load(path, allow_pickle=False) as arrays:
            base = BaseDistribution(arrays["starts"], arrays["ids"], arrays["p"])
            table = TokenTable(arrays["lengths"], arrays["labels"], arrays["classes"], base)
        if not len(table.labels) == len(table.classes) == len(base) == table.lengths.sum():
            raise ValueError("its arrays have different lengths")
    except (OSError, ValueError, KeyError) as error:
        raise refuse(
            "the learnability table cannot be read",
            f"{path} ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            "the folder that `forkdiv learnability` wrote",
            "run `forkdiv learnability` again",
        ) from error
    return table
