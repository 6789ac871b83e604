"""Rounds of short runs: each ends in a criterion and in the class of every token.

From the second round on, the runs are trained as the final one will be: on the classes of the round
before. Coin flips that were found are then left to the base and not memorised, so that the gains of
the others stand out more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.records import Example
from forkdiv.core.store import Artifact
from forkdiv.data import tokenized
from forkdiv.data.token_table import TokenTable
from forkdiv.data.tokenized import Row
from forkdiv.learnability import criterion, planted
from forkdiv.learnability.criterion import Criterion, UnitEvidence
from forkdiv.learnability.evidence import Evidence, of_base, of_runs
from forkdiv.learnability.short_runs import DATA, Runs
from forkdiv.learnability.spans import Spans, token_spans, units
from forkdiv.learnability.table import rate

Classes = NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """The data, or what was planted: its examples and token rows, the group of each row, the unit
    of each token, what is known about the tokens, and their classes after the last round."""

    kind: str
    examples: Sequence[Example]
    rows: Sequence[Row]
    group_of: NDArray[np.int64]
    unit_of: NDArray[np.int64]
    evidence: Evidence
    classes: Classes | None = None

    @classmethod
    def of(
        cls, runs: Runs, kind: str, examples: Sequence[Example], group_of: NDArray[np.int64]
    ) -> Part:
        """Returns the part before the first round."""
        prompt = runs.study.prompt.without_shots
        rows = tokenized.encode_examples(examples, runs.base.path, prompt)
        evidence = of_base(rows, runs.base, runs.study.place.device)
        unit_of = _unit_numbers(
            examples, token_spans(examples, runs.base.path, prompt), runs.config.unit
        )
        return cls(kind, examples, rows, group_of, unit_of, evidence)

    @property
    def units(self) -> UnitEvidence:
        """What the runs that have not seen a row say about its units."""
        return UnitEvidence.of(self.unit_of, self.evidence.base, self.evidence.heldout)

    @property
    def table(self) -> TokenTable | None:
        """The classes of the last round, for training; None before the first round."""
        if self.classes is None:
            return None
        own = self.evidence
        return TokenTable(own.lengths, own.labels, self.classes, own.distribution)


def judged(
    runs: Runs, data: Artifact, examples: Sequence[Example], group_of: NDArray[np.int64]
) -> tuple[Part, Criterion, dict[str, Any]]:
    """Runs all rounds. Returns the data with its classes, the last criterion, and what the planted
    responses show about it in plain values."""
    config = runs.config
    parts = {DATA: Part.of(runs, DATA, examples, group_of)}
    for what in config.planted:
        chosen, copies = planted.drawn(runs, examples, what)
        parts[what] = Part.of(runs, what, copies, group_of[chosen])
    for number in range(1, config.rounds + 1):
        for kind, part in parts.items():
            parts[kind] = _with_runs(runs, data, part, number)
        found = criterion.calibrated(parts[DATA].evidence.choices(), config)
        for kind, part in parts.items():
            kinds = criterion.classes(part.units, part.evidence.base, found, config)
            parts[kind] = replace(part, classes=kinds)
    checks = {
        kind: _called_learnable(part, found, config.known)
        for kind, part in parts.items()
        if kind != DATA
    }
    return parts[DATA], found, checks


def _with_runs(runs: Runs, data: Artifact, part: Part, number: int) -> Part:
    """Returns the part with the predictions of the runs of one round."""
    name = part.kind if number == 1 else f"{part.kind} {number}"
    pairs = runs.pairs(data, part.examples, part.group_of, name, part.table)
    runs.progress(f"learnability: {name}, held-out predictions")
    device = runs.study.place.device
    return replace(part, evidence=of_runs(part.rows, part.evidence, pairs, device))


def _called_learnable(part: Part, found: Criterion, known: float) -> dict[str, Any]:
    """Returns the share of planted units, of those that the base does not know, that are called
    learnable."""
    units = part.units
    tested = units.base < known
    hits = found.learnable(units.base, units.heldout) & tested
    return rate(int(hits.sum()), int(tested.sum()))


def _unit_numbers(
    examples: Sequence[Example], spans: Sequence[Spans], unit: str
) -> NDArray[np.int64]:
    """Returns the unit of every token of all responses, counted over all of them."""
    out, first = [], 0
    for example, own in zip(examples, spans, strict=True):
        numbers = units(example.response, own, unit)
        out.append(first + numbers)
        first += int(numbers.max()) + 1
    return np.concatenate(out)
