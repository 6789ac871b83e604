"""Counts of one problem's samples by verdict."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forkdiv.core.records import Completion, Outcome, Problem, Verdict
from forkdiv.core.thinking import UNCLOSED, Thinking

MAX_ANSWERS = 64  # answers of a problem that are stored; rarer ones are left out
MAX_SHOWN_CHARACTERS = 4000  # of the example responses in a report


@dataclass
class ProblemCounts:
    """The counts of one problem's samples.

    `n` is the number of samples; `correct`, `wrong`, `truncated`, `unparsable` and `error` count
    them by verdict, and `truncated_thinking` the truncated ones that were cut off inside their
    thinking. `wrong_by` counts wrong samples by reason, and `by_mode` gives the number of
    all and of correct samples of each mode. `solutions` is a spectrum of the distinct correct
    responses: {times drawn: number of responses}; `valid` is the number of correct responses that
    exist, None where the task cannot list them. `right_votes` and `wrong_votes` are the spectra of
    distinct correct and wrong answers, None where the task's verdicts have no answers.
    `right_text` and `wrong_text` are one example response each.

    For samples that are not independent of each other: `strata` gives, by the rank of the forced
    first token, the number of all samples, of correct ones, and of truncated or unparsable ones.
    `trees` gives for each tree its size and the positions, counted from 0, of its first correct
    sample and of its first sample that is correct, truncated or unparsable (None: no such sample).
    For adaptive sampling, `stages` and `enough` are the parameters of the stopping rule
    (coverage.Design). `alike` says whether all samples are the same response; None for fewer than
    two samples, and in counts that were stored before this field.

    `answers` counts the samples with each answer, by a hash of the answer's canonical form; it has
    the MAX_ANSWERS most frequent ones, and is None where verdicts have no answers. `right_answers`
    are the hashes of the answers that are right: of those in samples, and of the problem's own.
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
    alike: bool | None = None
    truncated_thinking: int = 0
    answers: dict[str, int] | None = None
    right_answers: tuple[str, ...] = ()


def from_json(row: Mapping[str, Any]) -> ProblemCounts:
    """Returns the counts from their JSON form (`dataclasses.asdict`)."""
    spectra = {
        name: {int(times): count for times, count in row[name].items()}
        for name in ("solutions", "right_votes", "wrong_votes")
        if row[name] is not None
    }
    modes = {mode: (samples, correct) for mode, (samples, correct) in row["by_mode"].items()}
    groups = {
        name: {int(group): tuple(numbers) for group, numbers in row.get(name, {}).items()}
        for name in ("strata", "trees")
    }
    tuples = {name: tuple(row.get(name, ())) for name in ("stages", "right_answers")}
    return ProblemCounts(**{**row, **spectra, **groups, **tuples, "by_mode": modes})


