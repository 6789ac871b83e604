"""Files of rows: every row comes out of every format, or is named with its line and the reason."""

from __future__ import annotations

import csv
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.chat import MARK, unpack
from forkdiv.core.errors import UserError
from forkdiv.tasks.own_data.checked import mark_bad, read_rows, require_good
from forkdiv.tasks.own_data.columns import prompt_id
from forkdiv.tasks.own_data.config import ColumnsConfig
from tests.tasks.row_files import (
    GOOD,
    ROWS,
    TYPED,
    UNITS,
    USUAL,
    WRITERS,
    read,
    read_lines,
    reasons,
    write_csv,
    write_json,
    write_jsonl,
    write_parquet,
    write_saved,
)

# --- rows that can be used ----------------------------------------------------------------------


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("named", [False, True], ids=["auto", "named"])
def test_every_format_gives_the_same_rows(tmp_path: Path, format: str, named: bool) -> None:
    path = WRITERS[format](tmp_path, ROWS)
    rows_read = read_rows(path, format if named else "auto", USUAL)
    assert rows_read.problems == ()
    assert [
        (row.id, row.prompt, row.completion, row.answer, row.subset) for row in rows_read.rows
    ] == [tuple(row.values()) for row in ROWS]
    assert rows_read.columns == ColumnsConfig(
        prompt="question", completion="solution", answer="answer", id="id", subset="subset"
    )
    assert (rows_read.unit, rows_read.file, rows_read.total) == (UNITS[format], path.name, 3)


texts = st.text(st.characters(codec="utf-8"), max_size=20).map(lambda text: text + "x")
tables = st.lists(
    st.fixed_dictionaries({"prompt": texts, "completion": texts, "answer": texts}),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row["prompt"],
)


@settings(max_examples=25, deadline=None)
@given(tables)
def test_any_text_reads_back_from_every_format(table: list[dict[str, str]]) -> None:
    for write in WRITERS.values():
        with tempfile.TemporaryDirectory() as folder:
            rows_read = read(write(Path(folder), table))
        assert rows_read.problems == ()
        for row, written in zip(rows_read.rows, table, strict=True):
            assert unpack(row.prompt) == [{"role": "user", "content": written["prompt"]}]
            assert (row.completion, row.answer) == (written["completion"], written["answer"])
            assert row.id == prompt_id(row.prompt)


def test_more_rows_than_a_batch_keep_their_numbers(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "completion": str(i)} for i in range(1, 2501)]
    rows[2400]["completion"] = ""
    for write in (write_parquet, write_saved):
        rows_read = read(write(tmp_path, rows))
        assert [row.line for row in rows_read.rows] == [*range(1, 2401), *range(2402, 2501)]
        assert reasons(rows_read) == {2401: "empty completion"}


@pytest.mark.parametrize("format", TYPED)
def test_conversations_read_the_same_from_every_format(tmp_path: Path, format: str) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
    ]
    asked = [{"role": "user", "content": "3+3?"}]
    rows = [{"messages": turns, "answer": "4"}, {"messages": asked, "answer": "6"}]
    rows_read = read(WRITERS[format](tmp_path, rows))
    assert [unpack(row.prompt) for row in rows_read.rows] == [turns[:-1], asked]
    assert [row.completion for row in rows_read.rows] == ["4", None]


