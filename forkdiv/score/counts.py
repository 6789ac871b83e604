"""What became of one problem's samples, counted as verdicts come."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forkdiv.core.records import Completion, Outcome, Problem, Verdict

SHOWN = 4000  # characters of a response that is kept to be looked at


@dataclass
class ProblemCounts:
    """One problem's samples in numbers.

    `wrong_by` counts wrong ones by their reason, `by_mode` all and correct ones by how they are
    told. `solutions` says of the distinct correct responses how many were seen how often
    ({times: responses}), `valid` how many there are, where the task lists them. `right_votes` and
    `wrong_votes` say the same of distinct answers; None where verdicts do not carry answers.
    `right_text` and `wrong_text` are one response of each kind, to be looked at.

    Where samples were not drawn independently of each other, `strata` holds of each first token
    all samples, the correct ones, and those cut off or unreadable; `trees` of each tree its size
    and the places, counted from 0, of its first correct sample and of its first one that is
    correct or unread (None: it has none). Where settled problems got no more samples, `stages` and
    `enough` are those of the rule (coverage.Design).
    """

    problem_id: str
    subset: str
    n: int = 0
    correct: int = 0
    wrong: int = 0
    truncated: int = 0
    unparsable: int = 0
    error: int = 0
    wrong_by: dict[str, int] = field(default_factory=dict)
    by_mode: dict[str, tuple[int, int]] = field(default_factory=dict)
    solutions: dict[int, int] = field(default_factory=dict)
    valid: int | None = None
    right_votes: dict[int, int] | None = None
    wrong_votes: dict[int, int] | None = None
    right_text: str | None = None
    wrong_text: str | None = None
    first_error: str = ""
    strata: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    trees: dict[int, tuple[int, int | None, int | None]] = field(default_factory=dict)
    stages: tuple[int, ...] = ()
    enough: int = 0


def from_json(row: Mapping[str, Any]) -> ProblemCounts:
    """The counts that `dataclasses.asdict` and JSON made `row` of."""
    spectra = {
        name: {int(times): count for times, count in row[name].items()}
        for name in ("solutions", "right_votes", "wrong_votes")
        if row[name] is not None
    }
    modes = {mode: (told, right) for mode, (told, right) in row["by_mode"].items()}
    groups = {
        name: {int(group): tuple(numbers) for group, numbers in row.get(name, {}).items()}
        for name in ("strata", "trees")
    }
    stages = tuple(row.get("stages", ()))
    return ProblemCounts(**{**row, **spectra, **groups, "by_mode": modes, "stages": stages})


class Tally:
    """Counts one problem's verdicts. Of texts and answers it keeps eight bytes each, so that
    millions of samples fit into memory."""

    def __init__(self, problem: Problem, valid: int | None, votes: bool) -> None:
        self._counts = ProblemCounts(problem.id, problem.subset, valid=valid)
        self._votes = votes
        self._trees: dict[int, list[tuple[int, bool, bool]]] = {}
        self._solutions, self._right, self._wrong = (array("Q") for _ in range(3))

    def add(self, verdict: Verdict, text: str = "", times: int = 1) -> None:
        """`times` responses `text` of one verdict."""
        counts = self._counts
        outcome = verdict.outcome.value
        counts.n += times
        setattr(counts, outcome, getattr(counts, outcome) + times)
        correct = verdict.outcome is Outcome.CORRECT
        if verdict.outcome is Outcome.WRONG:
            counts.wrong_by[verdict.detail] = counts.wrong_by.get(verdict.detail, 0) + times
        if verdict.mode:
            told, right = counts.by_mode.get(verdict.mode, (0, 0))
            counts.by_mode[verdict.mode] = (told + times, right + correct * times)
        if verdict.outcome is Outcome.ERROR and not counts.first_error:
            counts.first_error = verdict.detail
        if correct:
            self._solutions.extend([_key(solution_of(text))] * times)
            counts.right_text = counts.right_text or text[:SHOWN]
        elif verdict.outcome is not Outcome.ERROR and counts.wrong_text is None:
            counts.wrong_text = text[:SHOWN]
        if verdict.answer is not None and verdict.outcome in (Outcome.CORRECT, Outcome.WRONG):
            (self._right if correct else self._wrong).extend([_key(verdict.answer)] * times)

    def place(self, verdict: Verdict, samples: Iterable[Completion]) -> None:
        """Where in the design of their problem the samples of one verdict stand."""
        right = verdict.outcome is Outcome.CORRECT
        unread = verdict.outcome in (Outcome.TRUNCATED, Outcome.UNPARSABLE)
        for one in samples:
            if one.stratum is not None:
                n, correct, lost = self._counts.strata.get(one.stratum, (0, 0, 0))
                self._counts.strata[one.stratum] = (n + 1, correct + right, lost + unread)
            if one.tree is not None:
                mine = self._trees.setdefault(one.tree, [])
                mine.append((one.sample_index, right, right or unread))

    @property
    def counts(self) -> ProblemCounts:
        """All that was added so far."""
        counts = self._counts
        counts.strata = dict(sorted(counts.strata.items()))
        counts.trees = {tree: _tree(rows) for tree, rows in sorted(self._trees.items())}
        counts.solutions = _spectrum(self._solutions)
        if self._votes:
            counts.right_votes = _spectrum(self._right)
            counts.wrong_votes = _spectrum(self._wrong)
        return counts


def solution_of(text: str) -> str:
    """What makes two correct responses one solution: the same text, whatever its spaces."""
    return " ".join(text.split())


def solutions_among(texts: Iterable[str]) -> int:
    """How many distinct solutions the texts are."""
    return len({solution_of(text) for text in texts})


def _tree(rows: Iterable[tuple[int, bool, bool]]) -> tuple[int, int | None, int | None]:
    """Size and first places of a tree, from (sample index, correct, correct or unread)."""
    ordered = sorted(rows)
    firsts = (next((at for at, row in enumerate(ordered) if row[which]), None) for which in (1, 2))
    return len(ordered), *firsts  # type: ignore[return-value]


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _spectrum(keys: array[int]) -> dict[int, int]:
    """{times: how many keys occur that often}."""
    _, times = np.unique(np.frombuffer(keys, dtype=np.uint64), return_counts=True)
    each, many = np.unique(times, return_counts=True)
    return {int(one): int(count) for one, count in zip(each, many, strict=True)}
