"""Columns are found by their usual names or as they are named; others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.errors import UserError
from forkdiv.tasks.own_data.config import ColumnsConfig
from tests.tasks.row_files import (
    ROWS,
    WRITERS,
    read,
    reasons,
    write_jsonl,
)


@pytest.mark.parametrize("prompt", ["prompt", "Question", "PROBLEM", "instruction", " input"])
@pytest.mark.parametrize("completion", ["completion", "Response", "solution", "OUTPUT"])
@pytest.mark.parametrize("answer", ["answer", "Target", "label"])
def test_columns_are_found_by_their_usual_names(
    tmp_path: Path, prompt: str, completion: str, answer: str
) -> None:
    (row,) = read(write_jsonl(tmp_path, [{answer: "4", completion: "It is 4", prompt: "2?"}])).rows
    assert (row.prompt, row.completion, row.answer) == ("2?", "It is 4", "4")


def test_named_columns_are_read_and_no_others_take_their_place(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, [{"question": "no", "q": "2?", "a": "2", "answer": "no"}])
    (row,) = read(path, prompt="q", completion="a", answer="answer").rows
    assert (row.prompt, row.completion, row.answer) == ("2?", "2", "no")


def test_a_column_of_completions_may_be_named_for_the_answers_too(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, [{"prompt": "2?", "how": "#### 2", "answer": "no"}])
    (row,) = read(path, completion="how", answer="how").rows
    assert (row.completion, row.answer) == ("#### 2", None)


def test_a_column_that_is_named_for_one_thing_is_not_found_for_another(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, [{"question": "2?", "answer": "2"}])
    (row,) = read(path, completion="answer").rows
    assert (row.completion, row.answer) == ("2", None)


def test_messages_take_the_place_of_a_prompt_unless_one_is_named(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "2?"}, {"role": "assistant", "content": "2"}]
    path = write_jsonl(tmp_path, [{"prompt": "3?", "completion": "3", "messages": turns}])
    assert [row.prompt for row in read(path).rows] == ["2?"]
    assert [row.prompt for row in read(path, prompt="prompt").rows] == ["3?"]


@pytest.mark.parametrize("format", WRITERS)
def test_a_named_column_that_no_row_has_is_one_refusal(tmp_path: Path, format: str) -> None:
    path = WRITERS[format](tmp_path, ROWS)
    wrong = r"task.columns.prompt names a column that .*got 'questoin'; allowed: 'id', 'question', "
    with pytest.raises(UserError, match=wrong):
        read(path, prompt="questoin")


def test_a_named_column_that_one_row_lacks_is_a_bad_row(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, [{"q": "2?", "answer": 2}, {"answer": 3}])
    assert reasons(read(path, prompt="q")) == {2: "has no column 'q'"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "2?"},
            r"identified as a prompt: got the columns 'text'; .* set task\.columns\.prompt",
        ),
        ({"text": "2?", "answer": "2"}, r"set task\.columns\.prompt or task\.columns\.messages"),
        (
            {"prompt": "2?", "gold": "2"},
            r"identified as a completion or an answer: .* 'prompt', 'gold'",
        ),
        (
            {"question": "add", "input": "2, 2", "output": "4"},
            r"several columns .* the prompt: got 'question', 'input'; .* task\.columns\.prompt",
        ),
        (
            {"prompt": "2?", "chosen": "2", "rejected": "3"},
            r"pairs of preferred and rejected responses.* set task\.columns\.completion=chosen",
        ),
        ({"chosen": [], "rejected": []}, r"pairs of preferred .* task\.columns\.messages=chosen"),
        ({"prompt": "2?", "answer": "2", "Answer": "3"}, r"got 'answer', 'Answer'"),
    ],
)
def test_columns_that_cannot_be_identified_are_refused(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(write_jsonl(tmp_path, [row]))


def test_messages_and_a_prompt_cannot_both_be_named() -> None:
    with pytest.raises(ValueError, match=r"remove one of them from task\.columns"):
        ColumnsConfig(messages="messages", prompt="question")
