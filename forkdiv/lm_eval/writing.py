"""Writes samples and results of forkdiv in the file formats of lm-evaluation-harness.

Each line has one problem under the filter `none`, with every response in `filtered_resps`, as in
the pass@k tasks of lm_eval. In addition it has `verdicts`, the verdict on each response, from
which `forkdiv coverage` computes the same counts as the study.
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
from forkdiv.core.thinking import Thinking
from forkdiv.coverage import stats
from forkdiv.lm_eval.lines import VERDICTS
from forkdiv.lm_eval.results import results
from forkdiv.lm_eval.run import Run
from forkdiv.score.counts import solutions_among
from forkdiv.score.grader_process import Grader
from forkdiv.score.verdicts import truncated
from forkdiv.tasks.base import Task

RESPONSES_PER_BATCH = 8192  # responses that are held in memory

Completions = Callable[[Sequence[Problem]], Iterable[Completion]]


def write(
    folder: Path,
    run: Run,
    task: Task,
    problems: Sequence[Problem],
    completions: Completions,
    thinking: Thinking | None = None,
) -> Path:
    """Writes `samples_TASK_DATE.jsonl` and `results_DATE.json` into the model's folder inside
    `folder`; returns the path of the latter. Files with equal dates are replaced.

    `completions` returns the responses to a list of problems, in any order. It is called for some
    thousands of responses at a time, and each response is graded here, after its `thinking`. Raises
    InvalidResult if a response is missing or has no verdict.
    """
    model_folder = folder / run.folder
    model_folder.mkdir(parents=True, exist_ok=True)
    path = model_folder / f"samples_{run.task}_{run.date}.jsonl"
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("w", encoding="utf-8") as lines:
            correct, digest = _write_lines(lines, run, task, problems, completions, thinking)
        publish_file(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    written = model_folder / f"results_{run.date}.json"
    values = _pass_at(run, correct)
    write_text(written, json.dumps(results(run, values, digest), indent=2, ensure_ascii=False))
    return written


def _write_lines(
    lines: TextIO,
    run: Run,
    task: Task,
    problems: Sequence[Problem],
    completions: Completions,
    thinking: Thinking | None,
) -> tuple[list[int], str]:
    """Writes the lines; returns the number of correct responses to each problem, and the hash
    that lm_eval computes over all lines."""
    correct: list[int] = []
    file_hash = hashlib.sha256()
    with Grader(task, thinking=thinking) as grader:
        for portion in _portions(problems, max(RESPONSES_PER_BATCH // run.n, 1)):
            by_problem = _samples_by_problem(portion, run.n, completions(portion))
            for problem, verdicts in _graded(grader, portion, by_problem, thinking):
                row = _row(len(correct), problem, by_problem[problem.id], verdicts, run, task)
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                file_hash.update(
                    (row["doc_hash"] + row["prompt_hash"] + row["target_hash"]).encode()
                )
                correct.append(_count_correct(verdicts))
    return correct, file_hash.hexdigest()


def _portions(problems: Sequence[Problem], size: int) -> Iterator[Sequence[Problem]]:
    for first in range(0, len(problems), size):
        yield problems[first : first + size]


def _samples_by_problem(
    problems: Sequence[Problem], n: int, completions: Iterable[Completion]
) -> dict[str, list[Completion]]:
    by_problem: dict[str, dict[int, Completion]] = {problem.id: {} for problem in problems}
    for completion in completions:
        by_problem[completion.problem_id][completion.sample_index] = completion
    for id, samples in by_problem.items():
        if missing := [at for at in range(n) if at not in samples]:
            raise InvalidResult(
                f"sample {missing[0]} of problem {id} is missing ({len(missing)} of {n} are "
                "missing); run the command again to draw them"
            )
    return {id: [samples[at] for at in range(n)] for id, samples in by_problem.items()}


def _graded(
    grader: Grader,
    problems: Sequence[Problem],
    by_problem: Mapping[str, Sequence[Completion]],
    thinking: Thinking | None,
) -> Iterator[tuple[Problem, list[Verdict]]]:
    pairs = {
        (problem.id, completion.text): (problem, completion.text)
        for problem in problems
        for completion in by_problem[problem.id]
        if completion.finish != Finish.LENGTH
    }
    verdicts = dict(zip(pairs, grader.grade(list(pairs.values())), strict=True))
    for problem in problems:
        graded = [
            truncated(completion.text, thinking)
            if completion.finish == Finish.LENGTH
            else verdicts[problem.id, completion.text]
            for completion in by_problem[problem.id]
        ]
        if failed := next(
            (completion for completion in graded if completion.outcome is Outcome.ERROR), None
        ):
            raise InvalidResult(
                f"a response to problem {problem.id} has no verdict: {failed.detail}"
            )
        yield problem, graded


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
    texts = [completion.text for completion in completions]
    metrics = {
        name: float(row[0]) for name, row in _pass_at(run, [_count_correct(verdicts)]).items()
    }
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
        VERDICTS: [_verdict_row(verdict) for verdict in verdicts],
        "valid_solutions": _count_solutions(task, problem),
        "right_answers": list(task.references(problem)) if task.votes else None,
    }


def _reference(task: Task, problem: Problem) -> str:
    """Returns the task's reference answer, else one correct response, else an empty text."""
    if (answer := problem.facts.get("answer")) is not None:
        return str(answer)
    return next((trace.text for trace in task.solutions(problem)), "")


def _count_solutions(task: Task, problem: Problem) -> int | None:
    if not task.exhaustive:
        return None
    return solutions_among(trace.text for trace in task.solutions(problem))


def _verdict_row(verdict: Verdict) -> dict[str, str | None]:
    texts = {"detail": verdict.detail, "mode": verdict.mode}
    optional = {key: value for key, value in texts.items() if value}
    return {"outcome": verdict.outcome.value, "answer": verdict.answer, **optional}


def _count_correct(verdicts: Iterable[Verdict]) -> int:
    return sum(verdict.outcome is Outcome.CORRECT for verdict in verdicts)


def _pass_at(run: Run, correct: Sequence[int]) -> dict[str, stats.Floats]:
    """Returns for each metric its value for every problem."""
    estimates = stats.pass_at_k(run.n, np.array(correct)[:, None], np.array(run.ks))
    values = np.round(estimates, 12)  # logarithms leave rounding errors: 6 of 16 is 0.375
    return {f"pass@{k}": column for k, column in zip(run.ks, values.T, strict=True)}


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
