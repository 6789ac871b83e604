"""Layouts that people use for training sets and benchmarks, each read as what it is or refused with
its line, and files that are no files of rows at all."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from forkdiv.core.chat import unpack
from forkdiv.core.errors import UserError
from forkdiv.tasks.own_data import lines
from forkdiv.tasks.own_data.checked import RowsRead, read_rows
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig

ROWS = [{"question": f"What is {i} + 1?", "answer": f"{i + 1}"} for i in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
READ = [(row["question"], row["answer"]) for row in ROWS]


def read(path: Path, **columns: str) -> RowsRead:
    return read_rows(path, "auto", ColumnsConfig(**columns))


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def one(path: Path, row: Any, **columns: str) -> tuple[list[dict[str, str]], str | None]:
    """The turns of the prompt and the completion of a file with this single row."""
    rows_read = read(write(path / "data.jsonl", row), **columns)
    assert rows_read.problems == ()
    return unpack(rows_read.rows[0].prompt), rows_read.rows[0].completion


def reason(path: Path, row: Any, **columns: str) -> str:
    (problem,) = read(write(path / "data.jsonl", row), **columns).problems
    return problem.reason


USER = {"role": "user", "content": "2?"}
ANSWER = {"role": "assistant", "content": "2"}

# --- files ----------------------------------------------------------------------------------------

TEXTS: dict[str, str] = {
    "list.json": json.dumps(ROWS, indent=1),
    "list.jsonl": json.dumps(ROWS, indent=1),
    "line.jsonl": json.dumps(ROWS),
    "lines.json": LINES,
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}),
    "data.json": json.dumps({"version": "1.0", "data": ROWS}),
    "windows.jsonl": LINES.replace("\n", "\r\n"),
    "mark.jsonl": "\ufeff" + LINES,
    "rows.tsv": "question\tanswer\n" + "".join(f"{q}\t{a}\n" for q, a in READ),
    "rows.csv": "question,answer\n" + "".join(f"{q},{a}\n" for q, a in READ),
    "windows.csv": "question,answer\r\n" + "".join(f"{q},{a}\r\n" for q, a in READ),
    "blank columns.csv": "question,answer,,\n" + "".join(f"{q},{a},,\n" for q, a in READ),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_text_file_of_rows_is_read_in_each_of_its_forms(
    tmp_path: Path, name: str, compressed: bool
) -> None:
    data = TEXTS[name].encode("utf-8")
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(data) if compressed else data)
    assert [(row.prompt, row.answer) for row in read(path).rows] == READ


@pytest.mark.parametrize("writer", [pa.ipc.new_file, pa.ipc.new_stream])
@pytest.mark.parametrize("suffix", [".arrow", ".feather"])
def test_an_arrow_file_or_stream_is_read(tmp_path: Path, writer: Any, suffix: str) -> None:
    table = pa.Table.from_pylist(ROWS)
    path = tmp_path / f"rows{suffix}"
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table)
    assert [(row.prompt, row.answer) for row in read(path).rows] == READ


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.jsonl.zst", "rows.parquet.gz"])
def test_a_format_that_is_not_read_is_refused_with_those_that_are(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(UserError, match=r"cannot be inferred from its name: .* JSONL, JSON, CSV"):
        read(tmp_path / name)


# --- what is no regular file, or too large --------------------------------------------------------


@pytest.mark.parametrize("kind", ["a FIFO (a pipe)", "a device"])
@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "parquet", "arrow"])
def test_a_pipe_or_device_is_refused_at_once(tmp_path: Path, kind: str, format: str) -> None:
    path = tmp_path / f"rows.{format}"
    if kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    started = time.monotonic()
    with pytest.raises(UserError) as refused:
        read(path)
    assert f"{path}, which is {kind}; allowed: a regular file" in str(refused.value)
    assert time.monotonic() - started < 5


def test_a_line_that_is_too_long_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 2000)
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES + json.dumps({"question": "x" * 9000, "answer": "1"}) + "\n" + LINES[:45])
    rows_read = read(path)
    bad = rows_read.problems[0]
    assert (bad.line, bad.reason) == (5, "is longer than 32 MiB")
    assert len(rows_read.rows) == 4
    (tmp_path / "rows.csv").write_text("question,answer\n" + "x" * 9000 + ",1\n")
    with pytest.raises(UserError, match=r"rows\.csv: line 2 is longer than"):
        read(tmp_path / "rows.csv")


@pytest.mark.parametrize("name", ["list.json", "lines.json", "rows.csv", "windows.jsonl"])
def test_a_file_larger_than_memory_allows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(lines, "LARGEST_FILE", 60)
    monkeypatch.setattr(lines, "LARGEST_JSON", 60)
    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        data = TEXTS[name].encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        with pytest.raises(UserError, match=r"larger than .* kept in memory; use a part of it"):
            read(path)


@pytest.mark.parametrize("format", ["parquet", "arrow", "datasets"])
def test_columns_larger_than_memory_allows_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    import datasets
    import pyarrow.feather
    import pyarrow.parquet

    table = pa.table({"question": ["2?"], "answer": ["2"], "unused": ["x" * 99_999]})
    path = tmp_path / f"rows.{format}"
    if format == "datasets":
        datasets.Dataset(table).save_to_disk(path)
    elif format == "arrow":
        pyarrow.feather.write_feather(table, str(path))
    else:
        pyarrow.parquet.write_table(table, path)
    monkeypatch.setattr(lines, "LARGEST_FILE", 2000)
    assert len(read(path).rows) == 1
    with pytest.raises(UserError, match=r"larger than .* kept in memory; use a part of it"):
        read(path, answer="unused")


def test_messages_do_not_repeat_long_values(tmp_path: Path) -> None:
    long = "x" * 100_000
    rows = [
        {long: 1},
        {"messages": [{"role": long, "content": "2?"}]},
        {"messages": [{"role": "user", "content": "2?", long: 1}]},
        {"messages": [{"role": "user", "content": [{"type": long}]}]},
        {"prompt": "2?", "answer": {long: 1}},
        {"prompt": "2?", "answer": [long, long]},
    ]
    for row in rows:
        path = write(tmp_path / "rows.jsonl", row)
        try:
            message = read(path).report()
        except UserError as refused:
            message = str(refused)
        assert len(message) < 1000


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_files_are_utf8_in_any_locale(tmp_path: Path, locale: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nWie groß ist 1 + 1?,2\n", encoding="utf-8")
    code = (
        "import sys; from pathlib import Path\n"
        "from forkdiv.tasks.own_data.checked import read_rows\n"
        "from forkdiv.tasks.own_data.config import ColumnsConfig\n"
        f"print(ascii(read_rows(Path({str(path)!r}), 'auto', ColumnsConfig()).rows[0].prompt))"
    )
    env = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
    )
    assert shown.stdout.strip() == ascii("Wie groß ist 1 + 1?")


# --- layouts --------------------------------------------------------------------------------------


def test_the_input_of_alpaca_follows_its_instruction(tmp_path: Path) -> None:
    path = write(
        tmp_path / "alpaca.jsonl",
        {"instruction": "Add.", "input": "2, 3", "output": "5"},
        {"instruction": "Say 1.", "input": "", "output": "1"},
    )
    rows_read = read(path)
    assert [row.prompt for row in rows_read.rows] == ["Add.\n\n2, 3", "Say 1."]
    assert (rows_read.columns.prompt, rows_read.columns.input) == ("instruction", "input")
    assert [row.prompt for row in read(path, prompt="instruction").rows] == ["Add.", "Say 1."]


def test_an_input_that_is_not_set_is_in_no_identity() -> None:
    assert "input" not in FileConfig().model_dump()["columns"]
    columns = ColumnsConfig(prompt="a", input="b")
    assert ColumnsConfig.model_validate(columns.model_dump()) == columns


@pytest.mark.parametrize("column", ["conversations", "conversation", "messages"])
def test_conversations_of_sharegpt_are_read(tmp_path: Path, column: str) -> None:
    turns = [
        {"from": "system", "value": "Be brief.", "weight": None},
        {"from": "human", "value": "2?"},
        {"from": "gpt", "value": "2"},
    ]
    assert one(tmp_path, {column: turns}) == (
        [{"role": "system", "content": "Be brief."}, USER],
        "2",
    )


def test_conversations_beside_a_prompt_are_not_read(tmp_path: Path) -> None:
    row = {"prompt": "2?", "completion": "2", "conversations": [{"from": "human", "value": "3?"}]}
    assert one(tmp_path, row) == ([USER], "2")


@pytest.mark.parametrize(
    "extra",
    [{"tool_calls": []}, {"name": ""}, {"tool_calls": None}, {"function_call": {}}, {"weight": 1}],
)
def test_empty_extras_of_a_message_are_dropped(tmp_path: Path, extra: dict[str, Any]) -> None:
    assert one(tmp_path, {"messages": [USER | extra, ANSWER | extra]}) == ([USER], "2")


def test_text_parts_are_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "2"}, {"type": "text", "text": "+ 2?", "image_url": None}]
    asked = {"role": "user", "content": parts}
    assert one(tmp_path, {"messages": [asked, ANSWER]}) == (
        [{"role": "user", "content": "2\n+ 2?"}],
        "2",
    )


def test_prompt_and_completion_may_be_messages(tmp_path: Path) -> None:
    assert one(tmp_path, {"prompt": [USER], "completion": [ANSWER]}) == ([USER], "2")
    assert one(tmp_path, {"prompt": [USER], "completion": "2"}) == ([USER], "2")


def test_the_preferred_response_of_a_pair_can_be_chosen(tmp_path: Path) -> None:
    row = {"prompt": "2?", "chosen": "2", "rejected": "3"}
    assert one(tmp_path, row, completion="chosen") == ([USER], "2")
    turns = {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}
    assert one(tmp_path, turns, messages="chosen") == ([USER], "2")


def test_a_developer_message_is_a_system_message(tmp_path: Path) -> None:
    turns = [{"role": "developer", "content": "Be brief."}, USER, ANSWER]
    assert one(tmp_path, {"messages": turns})[0][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("answer", "column", "text"),
    [
        (["4", "four"], "answer[0]", "4"),
        (["3", "4"], "answer[-1]", "4"),
        ({"value": "4", "unit": "m"}, "answer.value", "4"),
        ({"all": [{"text": "4"}]}, "answer.all[0].text", "4"),
    ],
)
def test_an_answer_inside_a_list_or_object_can_be_named(
    tmp_path: Path, answer: Any, column: str, text: str
) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": "2 + 2?", "answer": answer})
    (row,) = read(path, answer=column).rows
    assert row.answer == text


def test_an_answer_inside_a_column_of_parquet_can_be_named(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    rows = [{"question": "2?", "reward_model": {"style": "rule", "ground_truth": "2"}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (row,) = read(tmp_path / "rows.parquet", answer="reward_model.ground_truth").rows
    assert row.answer == "2"


def test_a_column_whose_name_has_a_point_is_found_first(tmp_path: Path) -> None:
    row = {"question": "2?", "a.b": "2", "a": {"b": "3"}}
    (found,) = read(write(tmp_path / "rows.jsonl", row), answer="a.b").rows
    assert found.answer == "2"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [USER, ANSWER | {"weight": 0}]}, "message 2 has the weight 0"),
        ({"messages": [USER, ANSWER | {"tool_calls": [1]}]}, "message 2 has a key other than role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
            "message 1 has a content part of type 'image_url'; allowed: text",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "part without a text"),
        (
            {"conversations": [{"from": "human", "value": "2?"}, {"from": "tool", "value": "2"}]},
            "message 2 has the role 'tool'; allowed: system, user, assistant, human, gpt",
        ),
        ({"conversations": [{"from": None, "value": "2?"}]}, "message 1 has the role null"),
        ({"conversations": ["2?"]}, "message 1 is text, not an object"),
        ({"prompt": [], "completion": []}, "messages is empty"),
        ({"question": "2?", "answer": {"value": 2}}, "task.columns.answer=answer.value"),
        ({"question": "2?", "answer": ["2", "3"]}, "task.columns.answer=answer[0]"),
        ({"question": "2?", "answer": True}, "the answer is true or false, not text or a number"),
    ],
)
def test_what_cannot_be_read_as_a_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    assert message in reason(tmp_path, row)


def test_a_pipe_in_a_saved_dataset_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    import os

    from forkdiv.core.errors import UserError
    from forkdiv.tasks.own_data.arrow import read_saved

    (tmp_path / "state.json").write_text("{}")
    os.mkfifo(tmp_path / "data-00000-of-00001.arrow")
    with pytest.raises(UserError, match="not a regular file"):
        read_saved(tmp_path)