def test_csv_holds_conversations_as_json(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    rows_read = read(write_csv(tmp_path, [{"messages": json.dumps(turns)}, {"messages": "2+2?"}]))
    assert [(row.prompt, row.completion) for row in rows_read.rows] == [("2+2?", "4")]
    assert reasons(rows_read) == {3: "messages is text that is not valid JSON (Extra data)"}


def test_a_prompt_that_begins_with_the_mark_of_conversations_stays_text(tmp_path: Path) -> None:
    rows_read = read(write_jsonl(tmp_path, [{"prompt": MARK + "[]", "completion": "x"}]))
    assert unpack(rows_read.rows[0].prompt) == [{"role": "user", "content": MARK + "[]"}]


@pytest.mark.parametrize("format", TYPED)
@pytest.mark.parametrize(
    ("answer", "text"),
    [(18, "18"), (18.0, "18"), (-0.5, "-0.5"), (2**62, str(2**62)), (1e-7, "0.0000001")],
)
def test_a_number_is_an_answer(tmp_path: Path, format: str, answer: float, text: str) -> None:
    rows_read = read(WRITERS[format](tmp_path, [{"id": answer, "prompt": "?", "answer": answer}]))
    assert [(row.answer, row.id) for row in rows_read.rows] == [(text, text)]


@pytest.mark.parametrize(
    ("spelled", "text"),
    [("1" * 5000, "1" * 5000), ("18.50", "18.50"), ("1e400", "1E+400"), ("1.5e3", "1500")],
)
def test_a_json_number_is_never_rounded(tmp_path: Path, spelled: str, text: str) -> None:
    rows_read = read_lines(tmp_path, f'{{"prompt": "?", "answer": {spelled}}}')
    assert [row.answer for row in rows_read.rows] == [text]


def test_decimals_of_parquet_are_numbers(tmp_path: Path) -> None:
    rows_read = read(write_parquet(tmp_path, [{"prompt": "?", "answer": Decimal("3.50")}]))
    assert [row.answer for row in rows_read.rows] == ["3.50"]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    for write in (write_jsonl, write_json, write_csv):
        path = write(tmp_path, ROWS)
        before = read(path)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert read(path) == before


def test_blank_lines_are_not_rows_but_are_counted(tmp_path: Path) -> None:
    rows_read = read_lines(tmp_path, GOOD, "", "  \t", '{"prompt": "3+3?", "completion": ""}', "")
    assert (len(rows_read.rows), rows_read.blank, rows_read.total) == (1, 2, 2)
    assert reasons(rows_read) == {4: "empty completion"}
    assert rows_read.skipped.endswith("; 2 blank lines in data.jsonl")
    path = tmp_path / "data.csv"
    path.write_text("prompt,completion\n\n2+2?,4\n\n")
    assert (len(read(path).rows), read(path).blank, read(path).skipped) == (
        1, 2, "2 blank lines in data.csv",
    )  # fmt: skip


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    text = "a\u2028b\x0bc\u0085d"  # what str.splitlines would split
    row = json.dumps({"prompt": text, "completion": "x"}, ensure_ascii=False)
    rows_read = read_lines(tmp_path, row + "\r", GOOD)
    assert [row.prompt for row in rows_read.rows] == [text, "2+2?"]


def test_a_csv_field_may_be_longer_than_the_csv_modules_limit(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    rows_read = read(write_csv(tmp_path, [{"prompt": "2+2?", "completion": "x" * (usual + 1)}]))
    assert len(rows_read.rows[0].completion or "") == usual + 1
    assert csv.field_size_limit() == usual


# --- rows that cannot ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is invalid JSON: Expecting property name enclosed in double quotes at character 2"),
        (f"{GOOD} x", "is invalid JSON: Extra data at character 39"),
        (b'{"prompt": "\xff"}', "is not UTF-8 at byte 13"),
        ("[1]", "is a list, not an object"),
        ("null", "is null, not an object"),
        ("12", "is a number, not an object"),
        ("[" * 100_000, "is invalid JSON: Nested too deeply at character 1"),
        ("1e99999999999999999999", "is invalid JSON: Number out of range at character 1"),
        ('{"completion": "4"}', "has no column 'prompt'"),
        ('{"prompt": "3?"}', "has no column 'completion'"),
        ('{"prompt": "3?", "prompt": "4?"}', "is an object that has the key 'prompt' twice"),
        ('{"prompt": null, "completion": "4"}', "the prompt is null, not text"),
        ('{"prompt": 3, "completion": "4"}', "the prompt is a number, not text"),
        ('{"prompt": true, "completion": "4"}', "the prompt is true or false, not text"),
        ('{"prompt": "3?", "completion": ["4"]}', "the completion is a list, not text"),
        ('{"prompt": "3?", "completion": {"a": 4}}', "the completion is an object, not text"),
        ('{"prompt": "3?", "completion": {"a": 4, "a": 5}}', "the completion is an object that "
         "has the key 'a' twice, not text"),
        ('{"prompt": " ", "completion": "4"}', "empty prompt"),
        ('{"prompt": "3?", "completion": "\\n"}', "empty completion"),
        ('{"prompt": "3?\\ud800", "completion": "4"}', "the prompt has an unpaired surrogate "
         "at character 3"),
        (GOOD, "is a duplicate of line 1"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_and_the_others_are_read(
    tmp_path: Path, line: str | bytes, reason: str
) -> None:
    rows_read = read_lines(tmp_path, GOOD, line, '{"prompt": "5?", "completion": "5"}')
    assert [row.line for row in rows_read.rows] == [1, 3]
    assert reasons(rows_read) == {2: reason}
    assert rows_read.report() == f"1 of 3 rows cannot be used: data.jsonl line 2: {reason}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("null", "the answer is null, not text or a number"),
        ("true", "the answer is true or false, not text or a number"),
        ("[4]", "the answer is a list, not text or a number; name the field that is the answer: "
         "task.columns.answer=answer[0]"),
        ("[]", "the answer is a list, not text or a number"),
        ('{"value": 4}', "the answer is an object, not text or a number; name the field that is "
         "the answer: task.columns.answer=answer.value"),
        ("NaN", "the answer is nan, not a finite number"),
        ("-Infinity", "the answer is -inf, not a finite number"),
        ('""', "empty answer"),
    ],
)  # fmt: skip
def test_an_invalid_answer_is_reported(tmp_path: Path, answer: str, reason: str) -> None:
    good = '{"prompt": "2?", "answer": 2}'
    rows_read = read_lines(tmp_path, good, f'{{"prompt": "3?", "answer": {answer}}}')
    assert (len(rows_read.rows), reasons(rows_read)) == (1, {2: reason})


def test_a_conversation_without_answer_is_named(tmp_path: Path) -> None:
    asked = {"messages": [{"role": "user", "content": "2?"}]}
    answered = {"messages": [*asked["messages"], {"role": "assistant", "content": "2"}]}
    wrong = {"messages": [{"role": "user", "content": 2}]}
    rows: list[dict[str, Any]] = [asked, answered, wrong]
    rows_read = read(write_jsonl(tmp_path, rows))
    assert reasons(rows_read) == {
        1: "ends with a user message and has no answer",
        3: "message 1 has a content that is a number, not text",
    }


@pytest.mark.parametrize("format", ["json", "parquet", "datasets"])
def test_other_formats_name_their_bad_rows_too(tmp_path: Path, format: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "prompt": "2?", "completion": "2", "answer": 2.0},
        {"id": "b", "prompt": None, "completion": "2", "answer": 2.0},
        {"id": "c", "prompt": "3?", "completion": "", "answer": 3.0},
        {"id": "d", "prompt": "4?", "completion": "4", "answer": float("nan")},
        {"id": "a", "prompt": "5?", "completion": "5", "answer": 5.0},
        {"id": "f", "prompt": "2?", "completion": "2", "answer": 2.0},
        {"id": None, "prompt": "6?", "completion": "6", "answer": 6.0},
    ]
    unit = UNITS[format]
    assert reasons(read(WRITERS[format](tmp_path, rows))) == {
        2: "the prompt is null, not text",
        3: "empty completion",
        4: "the answer is nan, not a finite number",
        5: f"has the same id 'a' as {unit} 1, which has another prompt",
        6: f"is a duplicate of {unit} 1",
    }


