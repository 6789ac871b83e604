"""Verdicts on the samples of a model's files, counted by problem."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from forkdiv.core.errors import refuse
from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.core.thinking import TAGS, Thinking
from forkdiv.coverage.stats import pass_at_k
from forkdiv.lm_eval.judge import ALLOWED, FORKDIV_VERDICTS, REQUESTED, Judge
from forkdiv.lm_eval.lines import SampleLine
from forkdiv.lm_eval.reading import Samples
from forkdiv.score.counts import ProblemCounts, VerdictCounter
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.graders.registry import build_grader
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.own_data.file import quoted
from forkdiv.tasks.registry import build

THINKING = Thinking(*TAGS[0])  # unless eval.thinking_end is set
RESPONSES_PER_BATCH = 8192  # held in memory; equal responses within a batch are graded once

Lines = Sequence[tuple[Problem, SampleLine]]


@dataclass
class Agreement:
    """How often verdicts agree with the other metrics in the files; `whose` verdicts they are.

    `compared` and `equal` count documents by `metric,filter`. A document is compared if its line
    shows which of its responses the metric judges.
    """

    whose: str = "the grader agrees"
    equal: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    first_difference: str = ""

    def add(self, line: SampleLine, verdicts: Sequence[Verdict]) -> None:
        count = _number_judged(line)
        correct = sum(verdict.outcome is Outcome.CORRECT for verdict in verdicts[:count])
        for name, value in line.metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            key = f"{name},{line.filter}"
            computed = _metric_value(name, count, correct)
            if computed is None:
                continue
            equal = abs(computed - value) < 1e-9
            self.compared[key] += 1
            self.equal[key] += equal
            if not equal and not self.first_difference:
                self.first_difference = line.location

    @property
    def notes(self) -> list[str]:
        return [
            f"{self.whose} with {key} on {self.equal[key]:,} of {compared:,} documents"
            + (f"; first difference: {self.first_difference}" if self.equal[key] < compared else "")
            for key, compared in self.compared.items()
        ]

    @property
    def contradictions(self) -> Agreement:
        """The part about metrics that the verdicts contradict."""
        keys = [key for key in self.compared if self.equal[key] < self.compared[key]]
        equal, compared = ({key: of[key] for key in keys} for of in (self.equal, self.compared))
        return replace(self, equal=Counter(equal), compared=Counter(compared))


def count(
    samples: Samples, judge: Judge, n: int, thinking: Thinking = THINKING
) -> tuple[list[ProblemCounts], Agreement]:
    """Returns the counts of the first `n` samples of each problem, in the order of the problems. A
    grader reads what follows the `thinking` of a response that has its tags.

    Raises UserError if a grader accepts no response although the metrics in the files do, if
    verdicts in the files contradict the pass@k beside them, or if a problem has more distinct
    correct responses than exist.
    """
    counters: dict[int, VerdictCounter] = {}
    remaining = [n] * len(samples.problems)
    agreement = Agreement() if judge.is_grader else Agreement("the verdicts agree")
    _, _, filter = judge.name.rpartition(",")
    lines = samples.lines(filter if judge.is_metric else None)
    with _grader(samples, judge, thinking) if judge.is_grader else nullcontext() as grader:
        for batch in _batches(lines):
            pairs = [(samples.problems[at], line) for at, line in batch]
            for (at, line), verdicts in zip(batch, _verdicts(judge, grader, pairs), strict=True):
                if at not in counters:
                    votes = _verdicts_have_answers(judge, verdicts)
                    problem = samples.problems[at]
                    references = _references(judge, problem, line) if votes else ()
                    counters[at] = VerdictCounter(problem, line.valid, votes, references, thinking)
                if judge.is_grader:
                    agreement.add(line, verdicts)
                else:
                    if judge.name == FORKDIV_VERDICTS:
                        _require_own_metrics(line, verdicts)
                    agreement.add(_without(line, judge), verdicts)
                judged = list(zip(verdicts, line.responses, strict=True))[: remaining[at]]
                remaining[at] -= len(judged)
                for verdict, text in judged:
                    counters[at].add(verdict, text)
    counts = [counters[at].counts for at in range(len(samples.problems))]
    _require_any_correct(judge, counts, samples.means, agreement)
    _require_possible_solutions(counts, samples.locations)
    return counts, agreement if judge.is_grader else agreement.contradictions


def _grader(samples: Samples, judge: Judge, thinking: Thinking) -> Grader:
    task = build(FileConfig(test=samples.files[0].path, grader=judge.name))
    return Grader(task, thinking=thinking)


def _batches(lines: Iterable[tuple[int, SampleLine]]) -> Iterator[list[tuple[int, SampleLine]]]:
    batch: list[tuple[int, SampleLine]] = []
    responses = 0
    for at, line in lines:
        batch.append((at, line))
        responses += len(line.responses)
        if responses >= RESPONSES_PER_BATCH:
            yield batch
            batch, responses = [], 0
    if batch:
        yield batch


def _verdicts(judge: Judge, grader: Grader | None, lines: Lines) -> Iterator[Sequence[Verdict]]:
    """Yields the verdicts on the responses of each line, in order."""
    if grader is not None:
        yield from _graded(grader, lines)
        return
    of: Callable[[SampleLine], Sequence[Verdict]] = (
        _forkdiv_verdicts if judge.name == FORKDIV_VERDICTS else _by_metric(judge)
    )
    for _, line in lines:
        yield of(line)


def _graded(grader: Grader, lines: Lines) -> Iterator[Sequence[Verdict]]:
    """Grades the responses; equal responses to one problem are graded once."""
    pairs = {
        (problem.id, text): (problem, text) for problem, line in lines for text in line.responses
    }
    verdicts = dict(zip(pairs, grader.grade(list(pairs.values())), strict=True))
    for problem, line in lines:
        yield [verdicts[problem.id, text] for text in line.responses]


def _forkdiv_verdicts(line: SampleLine) -> Sequence[Verdict]:
    assert line.verdicts is not None  # checked when the file was scanned
    return line.verdicts


def _by_metric(judge: Judge) -> Callable[[SampleLine], Sequence[Verdict]]:
    metric = judge.name.rpartition(",")[0]
    right, wrong = Verdict(Outcome.CORRECT), Verdict(Outcome.WRONG, None, f"{metric} is 0")

    def verdicts(line: SampleLine) -> Sequence[Verdict]:
        values = line.per_sample(metric)
        assert values is not None  # checked when the file was scanned
        return [right if value else wrong for value in values]

    return verdicts


def _verdicts_have_answers(judge: Judge, verdicts: Sequence[Verdict]) -> bool:
    """Returns whether verdicts contain the extracted answer, which majority@k counts."""
    if judge.name != FORKDIV_VERDICTS:
        return judge.is_grader and ":" not in judge.name
    graded = [
        verdict for verdict in verdicts if verdict.outcome in (Outcome.CORRECT, Outcome.WRONG)
    ]
    return all(verdict.answer is not None for verdict in graded)


def _references(judge: Judge, problem: Problem, line: SampleLine) -> Sequence[str]:
    """Returns the problem's right answers: those beside forkdiv's verdicts, else the reference as
    the grader reads it. Empty if it cannot be read: then the verdicts on its responses are
    errors."""
    if not judge.is_grader:
        return line.right_answers
    try:
        return (build_grader(judge.name).reference(problem.facts["answer"]),)
    except ValueError:
        return ()


def _number_judged(line: SampleLine) -> int:
    """Returns how many of the first responses the line's metrics judge, inferred from the output
    of the filter; 0 if unknown."""
    if len(line.responses) == 1:
        return 1
    filtered = [line.filtered] if isinstance(line.filtered, str) else line.filtered or []
    return len(filtered) if filtered == list(line.responses[: len(filtered)]) else 0


def _metric_value(name: str, n: int, correct: int) -> float | None:
    """Returns the expected value of a metric on n responses: pass@k if it is named pass@k, else
    the share of correct responses. None if n is unknown or too small."""
    k = re.fullmatch(r"pass@(\d+)", name)
    if not n or (k and int(k[1]) > n):
        return None
    return float(pass_at_k(n, correct, int(k[1]))) if k else correct / n


def _without(line: SampleLine, judge: Judge) -> SampleLine:
    """Returns the line without the metric that judges. Of the others, only pass@k is comparable
    with a metric: two metrics of one sample may differ."""
    metrics = {
        name: value
        for name, value in line.metrics.items()
        if judge.name == FORKDIV_VERDICTS or re.fullmatch(r"pass@\d+", name)
    }
    return replace(line, metrics=metrics)


def _require_own_metrics(line: SampleLine, verdicts: Sequence[Verdict]) -> None:
    """Refuses verdicts that do not give the pass@k on the same line. forkdiv computes one from the
    other, so one of them was changed."""
    correct = sum(verdict.outcome is Outcome.CORRECT for verdict in verdicts)
    for name, value in line.metrics.items():
        if not re.fullmatch(r"pass@\d+", name):
            continue
        computed = _metric_value(name, len(verdicts), correct)
        stated = value if isinstance(value, int | float) else None
        if computed is None or stated is None or not abs(computed - stated) < 1e-6:
            raise refuse(
                f"the verdicts on {line.location} contradict the metric {name} on it",
                f"{name} {quoted(str(value))}, but {correct} of {len(verdicts)} responses correct",
                "verdicts and metrics as forkdiv wrote them",
                "export the samples again, or set task.grader to grade the responses anew",
            )


def _require_possible_solutions(counts: Sequence[ProblemCounts], locations: Sequence[str]) -> None:
    """Refuses more distinct correct responses than the file says exist."""
    for problem, location in zip(counts, locations, strict=True):
        distinct = sum(problem.solutions.values())
        if problem.valid is not None and distinct > problem.valid:
            raise refuse(
                f"the number of `valid_solutions` on {location} is impossible",
                f"{problem.valid}, but {distinct} different responses are correct",
                "the number of correct responses that exist for the problem; or null",
                "correct or remove the key, or set task.grader to a grader that accepts fewer",
            )


def _require_any_correct(
    judge: Judge,
    counts: Sequence[ProblemCounts],
    means: Mapping[str, float],
    agreement: Agreement,
) -> None:
    """Refuses a grader that expects another answer format and so rejects every response."""
    if not judge.is_grader or any(problem.correct or problem.error for problem in counts):
        return
    # a requested grader is contradicted only by metrics on the same responses
    candidates = agreement.compared if judge.why == REQUESTED else means
    positive = {key: means[key] for key in candidates if means.get(key)}
    if not positive:
        return
    key = max(positive, key=positive.__getitem__)
    raise refuse(
        f"the grader {judge.name} ({judge.why}) accepts no response, but the metric {key} does",
        f"no correct response, but a mean {key} of {positive[key]:.3f} in the files",
        ALLOWED,
        "set task.kind=file and task.grader to a grader for the format of these responses",
    )
