"""Verdicts on every sample, counted by problem; errors kept apart from wrong answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice

from forkdiv.core.fingerprint import Identity
from forkdiv.core.records import Completion, Finish, Outcome, Problem, Verdict
from forkdiv.core.store import Artifact, Store, write_text
from forkdiv.sample.sample_sets import Failed, SampleSet
from forkdiv.score.counts import ProblemCounts, Tally, from_json, solutions_among
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.base import Task

COUNTS = "counts.json"
AT_ONCE = 8192  # samples that are held in memory, and among which equal ones are graded once


def identity(samples: Identity, problems: int, n: int, of: Sequence[str] = ()) -> Identity:
    """Of the first `n` samples of so many problems: the first ones, or those that `of` names."""
    some = {"of": list(of)} if of else {}
    knobs = {"problems": problems, "n": n, **some}
    return Identity("verdicts", knobs, {"samples": samples.fingerprint})


def obtain(
    store: Store,
    task: Task,
    problems: Sequence[Problem],
    n: int,
    samples: SampleSet,
    some: bool = False,
) -> list[ProblemCounts]:
    """Counts per problem for the first `n` samples of each, graded where not graded yet. `some`
    says that the problems are not simply the first ones of their split.

    Counts with errors in them are returned but not published: the next run tries again.
    """
    names = [one.id for one in problems] if some else ()
    what = identity(samples.identity, len(problems), n, names)
    if found := store.find(what):
        return read(found)
    counts = count(task, problems, samples.completions(problems, n), samples.failed)
    if not any(one.error for one in counts):
        rows = json.dumps([asdict(one) for one in counts])
        store.obtain(what, lambda folder: write_text(folder / COUNTS, rows))
    return counts


def read(artifact: Artifact) -> list[ProblemCounts]:
    return [from_json(row) for row in json.loads((artifact.path / COUNTS).read_text())]


def count(
    task: Task,
    problems: Sequence[Problem],
    completions: Iterable[Completion],
    failed: Iterable[Failed] = (),
) -> list[ProblemCounts]:
    """Grade every completion and count the verdicts by problem, in the problems' order.

    Completions are graded as they come, some thousands at a time.
    """
    by_id = {problem.id: problem for problem in problems}
    tallies = {one.id: Tally(one, _valid(task, one), task.votes) for one in problems}
    stream = iter(completions)
    with Grader(task) as grader:
        while some := list(islice(stream, AT_ONCE)):
            for problem_id, text, verdict, samples in graded(grader, by_id, some):
                tallies[problem_id].add(verdict, text, len(samples))
                tallies[problem_id].place(verdict, samples)
    for lost in failed:
        verdict = Verdict(Outcome.ERROR, None, lost.message)
        tallies[lost.request.problem.id].add(verdict, times=lost.request.n)
    return [tally.counts for tally in tallies.values()]


def graded(
    grader: Grader, problems: dict[str, Problem], completions: Sequence[Completion]
) -> Iterator[tuple[str, str, Verdict, list[Completion]]]:
    """Problem, text, verdict and the samples it holds for: equal responses are graded once."""
    whole: dict[tuple[str, str, str], list[Completion]] = {}
    for one in completions:
        whole.setdefault((one.problem_id, one.text, one.finish), []).append(one)
    finished = [key for key in whole if key[2] != Finish.LENGTH]
    verdicts = grader.grade([(problems[problem_id], text) for problem_id, text, _ in finished])
    by_key = dict(zip(finished, verdicts, strict=True))
    for key, samples in whole.items():
        yield key[0], key[1], by_key.get(key) or Verdict(Outcome.TRUNCATED), samples


def _valid(task: Task, problem: Problem) -> int | None:
    if not task.exhaustive:
        return None
    return solutions_among(trace.text for trace in task.solutions(problem))