@pytest.mark.parametrize("format", TYPED)
def test_a_column_of_another_type_is_named_in_each_row(tmp_path: Path, format: str) -> None:
    path = WRITERS[format](tmp_path, [{"prompt": i, "answer": [i]} for i in range(2)])
    assert set(reasons(read(path)).values()) == {"the prompt is a number, not text"}
    if format in ("parquet", "datasets"):
        table = pa.table({"prompt": [b"2?"], "answer": ["2"]})
        pq.write_table(table, tmp_path / "bytes.parquet")
        rows_read = read(tmp_path / "bytes.parquet")
        assert reasons(rows_read) == {1: "the prompt is of type bytes, not text"}


def test_text_of_parquet_that_is_not_utf8_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    raw = pa.array([b"2?", b"\xff?", b"4?"], pa.binary())
    prompts = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(pa.table({"prompt": prompts, "answer": ["2", "3", "4"]}), tmp_path / "d.parquet")
    rows_read = read(tmp_path / "d.parquet")
    assert ([row.line for row in rows_read.rows], reasons(rows_read)) == (
        [1, 3],
        {2: "is not UTF-8"},
    )


def test_a_row_of_csv_is_named_by_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(
        b"prompt,completion,note\n"  # 1
        b'"2\n+\n2?",4,\n'  # 2 to 4
        b"3?,3\n"  # 5: a field short
        b"4?,4,a,b\n"  # 6: one too many
        b"5?,\xff,\n"  # 7
        b'6?,"6"6,\n'  # 8
        b"7?,,\n"  # 9
        b"8?,8,\n"  # 10
    )
    rows_read = read(path)
    assert [row.line for row in rows_read.rows] == [2, 10]
    assert reasons(rows_read) == {
        5: "has 2 fields, but the header has 3",
        6: "has 4 fields, but the header has 3",
        7: "is not UTF-8",
        8: "is invalid CSV: ',' expected after '\"' (a quote inside a quoted field is written "
        "twice, not with a backslash)",
        9: "empty completion",
    }


