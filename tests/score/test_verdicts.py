"""Verdicts: every sample is counted once, and an error is never a wrong answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from forkdiv.core.config.study import EvalConfig
from forkdiv.core.progress import Progress
from forkdiv.core.records import Completion, Problem, Verdict
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.sample_sets import FailedRequest, Request, SampleSet
from forkdiv.score import verdicts
from forkdiv.score.counts import ProblemCounts
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.graph_branching import BROKEN_PATH, OTHER_ENDS
from forkdiv.tasks.registry import build
from tests.fakes import TASK, UNREADABLE, FakeSampler, an_eval, broken, other_end, right

PROBLEMS = build(TASK).heldout("test", 4)
FIRST = PROBLEMS[0]
CHECKPOINT = Checkpoint(Path("nowhere"), "c" * 32)


def completion(index: int, text: str, finish: str = "stop") -> Completion:
    return Completion(FIRST.id, index, 1000 + index, text, (), finish)


def sampled(store: Store, sampler: FakeSampler, n: int) -> SampleSet:
    evaluation = an_eval(TASK, PROBLEMS, config=EvalConfig(samples=n))
    progress = Progress(store.root / "progress.jsonl")
    return sample_sets.obtain(store, evaluation, CHECKPOINT, sampler, progress)


def test_truncated_and_unparsable_answers_stay_in_n_and_are_counted_apart() -> None:
    texts = [right(FIRST), right(FIRST), other_end(FIRST), broken(FIRST), UNREADABLE, ""]
    completions = [completion(i, text) for i, text in enumerate(texts)]
    completions += [completion(6, right(FIRST), "length"), completion(7, UNREADABLE, "length")]
    counts = verdicts.count(build(TASK), PROBLEMS, completions)
    assert counts[0] == ProblemCounts(
        FIRST.id,
        FIRST.subset,
        n=8,
        correct=2,
        wrong=2,
        truncated=2,
        unparsable=2,
        wrong_by={OTHER_ENDS: 1, BROKEN_PATH: 1},
        by_mode={"forward": (4, 2)},
        solutions={2: 1},
        valid=2,
        right_votes={2: 1},
        wrong_votes={1: 2},
        right_text=right(FIRST),
        wrong_text=other_end(FIRST),
        alike=False,
        answers=counts[0].answers,
        right_answers=counts[0].right_answers,
    )
    assert sorted((counts[0].answers or {}).values()) == [1, 1, 2]
    (right_answer,) = counts[0].right_answers
    assert counts[0].answers and counts[0].answers[right_answer] == 2
    assert [one.problem_id for one in counts] == [problem.id for problem in PROBLEMS]
    assert all(one.n == 0 for one in counts[1:])


def test_equal_responses_of_a_problem_are_graded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Recording(Grader):
        def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
            asked.extend(text for _, text in pairs)
            return super().grade(pairs)

    monkeypatch.setattr(verdicts, "Grader", Recording)
    texts = [right(FIRST), other_end(FIRST)] * 50
    counts = verdicts.count(
        build(TASK), PROBLEMS, [completion(i, text) for i, text in enumerate(texts)]
    )
    assert (counts[0].n, counts[0].correct, counts[0].wrong) == (100, 50, 50)
    assert sorted(asked) == sorted([right(FIRST), other_end(FIRST)])


def test_samples_that_are_graded_in_portions_are_counted_as_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [right(FIRST), other_end(FIRST), UNREADABLE, right(FIRST), broken(FIRST)] * 4
    completions = [completion(i, text) for i, text in enumerate(texts)]
    whole = verdicts.count(build(TASK), PROBLEMS, completions)
    monkeypatch.setattr(verdicts, "SAMPLES_PER_BATCH", 3)
    assert verdicts.count(build(TASK), PROBLEMS, completions) == whole


def test_a_failed_request_is_as_many_errors_as_it_had_samples() -> None:
    lost = FailedRequest(Request(PROBLEMS[1], 4, 3, 99), "the replica is gone")
    counts = verdicts.count(build(TASK), PROBLEMS, [completion(0, right(FIRST))], [lost])
    assert (counts[1].n, counts[1].error, counts[1].wrong) == (3, 3, 0)
    assert counts[1].first_error == "the replica is gone"
    assert counts[0].error == 0


def test_counts_with_errors_are_not_stored_and_the_next_run_grades_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    unlucky = FakeSampler(fails=lambda request: request.problem == PROBLEMS[2])
    samples = sampled(store, unlucky, 5)
    counts = verdicts.obtain(store, build(TASK), PROBLEMS, 5, samples)
    assert [one.error for one in counts] == [0, 0, 5, 0]
    what = verdicts.identity(samples.identity, len(PROBLEMS), 5)
    assert store.find(what) is None

    lucky = FakeSampler()
    counts = verdicts.obtain(store, build(TASK), PROBLEMS, 5, sampled(store, lucky, 5))
    assert [request.problem for request in lucky.asked] == [PROBLEMS[2]]
    assert [(one.n, one.error) for one in counts] == [(5, 0)] * 4
    found = store.find(what)
    assert found is not None and verdicts.read(found) == counts


def test_published_counts_are_read_and_not_graded_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    samples = sampled(store, FakeSampler(), 3)
    counts = verdicts.obtain(store, build(TASK), PROBLEMS, 3, samples)
    for part in samples.path.glob("part-*"):
        part.unlink()
    assert verdicts.obtain(store, build(TASK), PROBLEMS, 3, samples) == counts


def test_counts_of_the_first_samples_are_apart_from_those_of_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    samples = sampled(store, FakeSampler(), 8)
    few = verdicts.obtain(store, build(TASK), PROBLEMS, 2, samples)
    many = verdicts.obtain(store, build(TASK), PROBLEMS, 8, samples)
    assert [one.n for one in few] == [2] * 4
    assert [one.n for one in many] == [8] * 4
    assert all(a.correct <= b.correct for a, b in zip(few, many, strict=True))


def test_samples_are_counted_by_mode_and_truncated_samples_have_none() -> None:
    reverse = " ".join(reversed(right(FIRST).split()))
    inner = right(FIRST).split()[1]
    texts = [right(FIRST)] * 3 + [other_end(FIRST)] * 2 + [reverse, inner, UNREADABLE]
    completions = [completion(i, text) for i, text in enumerate(texts)]
    completions.append(completion(8, right(FIRST), "length"))
    (counts, *_) = verdicts.count(build(TASK), PROBLEMS, completions)
    assert counts.by_mode == {"forward": (5, 3), "reverse": (1, 1)}
    assert (counts.n, counts.correct) == (9, 4)


def test_verdicts_of_another_version_of_a_grader_are_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, task = Store(tmp_path), build(TASK)
    samples = sampled(store, FakeSampler(), 3)
    verdicts.obtain(store, task, PROBLEMS, 3, samples)
    assert store.find(verdicts.identity(samples.identity, len(PROBLEMS), 3))
    grading = {"source": ["another"]}
    changed = verdicts.identity(samples.identity, len(PROBLEMS), 3, grading=grading)
    assert store.find(changed) is None
    monkeypatch.setattr(task, "grading", lambda: grading)
    verdicts.obtain(store, task, PROBLEMS, 3, samples)
    assert store.find(changed)
