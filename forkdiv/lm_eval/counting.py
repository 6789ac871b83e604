"""Verdicts on the samples of a model's files, counted by problem."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from forkdiv.core.errors import refuse
from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.coverage.stats import pass_at_k
from forkdiv.lm_eval.judge import ALLOWED, NAMED, OWN, Judge
from forkdiv.lm_eval.lines import SampleLine
from forkdiv.lm_eval.reading import Samples
from forkdiv.score.counts import ProblemCounts, VerdictCounter
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import build

AT_ONCE = 8192  # responses that are held in memory, and among which equal ones are graded once

Lines = Sequence[tuple[Problem, SampleLine]]


@dataclass
class Agreement:
    """How often a grader's verdicts are those of the files' own metrics.

    `alike` and `known` count documents, by `metric,filter`, where a line shows which of its
    responses the metric judges.
    """

    alike: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    first_apart: str = ""

    def add(self, line: SampleLine, verdicts: Sequence[Verdict]) -> None:
        judged = _judged(line)
        correct = sum(one.outcome is Outcome.CORRECT for one in verdicts[:judged])
        for name, value in line.metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            key = f"{name},{line.filter}"
            ours = _metric(name, judged, correct)
            if ours is None:
                continue
            same = abs(ours - value) < 1e-9
            self.known[key] += 1
            self.alike[key] += same
            if not same and not self.first_apart:
                self.first_apart = line.where

    @property
    def notes(self) -> list[str]:
        return [
            f"the grader agrees with {key} on {self.alike[key]:,} of {known:,} documents"
            + (f"; the first apart is {self.first_apart}" if self.alike[key] < known else "")
            for key, known in self.known.items()
        ]


def count(samples: Samples, judge: Judge, n: int) -> tuple[list[ProblemCounts], Agreement]:
    """Counts of the first `n` samples of each problem, in the problems' order.

    Raises UserError where a grader calls nothing correct although the files do.
    """
    tallies: dict[int, VerdictCounter] = {}
    left = [n] * len(samples.problems)
    agreement = Agreement()
    _, _, filter = judge.name.rpartition(",")
    lines = samples.lines(filter if judge.is_metric else None)
    with _grader(samples, judge) if judge.is_grader else nullcontext() as grader:
        for some in _batches(lines):
            pairs = [(samples.problems[at], line) for at, line in some]
            for (at, line), verdicts in zip(some, _verdicts(judge, grader, pairs), strict=True):
                if at not in tallies:
                    votes = _votes(judge, verdicts)
                    tallies[at] = VerdictCounter(samples.problems[at], line.valid, votes)
                if judge.is_grader:
                    agreement.add(line, verdicts)
                kept = list(zip(verdicts, line.responses, strict=True))[: left[at]]
                left[at] -= len(kept)
                for verdict, text in kept:
                    tallies[at].add(verdict, text)
    counts = [tallies[at].counts for at in range(len(samples.problems))]
    _require_any(judge, counts, samples.means, agreement)
    return counts, agreement


def _grader(samples: Samples, judge: Judge) -> Grader:
    return Grader(build(FileConfig(test=samples.files[0].path, grader=judge.name)))


def _batches(lines: Iterable[tuple[int, SampleLine]]) -> Iterator[list[tuple[int, SampleLine]]]:
    some: list[tuple[int, SampleLine]] = []
    held = 0
    for at, line in lines:
        some.append((at, line))
        held += len(line.responses)
        if held >= AT_ONCE:
            yield some
            some, held = [], 0
    if some:
        yield some


def _verdicts(judge: Judge, grader: Grader | None, lines: Lines) -> Iterator[Sequence[Verdict]]:
    """Those of each line's responses, in order."""
    if grader is not None:
        yield from _graded(grader, lines)
        return
    of: Callable[[SampleLine], Sequence[Verdict]] = _own if judge.name == OWN else _by_metric(judge)
    for _, line in lines:
        yield of(line)


def _graded(grader: Grader, lines: Lines) -> Iterator[Sequence[Verdict]]:
    """Equal responses to one problem are graded once."""
    pairs = {
        (problem.id, text): (problem, text) for problem, one in lines for text in one.responses
    }
    verdicts = dict(zip(pairs, grader.grade(list(pairs.values())), strict=True))
    for problem, line in lines:
        yield [verdicts[problem.id, text] for text in line.responses]


def _own(line: SampleLine) -> Sequence[Verdict]:
    assert line.verdicts is not None  # seen when the file was looked through
    return line.verdicts


def _by_metric(judge: Judge) -> Callable[[SampleLine], Sequence[Verdict]]:
    metric = judge.name.rpartition(",")[0]
    right, wrong = Verdict(Outcome.CORRECT), Verdict(Outcome.WRONG, None, f"{metric} is 0")

    def verdicts(line: SampleLine) -> Sequence[Verdict]:
        found = line.per_sample(metric)
        assert found is not None  # as above
        return [right if one else wrong for one in found]

    return verdicts


def _votes(judge: Judge, verdicts: Sequence[Verdict]) -> bool:
    """Whether verdicts say which answer a response gave, so that answers can be counted."""
    if judge.name != OWN:
        return judge.is_grader and ":" not in judge.name
    graded = [one for one in verdicts if one.outcome in (Outcome.CORRECT, Outcome.WRONG)]
    return all(one.answer is not None for one in graded)


def _judged(line: SampleLine) -> int:
    """How many of the line's first responses its metrics judge, as far as what the filter kept
    shows it; 0 where it does not."""
    if len(line.responses) == 1:
        return 1
    kept = [line.kept] if isinstance(line.kept, str) else line.kept or []
    return len(kept) if kept == list(line.responses[: len(kept)]) else 0


def _metric(name: str, n: int, correct: int) -> float | None:
    """What a metric says of n responses: the share of correct ones, or pass@k where it is named
    so; None where it is not known of how many."""
    k = re.fullmatch(r"pass@(\d+)", name)
    if not n or (k and int(k[1]) > n):
        return None
    return float(pass_at_k(n, correct, int(k[1]))) if k else correct / n


def _require_any(
    judge: Judge,
    counts: Sequence[ProblemCounts],
    means: Mapping[str, float],
    agreement: Agreement,
) -> None:
    """A grader that reads another form of answer would call everything wrong."""
    if not judge.is_grader or any(one.correct or one.error for one in counts):
        return
    # against a grader that was named, only what a metric says of the same responses counts
    held = agreement.known if judge.why == NAMED else means
    called = {key: means[key] for key in held if means.get(key)}
    if not called:
        return
    key = max(called, key=called.__getitem__)
    raise refuse(
        f"the grader {judge.name} ({judge.why}) calls no response correct, but {key} does",
        f"a mean of {called[key]:.3f} in the files",
        ALLOWED,
        "set task.kind=file and task.grader to one that reads these responses",
    )
