"""Rows with thinking: its field becomes part of the completion; graders read what follows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import UserError
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig
from forkdiv.tasks.own_data.task import OwnData

THOUGHT = "<think>\n2 and 3, so 4 or 5\n</think>\n\n#### 5"


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> OwnData:
    config = {"grader": "hash", **settings}
    return OwnData(FileConfig(train=written(tmp_path / "train.jsonl", rows), **config))


def responses(own: OwnData) -> list[str]:
    return [example.response for example in own.training_examples()]


def turns(**answer: Any) -> list[dict[str, Any]]:
    question = {"role": "user", "content": "2 + 3?", "reasoning_content": None}
    return [question, {"role": "assistant", "content": "#### 5", **answer}]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_the_thinking_of_the_last_message_stands_before_its_text(tmp_path: Path, key: str) -> None:
    own = task(tmp_path, [{"messages": turns(**{key: "2 and 3, so 4 or 5"})}])
    assert responses(own) == [THOUGHT]
    assert own.thinking_tags == ("<think>", "</think>")


def test_the_thinking_of_an_earlier_message_is_left_out_as_by_chat_templates(
    tmp_path: Path,
) -> None:
    later = [{"role": "user", "content": "and 1?"}, {"role": "assistant", "content": "#### 6"}]
    rows = [{"messages": [*turns(reasoning_content="hm"), *later]}]
    own = task(tmp_path, rows)
    assert responses(own) == ["#### 6"]
    assert "hm" not in next(iter(own.training_examples())).prompt


def test_a_column_of_thinking_is_read_if_it_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "2 + 3?", "why": "2 and 3, so 4 or 5", "completion": "#### 5"},
        {"prompt": "2 + 2?", "why": None, "completion": "#### 4"},
    ]
    columns = ColumnsConfig(reasoning="why")
    assert sorted(responses(task(tmp_path, rows, columns=columns))) == ["#### 4", THOUGHT]
    assert sorted(responses(task(tmp_path, rows))) == ["#### 4", "#### 5"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": turns(reasoning_content="a", reasoning="b")}, "has reasoning_content and"),
        ({"messages": turns(reasoning_content=["a"])}, "the last message has reasoning_content"),
        ({"messages": turns(content=THOUGHT, thinking="a")}, "has its thinking twice"),
        (
            {"prompt": "2 + 3?", "completion": "<think>a</think><think>#### 5"},
            "thinking has no end",
        ),
        ({"prompt": "2 + 3?", "completion": "<think>#### 5</think>"}, "cannot read its completion"),
    ],
)
def test_a_row_whose_thinking_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=f"line 1: .*{reason}"):
        responses(task(tmp_path, [row]))


def test_an_answer_inside_the_thinking_is_not_the_answer_of_a_row(tmp_path: Path) -> None:
    rows = [{"prompt": "2 + 3?", "completion": "<think>#### 4</think>#### 5"}]
    own = task(tmp_path, rows)
    (row,) = own.files["train"].rows
    assert row.answer is not None and "4" not in row.answer
    wrong = [{"prompt": "2 + 3?", "completion": "<think>#### 5</think>#### 4", "answer": "5"}]
    with pytest.raises(UserError, match="reads '4' from its completion, not the answer '5'"):
        responses(task(tmp_path, wrong))


def test_only_skipped_rows_with_thinking_change_the_identity_of_the_data(tmp_path: Path) -> None:
    from forkdiv.data.dataset import sft_identity

    plain = [{"prompt": f"{n} + 0?", "completion": f"#### {n}"} for n in range(40)]
    thought = [{**row, "completion": f"<think>a</think>{row['completion']}"} for row in plain]
    for rows, changes in ((plain, False), (thought, True)):
        for on_bad_row in ("refuse", "skip"):
            own = task(tmp_path, rows, on_bad_row=on_bad_row)
            identity = sft_identity(own, DatasetConfig()).describe()["config"]["task"]
            assert ("thinking" in identity) is (changes and on_bad_row == "skip")
            assert "reasoning" not in identity["columns"]
