"""Verdicts on every sample, counted by problem. Errors are not counted as wrong answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from types import MappingProxyType
from typing import Any

from forkdiv.core.fingerprint import Identity
from forkdiv.core.records import Completion, Finish, Outcome, Problem, Verdict
from forkdiv.core.store import Artifact, Store, write_text
from forkdiv.core.thinking import UNCLOSED, Thinking
from forkdiv.sample.sample_sets import FailedRequest, SampleSet
from forkdiv.score.counts import ProblemCounts, VerdictCounter, from_json, solutions_among
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.base import Task

COUNTS = "counts.json"
NO_GRADING: Mapping[str, Any] = MappingProxyType({})
SAMPLES_PER_BATCH = 8192  # samples in memory; equal responses among them are graded once


def identity(
    samples: Identity,
    problems: int,
    n: int,
    of: Sequence[str] = (),
    grading: Mapping[str, Any] = NO_GRADING,
) -> Identity:
    """Returns the identity of the verdicts on the first `n` samples of each problem: of the first
    `problems` problems of the split, or of those whose ids are in `of`. `grading` is that of the
    evaluation (`Evaluation.grading`)."""
    subset = {"of": list(of)} if of else {}
    settings = {"problems": problems, "n": n, **subset}
    settings |= {"grading": dict(grading)} if grading else {}
    return Identity("verdicts", settings, {"samples": samples.fingerprint})


def obtain(
    store: Store,
    task: Task,
    problems: Sequence[Problem],
    n: int,
    samples: SampleSet,
    is_subset: bool = False,
    thinking: Thinking | None = None,
) -> list[ProblemCounts]:
    """Returns the counts of the first `n` samples of each problem; grades them if the store does
    not have the counts. `is_subset` says that the problems are not the first of their split, and
    `thinking` gives the tags around the thinking in the samples.

    Counts with errors are returned but not stored, so that the next run grades again.
    """
    ids = [problem.id for problem in problems] if is_subset else ()
    grading = task.grading() | ({"thinking": thinking.as_json()} if thinking else {})
    counts_identity = identity(samples.identity, len(problems), n, ids, grading)
    if artifact := store.find(counts_identity):
        return read(artifact)
    counts = count(task, problems, samples.completions(problems, n), samples.failed, thinking)
    if not any(row.error for row in counts):
        rows = json.dumps([asdict(row) for row in counts])
        store.obtain(counts_identity, lambda folder: write_text(folder / COUNTS, rows))
    return counts


def read(artifact: Artifact) -> list[ProblemCounts]:
    """Reads the counts of a stored artifact."""
    with artifact.reading(COUNTS) as path:
        return [from_json(row) for row in json.loads(path.read_text())]


def count(
    task: Task,
    problems: Sequence[Problem],
    completions: Iterable[Completion],
    failed: Iterable[FailedRequest] = (),
    thinking: Thinking | None = None,
) -> list[ProblemCounts]:
    """Grades every completion and counts the verdicts by problem, in the order of `problems`.

    Completions are read and graded in batches of `SAMPLES_PER_BATCH`. The samples of `failed`
    requests count as errors.
    """
    by_id = {problem.id: problem for problem in problems}
    counters = {
        problem.id: VerdictCounter(
            problem, _solutions(task, problem), task.votes, task.references(problem), thinking
        )
        for problem in problems
    }
    stream = iter(completions)
    with Grader(task, thinking=thinking) as grader:
        while batch := list(islice(stream, SAMPLES_PER_BATCH)):
            for problem_id, text, verdict, samples in graded(grader, by_id, batch, thinking):
                counters[problem_id].add(verdict, text, len(samples))
                counters[problem_id].add_design(verdict, samples)
    for failure in failed:
        verdict = Verdict(Outcome.ERROR, None, failure.message)
        counters[failure.request.problem.id].add(verdict, times=failure.request.n)
    return [counter.counts for counter in counters.values()]


def graded(
    grader: Grader,
    problems: dict[str, Problem],
    completions: Sequence[Completion],
    thinking: Thinking | None = None,
) -> Iterator[tuple[str, str, Verdict, list[Completion]]]:
    """Yields problem id, text, verdict and the samples with that text; equal responses are graded
    once."""
    groups: dict[tuple[str, str, str], list[Completion]] = {}
    for sample in completions:
        groups.setdefault((sample.problem_id, sample.text, sample.finish), []).append(sample)
    finished = [key for key in groups if key[2] != Finish.LENGTH]
    verdicts = grader.grade([(problems[problem_id], text) for problem_id, text, _ in finished])
    by_key = dict(zip(finished, verdicts, strict=True))
    for key, samples in groups.items():
        yield key[0], key[1], by_key.get(key) or truncated(key[1], thinking), samples


def truncated(text: str, thinking: Thinking | None) -> Verdict:
    """Returns the verdict on a response that was cut off: its detail is UNCLOSED if it was cut off
    inside its thinking."""
    inside = thinking is not None and thinking.answer_in(text) is None
    return Verdict(Outcome.TRUNCATED, None, UNCLOSED if inside else "")


def _solutions(task: Task, problem: Problem) -> int | None:
    """Returns the number of correct responses; None if the task cannot list them."""
    if not task.exhaustive:
        return None
    return solutions_among(trace.text for trace in task.solutions(problem))