SPELLED = rb'{ } " "prompt" "2?" : , [ ] 1 null NaN \ \ud800 {"prompt":"2?","answer":2}'.split()
pieces = st.sampled_from([*SPELLED, b" ", b"\r", b"\xff", b"\xe2", b"\x00"])
anything = st.lists(pieces | st.binary(max_size=3), max_size=8).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(anything.filter(lambda line: b"\n" not in line), max_size=5))
def test_every_line_of_jsonl_is_a_row_a_bad_row_or_blank(more: list[bytes]) -> None:
    good = [b'{"prompt": "5?", "answer": 5}', b'{"prompt": "6?", "answer": 6}']
    with tempfile.TemporaryDirectory() as folder:
        rows_read = read_lines(Path(folder), good[0], *more, good[1], b"")
    assert rows_read.total + rows_read.blank == len(more) + 2
    assert {row.prompt for row in rows_read.rows} >= {"5?", "6?"}
    numbers = [row.line for row in rows_read.rows] + [bad.line for bad in rows_read.problems]
    assert len(set(numbers)) == len(numbers)


@settings(max_examples=300, deadline=None)
@given(anything)
def test_whatever_bytes_a_csv_file_holds_no_row_is_lost(more: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        path.write_bytes(b"prompt,answer\n5?,5\n" + more + b"\n6?,6\n")
        try:
            rows_read = read(path)
        except UserError as refused:
            if "has a quote that is never closed" not in str(refused):  # all rows from there on
                raise
            return
    assert [row.prompt for row in rows_read.rows][:1] == ["5?"]
    swallowed = any("6?" in row.prompt + (row.answer or "") for row in rows_read.rows)
    assert swallowed or rows_read.problems


def test_equal_prompts_with_other_completions_are_rows_of_their_own(tmp_path: Path) -> None:
    rows = [{"prompt": "2?", "completion": text} for text in ("two", "2", "II", "2")]
    rows_read = read(write_jsonl(tmp_path, rows))
    assert len({row.id for row in rows_read.rows}) == 1
    assert ([row.line for row in rows_read.rows], reasons(rows_read)) == (
        [1, 2, 3],
        {4: "is a duplicate of line 2"},
    )


def test_equal_prompts_without_completions_repeat_when_their_answers_do(tmp_path: Path) -> None:
    rows = [{"prompt": "2?", "answer": text} for text in ("2", "two", "2")]
    assert reasons(read(write_jsonl(tmp_path, rows))) == {3: "is a duplicate of line 1"}


def test_an_id_names_one_prompt(tmp_path: Path) -> None:
    rows = [{"id": i % 2, "prompt": f"{i}?", "answer": i} for i in range(3)]
    reason = "has the same id '0' as line 1, which has another prompt"
    assert reasons(read(write_jsonl(tmp_path, rows))) == {3: reason}


@pytest.mark.parametrize("format", WRITERS)
def test_several_solutions_of_a_problem_may_share_its_id(tmp_path: Path, format: str) -> None:
    rows = [{"id": f"p{i // 2}", "prompt": f"{i // 2}?", "completion": f"{i}"} for i in range(4)]
    rows_read = read(WRITERS[format](tmp_path, rows))
    assert [row.id for row in rows_read.rows] == ["p0", "p0", "p1", "p1"]


@pytest.mark.parametrize("format", WRITERS)
def test_a_null_id_or_subset_counts_as_none(tmp_path: Path, format: str) -> None:
    rows = [{"id": None, "subset": None, "prompt": f"{i}?", "answer": f"{i}"} for i in range(3)]
    rows_read = read(WRITERS[format](tmp_path, rows))
    assert [(row.id, row.subset) for row in rows_read.rows] == [
        (prompt_id(f"{i}?"), "") for i in range(3)
    ]


# --- what is done about bad rows ----------------------------------------------------------------


def test_a_report_lists_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    rows_read = read_lines(tmp_path, GOOD, *["{}"] * 1300)
    assert rows_read.report(limit=2) == (
        "1,300 of 1,301 rows cannot be used: data.jsonl line 2: has no column 'prompt'; "
        "line 3: has no column 'prompt'; and 1,298 more"
    )


def test_bad_rows_stop_a_study_unless_they_may_be_left_out(tmp_path: Path) -> None:
    rows_read = read_lines(tmp_path, GOOD, "{}")
    with pytest.raises(
        UserError, match=r"data\.jsonl line 2: .*; correct these rows, or set task\.on_bad_row=skip"
    ):
        require_good([rows_read], "refuse")
    require_good([rows_read], "skip")
    assert rows_read.skipped == f"skipped: {rows_read.report()}"
    clean = read_lines(tmp_path, GOOD)
    require_good([clean], "refuse")
    assert (clean.skipped, clean.report()) == ("", "0 of 1 rows cannot be used")


def test_a_file_without_any_good_row_is_refused_either_way(tmp_path: Path) -> None:
    rows_read = read_lines(tmp_path, '{"prompt": "", "answer": 2}')
    with pytest.raises(UserError, match="no usable rows"):
        require_good([rows_read], "skip")


def test_rows_left_out_later_are_reported_in_order(tmp_path: Path) -> None:
    rows_read = read_lines(tmp_path, GOOD, "{}", '{"prompt": "3?", "completion": "3"}')
    fewer = mark_bad(rows_read, {1: "too easy"})
    assert [row.line for row in fewer.rows] == [3]
    assert reasons(fewer) == {1: "too easy", 2: "has no column 'prompt'"}
    assert [bad.line for bad in fewer.problems] == [1, 2]
    assert fewer.total == rows_read.total == 3
