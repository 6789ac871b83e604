"""Verdicts: a hostile verifier costs its own response only; an error is never a wrong answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forkdiv import sample, score
from forkdiv.artifacts import Store
from forkdiv.checkpoint import Checkpoint
from forkdiv.config import DecoderConfig, EvalConfig, PromptConfig
from forkdiv.progress import Progress
from forkdiv.records import Completion, Outcome, Problem, Verdict
from forkdiv.sample import Failed, Request, SampleSet
from forkdiv.score import Grader, ProblemCounts
from forkdiv.tasks import build
from forkdiv.tasks.graph_branching import BROKEN_PATH, OTHER_ENDS
from tests.fakes import TASK, UNREADABLE, FakeSampler, broken, other_end, right

PROBLEMS = build(TASK).heldout("test", 4)
FIRST = PROBLEMS[0]
CHECKPOINT = Checkpoint(Path("nowhere"), "c" * 32)
SECONDS = 3.0  # for a chunk, the start of the grading process (0.5 s) included

# forkdiv.score's own loop around a verifier that does what the response says.
HOSTILE = """
import os, signal, sys, time
from forkdiv import score
from forkdiv.tasks import build

class Hostile:
    def __init__(self, task):
        self.task = task

    def verify(self, problem, text):
        with open(sys.argv[0] + ".log", "a") as log:
            log.write(text + "\\n")
        if text == "RAISE":
            raise ZeroDivisionError("the verifier has a bug")
        if text == "HANG":
            time.sleep(1000)
        if text == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "NONE":
            return None
        if text == "FORK":
            if os.fork() == 0:
                time.sleep(2.5)
                os._exit(0)
            time.sleep(1000)
        if text.startswith("PRINT "):
            print('["correct", null, "", ""]', flush=True)
            os.write(1, b'["correct", null, "", ""]\\n')
            text = text.removeprefix("PRINT ")
        return self.task.verify(problem, text)

