"""Rows of a user's file that do not fit a model's context, found before any work starts.

They are named by file and line. With task.on_bad_row=skip they are left out: their lines become
part of the task's settings, and so of the identity of every result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from forkdiv.core.chat import MARK, with_shots
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.errors import refuse
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import read_config
from forkdiv.models.prompting import encode, prompt_ids
from forkdiv.models.shape import context_length
from forkdiv.sample.evaluation import Evaluation
from forkdiv.tasks.own_data.checked import RowsRead
from forkdiv.tasks.own_data.columns import Row
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.own_data.task import OwnData
from forkdiv.tasks.registry import build
from tuning.space import at, points

SHOWN = 5
# tokens that a tokenizer may add to a text besides those of a template
SLACK = 8


def fitting(
    study: StudyConfig,
    checkpoints: Sequence[Path],
    trains: bool,
    show: Callable[[str], None] = lambda line: None,
) -> StudyConfig:
    """Returns the study without the rows that exceed the context of a checkpoint: prompts of
    eval.split, and with `trains` also prompts and completions to train on. `show` prints how many.

    Raises UserError, which names file and line, unless task.on_bad_row is `skip`; and if fewer
    problems than eval.problems remain. Studies with a task of forkdiv are returned as they are.
    """
    task = build(study.task)
    if not isinstance(task, OwnData):
        return study
    if any(path.startswith("task.") for path in study.sweep.by_path):
        return _fitting_each(study, checkpoints, trains)
    assert isinstance(study.task, FileConfig)
    left_out: dict[str, tuple[int, ...]] = {}
    for role, read in task.files.items():
        long: dict[int, tuple[int, int]] = {}
        for folder in checkpoints:
            if context := context_length(read_config(folder)):
                for line, tokens in _too_long(task, role, folder, context, study, trains):
                    long.setdefault(line, (tokens, context))
        if not long:
            continue
        report = _report(read, long)
        if study.task.on_bad_row != "skip":
            raise refuse(
                "the data has rows that do not fit the model's context",
                report,
                "prompt, response and end token within the context",
                "shorten these rows, use a model with a longer context, "
                f"{'lower prompt.shots, ' * bool(study.prompt.shots)}or set "
                "task.on_bad_row=skip to leave them out",
            )
        show(f"left out: {report}")
        left_out[f"skip_{role}"] = tuple(sorted(long))
    if not left_out:
        return study
    study = study.model_copy(update={"task": study.task.model_copy(update=left_out)})
    if build(study.task).available(study.eval.split) < task.available(study.eval.split):
        build(study.task).heldout(study.eval.split, study.eval.problems)  # raises for too few
    return study


def _fitting_each(study: StudyConfig, checkpoints: Sequence[Path], trains: bool) -> StudyConfig:
    """Returns the study, whose sweep varies its data, if the rows of all data fit. Rows cannot be
    left out, because their lines are those of one file."""
    tasks: list[TaskConfig] = []
    for point in points(study):
        there = at(study, point)
        if there.task in tasks:
            continue
        tasks.append(there.task)
        lines: list[str] = []
        if fitting(there, checkpoints, trains, lines.append).task != there.task:
            raise refuse(
                "a study that varies its data cannot leave out rows that do not fit the model's "
                f"context ({point.name})",
                "; ".join(lines),
                "files whose rows all fit",
                "remove these rows from the file",
            )
    return study


def _too_long(
    task: OwnData, role: str, folder: Path, context: int, study: StudyConfig, trains: bool
) -> Iterator[tuple[int, int]]:
    """Yields the line and the number of tokens of each row that exceeds the context."""
    tokenizer = own_tokenizer(folder).tokenizer
    evaluation = Evaluation.of(study)
    prompt = evaluation.prompt
    plain = len(prompt_ids(tokenizer, "x", prompt)) + SLACK
    # with the shot in reserve, which may take the place of a shorter one
    few_shot = len(prompt_ids(tokenizer, with_shots("x", evaluation.shots.ordered), prompt)) + SLACK
    heldout = {row.line for row in task.heldout_rows(role, study.eval.split)}
    rows: list[Row] = list(task.heldout_rows(role, study.eval.split))
    rows += task.training_rows if trains and role == "train" else []
    for row in rows:
        is_asked = row.line in heldout
        response = "" if is_asked else row.completion or ""
        # a token is at least one byte of the text: most rows need not be tokenized. Conversations
        # are, because a template may refuse one
        size = len(f"{row.prompt}{response}".encode()) + (few_shot if is_asked else plain)
        if size <= context and not row.prompt.startswith(MARK):
            continue
        if is_asked:  # and a token to sample
            tokens = len(prompt_ids(tokenizer, evaluation.asked(row.prompt), prompt)) + 1
        else:
            tokens = sum(map(len, encode(tokenizer, row.prompt, response, prompt)))
        if tokens > context:
            yield row.line, tokens


def _report(read: RowsRead, long: dict[int, tuple[int, int]]) -> str:
    lines = [
        f"{read.unit} {line}: {tokens:,} tokens with a context of {context:,}"
        for line, (tokens, context) in sorted(long.items())
    ]
    more = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    shown = "; ".join([*lines[:SHOWN], *more])
    return f"{len(lines):,} of {read.total:,} rows: {read.file} {shown}"