class VerdictCounter:
    """Counts one problem's verdicts. With `thinking`, two responses are one solution if they are
    equal after their thinking. It keeps eight bytes per text and answer, so that millions of
    samples fit into memory."""

    def __init__(
        self,
        problem: Problem,
        valid: int | None,
        votes: bool,
        references: Iterable[str] = (),
        thinking: Thinking | None = None,
    ) -> None:
        """`references` are the canonical forms of answers that are known to be right."""
        self._thinking = thinking
        self._references = [_key(answer) for answer in references]
        self._counts = ProblemCounts(problem.id, problem.subset, valid=valid)
        self._votes = votes
        self._trees: dict[int, list[tuple[int, bool, bool]]] = {}
        self._solutions, self._right, self._wrong = (array("Q") for _ in range(3))
        self._first_text: int | None = None

    def add(self, verdict: Verdict, text: str = "", times: int = 1) -> None:
        """Adds `times` samples with the response `text` and the same verdict."""
        counts = self._counts
        outcome = verdict.outcome.value
        counts.n += times
        setattr(counts, outcome, getattr(counts, outcome) + times)
        self._compare(text)
        correct = verdict.outcome is Outcome.CORRECT
        if verdict.outcome is Outcome.WRONG:
            counts.wrong_by[verdict.detail] = counts.wrong_by.get(verdict.detail, 0) + times
        if verdict.outcome is Outcome.TRUNCATED and verdict.detail == UNCLOSED:
            counts.truncated_thinking += times
        if verdict.mode:
            in_mode, right = counts.by_mode.get(verdict.mode, (0, 0))
            counts.by_mode[verdict.mode] = (in_mode + times, right + correct * times)
        if verdict.outcome is Outcome.ERROR and not counts.first_error:
            counts.first_error = verdict.detail
        if correct:
            answer = self._thinking.answer_in(text) if self._thinking else text
            self._solutions.extend([_key(solution_of(answer or text))] * times)
            counts.right_text = counts.right_text or text[:MAX_SHOWN_CHARACTERS]
        elif verdict.outcome is not Outcome.ERROR and counts.wrong_text is None:
            counts.wrong_text = text[:MAX_SHOWN_CHARACTERS]
        if verdict.answer is not None and verdict.outcome in (Outcome.CORRECT, Outcome.WRONG):
            (self._right if correct else self._wrong).extend([_key(verdict.answer)] * times)

    def _compare(self, text: str) -> None:
        key = _key(text)
        if self._first_text is None:
            self._first_text = key
        if key != self._first_text:
            self._counts.alike = False
        elif self._counts.alike is None and self._counts.n > 1:
            self._counts.alike = True

    def add_design(self, verdict: Verdict, samples: Iterable[Completion]) -> None:
        """Adds samples with the same verdict to the counts of their strata and trees."""
        right = verdict.outcome is Outcome.CORRECT
        unread = verdict.outcome in (Outcome.TRUNCATED, Outcome.UNPARSABLE)
        for sample in samples:
            if sample.stratum is not None:
                n, correct, not_read = self._counts.strata.get(sample.stratum, (0, 0, 0))
                counts = (n + 1, correct + right, not_read + unread)
                self._counts.strata[sample.stratum] = counts
            if sample.tree is not None:
                tree = self._trees.setdefault(sample.tree, [])
                tree.append((sample.sample_index, right, right or unread))

    @property
    def counts(self) -> ProblemCounts:
        """The counts of everything added so far."""
        counts = self._counts
        counts.strata = dict(sorted(counts.strata.items()))
        counts.trees = {tree: _tree(rows) for tree, rows in sorted(self._trees.items())}
        counts.solutions = _spectrum(self._solutions)
        if self._votes:
            counts.right_votes = _spectrum(self._right)
            counts.wrong_votes = _spectrum(self._wrong)
            counts.answers = _most_frequent(self._right, self._wrong)
            right = {*np.frombuffer(self._right, dtype=np.uint64).tolist(), *self._references}
            counts.right_answers = tuple(_text(key) for key in sorted(right)[:MAX_ANSWERS])
        return counts


def solution_of(text: str) -> str:
    """Returns the text with normalized spaces: responses with equal results are one solution."""
    return " ".join(text.split())


def solutions_among(texts: Iterable[str]) -> int:
    """Returns the number of distinct solutions among the texts."""
    return len({solution_of(text) for text in texts})


def _tree(rows: Iterable[tuple[int, bool, bool]]) -> tuple[int, int | None, int | None]:
    """Returns the size of a tree, the position of its first correct sample, and that of its first
    correct or unread sample. `rows` are (sample index, correct, correct or unread)."""
    ordered = sorted(rows)
    firsts = (next((i for i, row in enumerate(ordered) if row[flag]), None) for flag in (1, 2))
    return len(ordered), *firsts  # type: ignore[return-value]


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _text(key: int) -> str:
    return f"{key:016x}"


def _most_frequent(*votes: array[int]) -> dict[str, int]:
    """Returns how many samples have each of the MAX_ANSWERS most frequent answers."""
    keys, times = np.unique(
        np.concatenate([np.frombuffer(part, dtype=np.uint64) for part in votes]), return_counts=True
    )
    order = np.lexsort((keys, -times))[:MAX_ANSWERS]
    return {_text(int(keys[i])): int(times[i]) for i in order}


def _spectrum(keys: array[int]) -> dict[int, int]:
    """Returns {times: number of distinct keys that occur so many times}."""
    _, times = np.unique(np.frombuffer(keys, dtype=np.uint64), return_counts=True)
    distinct_times, counts = np.unique(times, return_counts=True)
    return {int(t): int(count) for t, count in zip(distinct_times, counts, strict=True)}
