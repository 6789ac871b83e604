"""Rows that do not fit a model's context: named by line before any work, or left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.tasks.own_data.task import OwnData
from forkdiv.tasks.registry import build
from tests.stack import BASE
from tuning.infer_settings import infer
from tuning.row_lengths import fitting

LONG = " ".join(["a0"] * 2000)  # more than the context of the shipped base


def rows(folder: Path, name: str = "rows.jsonl", long: int = 8) -> Path:
    """24 short rows; line `long` has a completion that is too long, line 2 * `long` a prompt."""
    lines = [{"question": f"a{n}", "solution": f"b{n}"} for n in range(24)]
    lines[long - 1]["solution"] = LONG
    lines[2 * long - 1]["question"] = LONG
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def study(*settings: str) -> StudyConfig:
    return load(None, ["task.kind=file", "task.grader=exact", f"base={BASE}", *settings])


def test_training_rows_that_are_too_long_are_named_by_file_and_line(tmp_path: Path) -> None:
    file = rows(tmp_path)
    with pytest.raises(UserError) as refused:
        fitting(study(f"task.train={file}", "eval.split=validation"), [BASE], trains=True)
    message = str(refused.value)
    assert "got 2 of 24 rows: rows.jsonl line 8: " in message
    assert "; line 16: " in message and "with a context of " in message
    assert "task.on_bad_row=skip to leave them out" in message


def test_rows_that_are_too_long_are_left_out_if_bad_rows_may_be(tmp_path: Path) -> None:
    file = rows(tmp_path)
    before = study(f"task.train={file}", "task.on_bad_row=skip", "eval.split=validation")
    shown: list[str] = []
    after = fitting(before, [BASE], trains=True, show=shown.append)
    task = build(after.task)
    assert isinstance(task, OwnData)
    assert shown[0].startswith("left out: 2 of 24 rows: rows.jsonl line 8: ")
    texts = {(row.prompt, row.response) for row in task.training_examples()}
    assert len(texts) == 22 and not any(LONG in text for text in texts)
    assert "line 8: is in task.skip_train" in " ".join(task.notes)
    # another identity: the numbers differ
    assert task.identity() != build(before.task).identity()
    assert fitting(after, [BASE], trains=True) == after


def test_prompts_of_a_test_file_are_checked_without_their_completions(tmp_path: Path) -> None:
    file = rows(tmp_path)
    before = study(f"task.test={file}", "task.on_bad_row=skip")
    after = fitting(before, [BASE], trains=False)
    assert after.task.model_dump()["skip_test"] == (16,)
    problems = build(after.task).heldout("test")
    assert len(problems) == 23 and LONG not in {problem.prompt for problem in problems}


def test_too_few_problems_that_fit_are_refused(tmp_path: Path) -> None:
    file = rows(tmp_path)
    before = study(f"task.test={file}", "task.on_bad_row=skip", "eval.problems=24")
    with pytest.raises(UserError, match=r"too few distinct problems .* up to 23"):
        fitting(before, [BASE], trains=False)


def test_a_file_that_fits_and_a_task_of_forkdiv_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}", "answer": n}) + "\n" for n in range(9)))
    for unchanged in (study(f"task.test={path}"), load(None, [])):
        assert fitting(unchanged, [BASE], trains=True) is unchanged
    identity = build(study(f"task.test={path}").task).identity()
    assert not {"skip_train", "skip_test"} & identity.keys()


def test_a_comparison_leaves_out_prompts_that_are_too_long(tmp_path: Path) -> None:
    data = f"data={rows(tmp_path)}"
    with pytest.raises(UserError, match=r"rows\.jsonl line 16: .* tokens with a context of"):
        infer(load(None, [data]), [BASE])
    after, messages = infer(load(None, [data, "task.on_bad_row=skip"]), [BASE])
    assert any(line.startswith("left out: 1 of 24 rows: rows.jsonl line 16") for line in messages)
    assert build(after.task).available("test") == 23