score.build = lambda config: Hostile(build(config))
score._serve_verdicts()
"""

Grade = Callable[..., list[Verdict]]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    script = tmp_path / "hostile.py"
    script.write_text(HOSTILE)
    return script


@pytest.fixture
def grade(hostile: Path) -> Grade:
    def grade(*texts: str) -> list[Verdict]:
        with Grader(TASK, SECONDS, (sys.executable, str(hostile))) as grader:
            return grader.grade([(FIRST, text) for text in texts])

    return grade


def graded(hostile: Path) -> list[str]:
    return Path(f"{hostile}.log").read_text().splitlines()


def completion(index: int, text: str, finish: str = "stop") -> Completion:
    return Completion(FIRST.id, index, 1000 + index, text, (), finish)


def sampled(store: Store, sampler: FakeSampler, n: int) -> SampleSet:
    config, decoder = EvalConfig(), DecoderConfig()
    what = sample.identity(TASK, config, CHECKPOINT, decoder, PromptConfig())
    progress = Progress(store.root / "progress.jsonl")
    return sample.obtain(store, what, PROBLEMS, n, CHECKPOINT, decoder, sampler, progress)


def test_truncated_and_unparsable_answers_stay_in_n_and_are_counted_apart() -> None:
    texts = [right(FIRST), right(FIRST), other_end(FIRST), broken(FIRST), UNREADABLE, ""]
    completions = [completion(i, text) for i, text in enumerate(texts)]
    completions += [completion(6, right(FIRST), "length"), completion(7, UNREADABLE, "length")]
    counts = score.count(TASK, PROBLEMS, completions)
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
    )
    assert [one.problem_id for one in counts] == [problem.id for problem in PROBLEMS]
    assert all(one.n == 0 for one in counts[1:])


def test_a_raising_verifier_costs_its_own_response_and_names_the_error(
    grade: Grade, hostile: Path
) -> None:
    first, second, third = grade(right(FIRST), "RAISE", other_end(FIRST))
    assert (first.outcome, third.outcome) == (Outcome.CORRECT, Outcome.WRONG)
    assert second == Verdict(Outcome.ERROR, None, "ZeroDivisionError: the verifier has a bug")
    assert len(graded(hostile)) == 3


@pytest.mark.parametrize("text", ["KILL", "NONE"])
def test_a_verifier_that_ends_its_process_costs_its_own_response_only(
    grade: Grade, hostile: Path, text: str
) -> None:
    verdicts = grade(text, right(FIRST))
    assert [v.outcome for v in verdicts] == [Outcome.ERROR, Outcome.CORRECT]
    assert "the grading process" in verdicts[0].detail
    assert graded(hostile).count(text) == score.TRIES


def test_a_hanging_verifier_costs_its_own_response_only_in_bounded_time(grade: Grade) -> None:
    started = time.monotonic()
    verdicts = grade(right(FIRST), "HANG")
    took = time.monotonic() - started
    assert [v.outcome for v in verdicts] == [Outcome.CORRECT, Outcome.ERROR]
    assert verdicts[1].detail == f"the grader gave no answer within {SECONDS:g} s"
    assert took < score.TRIES * (SECONDS + 2)


def test_a_hanging_verifier_with_a_child_of_its_own_is_left_in_time(grade: Grade) -> None:
    started = time.monotonic()
    assert [v.outcome for v in grade("FORK")] == [Outcome.ERROR]
    assert time.monotonic() - started < score.TRIES * (SECONDS + 1)


@pytest.mark.parametrize("answer", [right, other_end, broken])
def test_what_a_verifier_prints_is_no_verdict(
    grade: Grade, answer: Callable[[Problem], str]
) -> None:
    text = answer(FIRST)
    printed, plain = grade(f"PRINT {text}", text)
    assert printed == plain == build(TASK).verify(FIRST, text)


def test_a_grader_answers_after_an_error_as_before(hostile: Path) -> None:
    with Grader(TASK, SECONDS, (sys.executable, str(hostile))) as grader:
        for text in (right(FIRST), "KILL", right(FIRST)):
            outcome = Outcome.ERROR if text == "KILL" else Outcome.CORRECT
            assert [v.outcome for v in grader.grade([(FIRST, text)])] == [outcome]


def test_verdicts_come_in_order_across_chunks() -> None:
    texts = [right(FIRST), other_end(FIRST), UNREADABLE]
    pairs = [(FIRST, texts[i % 3]) for i in range(2 * score.CHUNK + 5)]
    with Grader(TASK) as grader:
        verdicts = grader.grade(pairs)
    expected = [Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE]
    assert [v.outcome for v in verdicts] == [expected[i % 3] for i in range(len(pairs))]


def test_equal_responses_of_a_problem_are_graded_once(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the command is Grader's default argument: what `count` would start
    monkeypatch.setattr(Grader.__init__, "__defaults__", (30.0, (sys.executable, str(hostile))))
    texts = [right(FIRST), other_end(FIRST)] * 50
    counts = score.count(TASK, PROBLEMS, [completion(i, text) for i, text in enumerate(texts)])
    assert (counts[0].n, counts[0].correct, counts[0].wrong) == (100, 50, 50)
    assert sorted(graded(hostile)) == sorted([right(FIRST), other_end(FIRST)])


def test_a_failed_request_is_as_many_errors_as_it_had_samples() -> None:
    lost = Failed(Request(PROBLEMS[1], 4, 3, 99), "the replica is gone")
    counts = score.count(TASK, PROBLEMS, [completion(0, right(FIRST))], [lost])
    assert (counts[1].n, counts[1].error, counts[1].wrong) == (3, 3, 0)
    assert counts[1].first_error == "the replica is gone"
    assert counts[0].error == 0


def test_counts_with_errors_are_not_published_and_the_next_run_mends_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    unlucky = FakeSampler(fails=lambda request: request.problem == PROBLEMS[2])
    samples = sampled(store, unlucky, 5)
    counts = score.obtain(store, TASK, PROBLEMS, 5, samples)
    assert [one.error for one in counts] == [0, 0, 5, 0]
    what = score.identity(samples.identity, len(PROBLEMS), 5)
    assert store.find(what) is None

    lucky = FakeSampler()
    counts = score.obtain(store, TASK, PROBLEMS, 5, sampled(store, lucky, 5))
    assert [request.problem for request in lucky.asked] == [PROBLEMS[2]]
    assert [(one.n, one.error) for one in counts] == [(5, 0)] * 4
    found = store.find(what)
    assert found is not None and score.read(found) == counts


def test_published_counts_are_read_and_not_graded_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    samples = sampled(store, FakeSampler(), 3)
    counts = score.obtain(store, TASK, PROBLEMS, 3, samples)
    for part in samples.path.glob("part-*"):
        part.unlink()
    assert score.obtain(store, TASK, PROBLEMS, 3, samples) == counts


def test_counts_of_the_first_samples_are_apart_from_those_of_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    samples = sampled(store, FakeSampler(), 8)
    few = score.obtain(store, TASK, PROBLEMS, 2, samples)
    many = score.obtain(store, TASK, PROBLEMS, 8, samples)
    assert [one.n for one in few] == [2] * 4
    assert [one.n for one in many] == [8] * 4
    assert all(a.correct <= b.correct for a, b in zip(few, many, strict=True))


def test_samples_are_counted_by_how_they_are_told_and_what_is_cut_off_is_told_no_way() -> None:
    reverse = " ".join(reversed(right(FIRST).split()))
    inner = right(FIRST).split()[1]
    texts = [right(FIRST)] * 3 + [other_end(FIRST)] * 2 + [reverse, inner, UNREADABLE]
    completions = [completion(i, text) for i, text in enumerate(texts)]
    completions.append(completion(8, right(FIRST), "length"))
    (counts, *_) = score.count(TASK, PROBLEMS, completions)
    assert counts.by_mode == {"forward": (5, 3), "reverse": (1, 1)}
    assert (counts.n, counts.correct) == (9, 4)
