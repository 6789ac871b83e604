"""The evidence on each response token: what the base gives its label, and what runs give it that
have not seen its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkdiv.data.token_table import BaseDistribution
from forkdiv.data.tokenized import Row
from forkdiv.learnability.predictions import RowPrediction, predict
from forkdiv.models.checkpoint import Checkpoint

Floats = NDArray[np.float64]
Pair = tuple[NDArray[np.bool_], Checkpoint, Checkpoint]


@dataclass(frozen=True)
class Evidence:
    """Of every response token, in the order of the rows: the probability of its label under the
    base, float64 (tokens,), and under one run of each pair, float64 (tokens, pairs); the base's
    entropy in nats (tokens,), and its distribution. `lengths` (rows,): tokens of each response.

    `heldout` are the runs that have not seen the row, `seen` those that have.
    """

    lengths: NDArray[np.int64]
    labels: NDArray[np.int32]
    base: Floats
    entropy: Floats
    distribution: BaseDistribution
    heldout: Floats
    seen: Floats

    @property
    def row_starts(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)


def of_base(rows: Sequence[Row], base: Checkpoint, device: str) -> Evidence:
    """Returns the evidence without runs."""
    predictions = predict(base.path, rows, device)
    lengths = np.array([len(response) for _, response in rows], dtype=np.int64)
    none = np.zeros((int(lengths.sum()), 0))
    return Evidence(
        lengths,
        np.array([token for _, response in rows for token in response], dtype=np.int32),
        _joined([prediction.label for prediction in predictions]),
        _joined([prediction.entropy for prediction in predictions]),
        BaseDistribution.joined([prediction.likely for prediction in predictions]),
        none,
        none,
    )


def of_runs(
    rows: Sequence[Row], evidence: Evidence, pairs: Sequence[Pair], device: str
) -> Evidence:
    """Returns the evidence with the predictions of the runs of `pairs`, each of which trained on
    half of the rows."""
    heldout, seen = [], []
    for first, run_first, run_second in pairs:
        on_first, on_second = (predict(run.path, rows, device) for run in (run_first, run_second))
        heldout.append(_chosen(first, on_second, on_first))
        seen.append(_chosen(first, on_first, on_second))
    stacked = (np.stack(columns, axis=1) for columns in (heldout, seen))
    return Evidence(
        evidence.lengths,
        evidence.labels,
        evidence.base,
        evidence.entropy,
        evidence.distribution,
        *stacked,
    )


def _chosen(
    first: NDArray[np.bool_], yes: Sequence[RowPrediction], no: Sequence[RowPrediction]
) -> Floats:
    """Returns the labels' probabilities: of rows in the first half from `yes`, else from `no`."""
    return _joined(
        [(a if inside else b).label for inside, a, b in zip(first, yes, no, strict=True)]
    )


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)
