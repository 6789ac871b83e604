"""Samples and results of forkdiv's own in the tool's file forms, for whatever reads those.

A line is a problem under the filter `none`, with every response in `filtered_resps`, as the
tool's own pass@k tasks have it. Beside the tool's keys a line has `verdicts`, what became of
each response, from which `forkdiv coverage` makes the counts that the study made.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from forkdiv.core.errors import InvalidResult
from forkdiv.core.records import Completion, Finish, Outcome, Problem, Verdict
from forkdiv.core.store import publish_file, write_text
from forkdiv.coverage import stats
from forkdiv.lm_eval.lines import VERDICTS
from forkdiv.lm_eval.results import results
from forkdiv.lm_eval.run import Run
from forkdiv.score.counts import solutions_among
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.base import Task

AT_ONCE = 8192  # responses that are held in memory

Completions = Callable[[Sequence[Problem]], Iterable[Completion]]


def write(
    folder: Path,
    run: Run,
    task: Task,
    problems: Sequence[Problem],
    completions: Completions,
) -> Path:
    """Write `samples_TASK_DATE.jsonl` and `results_DATE.json` into a folder of the model's inside
    `folder`; returns the latter's path. Equal dates make equal names: a file is replaced.

    `completions` gives the responses to some problems, in any order: it is asked for some
    thousands at a time, as `SampleSet.completions` is quick to give. Each is graded here.
    Raises InvalidResult where one is missing or has no verdict.
    """
    mine = folder / run.folder
    mine.mkdir(parents=True, exist_ok=True)
    path = mine / f"samples_{run.task}_{run.date}.jsonl"
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("w", encoding="utf-8") as lines:
            correct, digest = _write_lines(lines, run, task, problems, completions)
        publish_file(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    written = mine / f"results_{run.date}.json"
    values = _pass_at(run, correct)
    write_text(written, json.dumps(results(run, values, digest), indent=2, ensure_ascii=False))
    return written


def _write_lines(
    lines: TextIO,
    run: Run,
    task: Task,
    problems: Sequence[Problem],
    completions: Completions,
) -> tuple[list[int], str]:
    """Correct responses by problem, and the tool's hash over all lines."""
    correct: list[int] = []
    whole = hashlib.sha256()
    with Grader(task) as grader:
        for some in _portions(problems, max(AT_ONCE // run.n, 1)):
            held = _held(some, run.n, completions(some))
            for problem, verdicts in _judged(grader, some, held):
                row = _row(len(correct), problem, held[problem.id], verdicts, run, task)
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                whole.update((row["doc_hash"] + row["prompt_hash"] + row["target_hash"]).encode())
                correct.append(_right(verdicts))
    return correct, whole.hexdigest()


def _portions(problems: Sequence[Problem], size: int) -> Iterator[Sequence[Problem]]:
    for first in range(0, len(problems), size):
        yield problems[first : first + size]


def _held(
    problems: Sequence[Problem], n: int, completions: Iterable[Completion]
) -> dict[str, list[Completion]]:
    found: dict[str, dict[int, Completion]] = {problem.id: {} for problem in problems}
    for one in completions:
        found[one.problem_id][one.sample_index] = one
    for id, own in found.items():
        if missing := [at for at in range(n) if at not in own]:
            raise InvalidResult(
                f"sample {missing[0]} of problem {id} is missing ({len(missing)} of {n} are); "
                "run again to draw them"
            )
    return {id: [own[at] for at in range(n)] for id, own in found.items()}


def _judged(
    grader: Grader, problems: Sequence[Problem], held: Mapping[str, Sequence[Completion]]
) -> Iterator[tuple[Problem, list[Verdict]]]:
    pairs = {
        (problem.id, one.text): (problem, one.text)
        for problem in problems
        for one in held[problem.id]
        if one.finish != Finish.LENGTH
    }
    verdicts = dict(zip(pairs, grader.grade(list(pairs.values())), strict=True))
    for problem in problems:
        own = [
            Verdict(Outcome.TRUNCATED)
            if one.finish == Finish.LENGTH
            else verdicts[problem.id, one.text]
            for one in held[problem.id]
        ]
        if lost := next((one for one in own if one.outcome is Outcome.ERROR), None):
            raise InvalidResult(f"a response to problem {problem.id} has no verdict: {lost.detail}")
        yield problem, own


def _row(
    doc_id: int,
    problem: Problem,
    completions: Sequence[Completion],
    verdicts: Sequence[Verdict],
    run: Run,
    task: Task,
) -> dict[str, Any]:
    prompt, target = run.prompt(problem.prompt), _reference(task, problem)
    doc = {
        "id": problem.id,
        "subset": problem.subset,
        "prompt": problem.prompt,
        "facts": dict(problem.facts),
    }
    texts = [one.text for one in completions]
    metrics = {name: float(row[0]) for name, row in _pass_at(run, [_right(verdicts)]).items()}
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": run.settings}},
        "resps": [texts],
        "filtered_resps": [texts],
        "filter": "none",
        "metrics": list(metrics),
        "doc_hash": _sha(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha(prompt),
        "target_hash": _sha(target),
        **metrics,
        VERDICTS: [_told(one) for one in verdicts],
        "valid_solutions": _valid(task, problem),
    }


def _reference(task: Task, problem: Problem) -> str:
    """What the task calls the right answer, else one correct response; empty where it has none."""
    if (answer := problem.facts.get("answer")) is not None:
        return str(answer)
    return next((trace.text for trace in task.solutions(problem)), "")


def _valid(task: Task, problem: Problem) -> int | None:
    if not task.exhaustive:
        return None
    return solutions_among(trace.text for trace in task.solutions(problem))


def _told(verdict: Verdict) -> dict[str, str | None]:
    more = {"detail": verdict.detail, "mode": verdict.mode}
    told = {key: value for key, value in more.items() if value}
    return {"outcome": verdict.outcome.value, "answer": verdict.answer, **told}


def _right(verdicts: Iterable[Verdict]) -> int:
    return sum(one.outcome is Outcome.CORRECT for one in verdicts)


def _pass_at(run: Run, correct: Sequence[int]) -> dict[str, stats.Floats]:
    """By metric, a value for each problem."""
    found = stats.pass_at_k(run.n, np.array(correct)[:, None], np.array(run.ks))
    values = np.round(found, 12)  # 6 of 16 is 0.375, not the nearest that logarithms come to
    return {f"pass@{k}": column for k, column in zip(run.ks, values.T, strict=True)}


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
