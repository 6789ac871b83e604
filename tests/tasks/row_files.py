"""Files of rows in every format, and how they are read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from forkdiv.tasks.own_data.checked import RowsRead, read_rows
from forkdiv.tasks.own_data.config import ColumnsConfig

Rows = Sequence[Mapping[str, Any]]
USUAL = ColumnsConfig()
ROWS = [
    {"id": "a", "question": "2+2?", "solution": "It is 4", "answer": "4", "subset": "easy"},
    {"id": "b", "question": "3·3, “quoted”?", "solution": "9,\n9", "answer": "9", "subset": "hard"},
    {"id": "c", "question": "7-9?\r\n", "solution": '"-2"', "answer": "-2", "subset": "easy"},
]


def write_jsonl(folder: Path, rows: Rows) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json(folder: Path, rows: Rows) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def write_csv(folder: Path, rows: Rows) -> Path:
    path = folder / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(folder: Path, rows: Rows) -> Path:
    path = folder / "data.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2)
    return path


def write_saved(folder: Path, rows: Rows) -> Path:
    import datasets

    path = folder / "saved"
    datasets.Dataset.from_list(list(rows)).save_to_disk(path)
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
    "parquet": write_parquet,
    "datasets": write_saved,
}
TYPED = ("jsonl", "json", "parquet", "datasets")  # formats that know more than text
UNITS = {"jsonl": "line", "json": "item", "csv": "line", "parquet": "row", "datasets": "row"}


def read(path: Path, **named: str) -> RowsRead:
    return read_rows(path, "auto", ColumnsConfig(**named))


def read_lines(tmp_path: Path, *parts: str | bytes) -> RowsRead:
    """What becomes of a JSONL file of these lines."""
    path = tmp_path / "data.jsonl"
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    path.write_bytes(b"\n".join(encoded))
    return read(path)


def reasons(rows_read: RowsRead) -> dict[int, str]:
    return {bad.line: bad.reason for bad in rows_read.problems}


GOOD = '{"prompt": "2+2?", "completion": "4"}'
