"""The evidence on each response token: what the base gives its label, and what runs give it that
have not seen its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from forkdiv.data.token_table import BaseDistribution
from forkdiv.data.tokenized import Row
from forkdiv.learnability.criterion import Choices
from forkdiv.learnability.predictions import RowPrediction, predict
from forkdiv.models.checkpoint import Checkpoint

Floats = NDArray[np.float64]
Pair = tuple[NDArray[np.bool_], Checkpoint, Checkpoint]


@dataclass(frozen=True)
class Evidence:
    """Of every response token, in the order of the rows: the probability of its label under the
    base, float64 (tokens,), and under one run of each pair, float64 (tokens, pairs); the base's
    entropy in nats (tokens,), and its distribution. `lengths` (rows,): tokens of each response.

    `heldout` are the runs that have not seen the row, `seen` those that have. `likely_heldout` and
    `likely_seen` are the means of their probabilities of the tokens in `distribution` (entries,).
    """

    lengths: NDArray[np.int64]
    labels: NDArray[np.int32]
    base: Floats
    entropy: Floats
    distribution: BaseDistribution
    heldout: Floats
    seen: Floats
    likely_heldout: Floats
    likely_seen: Floats

    def choices(self, seen: bool = False) -> Choices:
        """Returns every token as a choice, as the held-out runs see it, or those that have `seen`
        its row."""
        runs, likely = (
            (self.seen, self.likely_seen) if seen else (self.heldout, self.likely_heldout)
        )
        return Choices(self.base, runs.mean(axis=1), self.distribution, likely)

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
        np.zeros(0),
        np.zeros(0),
    )


def of_runs(
    rows: Sequence[Row], evidence: Evidence, pairs: Sequence[Pair], device: str
) -> Evidence:
    """Returns the evidence with the predictions of the runs of `pairs`, each of which trained on
    half of the rows."""
    starts = evidence.row_starts.tolist()
    asked = [evidence.distribution.part(a, b) for a, b in pairwise(starts)]
    heldout: list[Floats] = []
    seen: list[Floats] = []
    entries = len(evidence.distribution.ids)
    likely_heldout, likely_seen = np.zeros(entries), np.zeros(entries)
    for first, run_first, run_second in pairs:
        on_first, on_second = (
            predict(run.path, rows, device, asked) for run in (run_first, run_second)
        )
        for chosen, labels, likely in (
            (_chosen(first, on_second, on_first), heldout, likely_heldout),
            (_chosen(first, on_first, on_second), seen, likely_seen),
        ):
            labels.append(_joined([prediction.label for prediction in chosen]))
            likely += _joined([prediction.asked for prediction in chosen]) / len(pairs)
    return replace(
        evidence,
        heldout=np.stack(heldout, axis=1),
        seen=np.stack(seen, axis=1),
        likely_heldout=likely_heldout,
        likely_seen=likely_seen,
    )


def _chosen(
    first: NDArray[np.bool_], yes: Sequence[RowPrediction], no: Sequence[RowPrediction]
) -> list[RowPrediction]:
    """Returns the predictions of rows in the first half from `yes`, of the others from `no`."""
    return [a if inside else b for inside, a, b in zip(first, yes, no, strict=True)]


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)
