"""Files of rows as a whole: one that cannot be read is one refusal."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forkdiv.core.errors import UserError
from forkdiv.tasks.own_data.checked import digest, read_rows
from tests.tasks.row_files import (
    ROWS,
    USUAL,
    WRITERS,
    read,
    write_jsonl,
    write_parquet,
    write_saved,
)

FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.jsonl", b"", "is empty"),
    "blank": ("a.jsonl", b"\n \n", "is empty"),
    "empty csv": ("a.csv", b"", "is empty"),
    "a header alone": ("a.csv", b"prompt,answer\n", "is empty"),
    "empty json": ("a.json", b" ", "is empty"),
    "no items": ("a.json", b"[]", "is empty"),
    "unknown suffix": ("a.txt", b"x", r"format of the data file cannot be inferred.*\.jsonl"),
    "no suffix": ("a", b"x", "set task.format"),
    "one object": ("a.json", b'{"data": 1}', "contains an object, not a list of objects"),
    "an empty object": ("a.json", b"{}", "contains an object, not a list of objects"),
    "objects": ("a.json", b'{"a": {"b": 1}, "c": {}}', r"object of objects.*orient='records'"),
    "columns of other lengths": ("a.json", b'{"a": [1], "b": []}', "'a': 1, 'b': 0"),
    "objects in a row": ("a.json", b'{"a":\n1}\n{"a": 2}', r"line 3 is invalid JSON: Extra data"),
    "a last comma": ("a.json", b'[{"a": 1},\n{"a": 2},]', "line 2 is .*: a comma after the last"),
    "single quotes": ("a.jsonl", b"{'a': 1}", "single quotes, as Python writes them"),
    "commas after lines": ("a.jsonl", b'{"a": 1},', "a comma after the object at character 9"),
    "nulls": ("a.jsonl", b"\0\0\0\0\0\n", "a null character at character 1"),
    "carriage returns": ("a.jsonl", b'{"a": 1}\r{"a": 2}\r', "by carriage returns only"),
    "utf-16 without a mark": ("a.jsonl", '{"a": 1}'.encode("utf-16-le"), "it is UTF-16; convert"),
    "semicolons": ("a.csv", b"a;b\n1;2\n", "one column, 'a;b'; columns are separated by ','"),
    "tabs in csv": ("a.csv", b"a\tb\n1\t2\n", "task.format=tsv"),
    "cut gzip": ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99)[:-9], "cannot be read"),
    "no gzip inside": ("a.jsonl.gz", b"\x1f\x8bxyz", "cannot be read"),
    "no arrow": ("a.arrow", b"ARROW1\0\0garbage", "cannot be read"),
    "broken json": ("a.json", b'[{"a": 1},\n\n{"a" 2}]', "line 3 is invalid JSON: Expecting ':'"),
    "bytes": ("a.json", b'[{"a": 1},\n{"a": "\xff"}]', "line 2 is not UTF-8"),
    "utf-16": ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
    "utf-16 csv": ("a.csv", "a,b".encode("utf-16"), "UTF-16"),
    "all broken": ("a.jsonl", b"x\ny\n", "none of its rows can be read; line 1 is invalid JSON"),
    "open quote": ("a.csv", b'prompt,answer\n2?,"2\n3?,3\n', "line 2 has a quote that is never"),
    "header twice": ("a.csv", b"answer,answer\n1,2\n", "has the column 'answer' twice"),
    "header bytes": ("a.csv", b"answer,\xff\n1,2\n", "its header is not UTF-8"),
    "broken header": ("a.csv", b'"a"b,c\n1,2\n', "its header is invalid CSV"),
    "no parquet": ("a.parquet", b"not parquet at all", "cannot be read"),
    "empty file of parquet": ("a.parquet", b"", "cannot be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_one_refusal(tmp_path: Path, name: str) -> None:
    file, content, message = FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        read(tmp_path / file)
    assert str(tmp_path / file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing: got .*nowhere\.jsonl .*; correct the path"):
        read(tmp_path / "nowhere.jsonl")


def test_the_format_must_match_a_file_or_folder(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, ROWS)
    with pytest.raises(
        UserError, match=r"task\.format=datasets does not match the path: got a file"
    ):
        read_rows(path, "datasets", USUAL)
    with pytest.raises(UserError, match=r"task\.format=csv does not match the path: got a folder"):
        read_rows(tmp_path, "csv", USUAL)
    with pytest.raises(UserError, match="not saved by datasets"):
        read(tmp_path)


def test_columns_of_parquet_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(["2?"]), pa.array(["3?"])], names=["prompt", "prompt"])
    pq.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="has the column 'prompt' twice"):
        read(tmp_path / "twice.parquet")


def test_parquet_without_rows_is_empty_and_a_cut_one_unreadable(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        read(path)
    path.write_bytes(whole[:8] + b"\xff" * 200 + whole[208:])
    with pytest.raises(UserError, match=r"cannot be read: got .* after row 0"):
        read(path)
    pq.write_table(pa.Table.from_pylist(ROWS).slice(0, 0), path)
    with pytest.raises(UserError, match="is empty"):
        read(path)


def test_of_several_saved_datasets_one_must_be_named(tmp_path: Path) -> None:
    import datasets

    table = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(tmp_path / "both")
    with pytest.raises(
        UserError, match=r"exactly one split: got .* with train, test; .*both/train"
    ):
        read(tmp_path / "both")
    assert len(read(tmp_path / "both" / "test").rows) == 3
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "single")
    assert read(tmp_path / "single").rows == read(tmp_path / "both" / "train").rows
    assert digest(tmp_path / "single") == digest(tmp_path / "single" / "train")


def test_a_saved_selection_gives_the_rows_selected(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).select([2, 0]).save_to_disk(tmp_path / "some")
    assert [row.id for row in read(tmp_path / "some").rows] == ["c", "a"]


def test_a_damaged_saved_dataset_is_refused(tmp_path: Path) -> None:
    path = write_saved(tmp_path, ROWS)
    data = next(path.glob("*.arrow"))
    data.write_bytes(b"\xff" * 64)
    with pytest.raises(UserError, match=r"cannot be read: got .*saved"):
        read(path)
    (path / "state.json").write_text("{}")
    for broken in (read, digest):
        with pytest.raises(UserError, match=r"cannot be read: got .*saved"):
            broken(path)


def test_a_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for format, write in WRITERS.items():
        path = write(tmp_path, ROWS)
        moved = Path(shutil.move(path, tmp_path / "a" / f"moved-{format}"))
        before = digest(moved)
        if moved.is_dir():  # a cache that datasets wrote says nothing of the rows
            (moved / "cache-1.arrow").write_bytes(b"x")
        assert digest(moved) == before
        data = next(moved.glob("data*")) if moved.is_dir() else moved
        data.write_bytes(data.read_bytes() + b" ")
        assert digest(moved) != before
