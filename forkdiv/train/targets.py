"""What each response token is trained on with `sft.loss=fork-aware`: its label, the base's
distribution, or both.

The base's distribution is read from the learnability table instead of being computed by a frozen
copy of the base: it is the same at every ZeRO stage and with packing, takes no GPU memory and no
forward pass, and only its likely tokens are kept, 8 bytes each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.sft import ForkAwareConfig
from forkdiv.core.store import publish_file
from forkdiv.data import token_table, tokenized
from forkdiv.data.token_table import BaseDistribution, TokenClass, TokenTable
from forkdiv.data.tokenized import Row

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class RowTargets:
    """The targets of one response: weights (tokens,), and the base's distribution."""

    label: Floats
    base: Floats
    distribution: BaseDistribution


@dataclass(frozen=True)
class TokenTargets:
    """The targets of all responses, in the order of the rows.

    `label` and `base` (tokens,) are the weights of −log p(label) and of KL(base ‖ model);
    `distribution` has no entries where the weight of the base is 0. `row_starts` (rows + 1,).
    """

    row_starts: NDArray[np.int64]
    label: Floats
    base: Floats
    distribution: BaseDistribution

    def row(self, index: int) -> RowTargets:
        first, last = int(self.row_starts[index]), int(self.row_starts[index + 1])
        part = self.distribution.part(first, last)
        return RowTargets(self.label[first:last], self.base[first:last], part)


def token_targets(table: TokenTable, config: ForkAwareConfig) -> TokenTargets:
    """Returns the targets of the tokens by their classes.

    A token that is known or learnable has the weights (1, kl_learnable) of label and base, one that
    is indecipherable (0, kl), an arbitrary one (label_share, (1 − label_share)·kl), and one of an
    unlabelled prompt (0, kl_unlabelled). The weights of an arbitrary token are, up to a constant,
    cross-entropy with the target (1 − λ)·base + λ·label.
    """
    share = config.label_share
    weights = {
        TokenClass.KNOWN: (1.0, config.kl_learnable),
        TokenClass.LEARNABLE: (1.0, config.kl_learnable),
        TokenClass.INDECIPHERABLE: (0.0, config.kl),
        TokenClass.ARBITRARY: (share, (1 - share) * config.kl),
        TokenClass.FREE: (0.0, config.kl_unlabelled),
    }
    by_class = np.array([weights[kind] for kind in TokenClass], dtype=np.float32)
    label, base = by_class[table.classes].T.copy()
    return TokenTargets(table.row_starts, label, base, _where(table.base, base > 0))


def with_targets(
    rows: Sequence[Row], folder: Path, config: ForkAwareConfig
) -> tuple[list[Row], TokenTargets]:
    """Returns the rows followed by the unlabelled rows of the learnability table in `folder`, and
    the targets of all. Raises UserError for the table of other data."""
    table = token_table.read(folder)
    unlabelled = folder / token_table.UNLABELLED
    every = [*rows, *(tokenized.read(unlabelled) if unlabelled.is_file() else ())]
    table.check_rows(every, folder)
    return every, token_targets(table, config)


def _where(base: BaseDistribution, used: NDArray[np.bool_]) -> BaseDistribution:
    """Returns the distribution without the entries of positions that are not used."""
    counts = np.diff(base.starts)
    kept = np.repeat(used, counts)
    starts = np.concatenate([[0], np.cumsum(np.where(used, counts, 0))]).astype(np.int64)
    return BaseDistribution(starts, base.ids[kept], base.p[kept])


def write(path: Path, targets: TokenTargets) -> None:
    """Writes targets for the workers, atomically."""
    aside = path.with_name(f".{path.name}")
    base = targets.distribution
    with aside.open("wb") as file:
        np.savez(
            file,
            row_starts=targets.row_starts,
            label=targets.label,
            base=targets.base,
            starts=base.starts,
            ids=base.ids,
            p=base.p,
        )
    publish_file(aside, path)


def read(path: Path) -> TokenTargets:
    with np.load(path, allow_pickle=False) as arrays:
        base = BaseDistribution(arrays["starts"], arrays["ids"], arrays["p"])
        return TokenTargets(arrays["row_starts"], arrays["label"], arrays["base"], base)


def padded(rows: Sequence[RowTargets]) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """Returns the targets of several responses one after the other: the weights of label and base
    (tokens,), and the base's likely tokens and their probabilities (tokens, most entries). Missing
    entries repeat the token's first entry with probability 0."""
    if not rows:
        none = np.zeros(0, np.float32)
        return none, none, np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32)
    base = BaseDistribution.joined([row.distribution for row in rows])
    counts = np.diff(base.starts)
    width = max(int(counts.max(initial=0)), 1)
    ids = np.zeros((len(counts), width), dtype=np.int64)
    p = np.zeros((len(counts), width), dtype=np.float32)
    inside = np.arange(width) < counts[:, None]
    ids[inside], p[inside] = base.ids, base.p
    ids = np.where(inside, ids, ids[:, :1])
    label, weight = (
        np.concatenate([getattr(row, name) for row in rows]) for name in ("label", "base")
    )
    return label, weight, ids, p
