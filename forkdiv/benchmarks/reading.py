"""Reads the file of a benchmark: finds its columns, turns its rows into problems, and tells a file
of another version in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from forkdiv.benchmarks.base import TEST, Benchmark, Wording
from forkdiv.core.errors import UserError, refuse
from forkdiv.tasks.own_data.checked import RowsRead, collect_rows, open_rows
from forkdiv.tasks.own_data.columns import Row, Unusable, prompt_id
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.file import Record

WITHOUT = "read it without --as, with task.columns and task.grader of your own"


def read_benchmark(
    path: Path, format: str, benchmark: Benchmark, wording: Wording, parts: Sequence[str]
) -> RowsRead:
    """Returns the rows of a file in the benchmark's published form; of a file with all splits,
    those of `parts`.

    Raises UserError if columns are missing, no row has the published form, or there are more
    problems than the benchmark has.
    """
    file = open_rows(path, format)
    columns = _columns(benchmark, file.columns, path)

    def convert(record: Record) -> Row | None:
        fields = {role: record.values.get(name) for role, name in columns.items()}
        fields = {role: value for role, value in fields.items() if value is not None}
        if (part := benchmark.part(fields)) is not None and part not in parts:
            return None
        return _row(benchmark, fields, wording, record.line)

    roles = ColumnsConfig(prompt=next(iter(columns.values())), id="id")
    read = collect_rows(file, path, list(columns.values()), roles, convert)
    read = replace(read, columns=_shown(columns))
    if not read.rows and read.problems:
        first = read.problems[0]
        raise refuse(
            f"the file has another form than {benchmark.name}",
            f"{read.total:,} rows that cannot be used, {first.unit} {first.line} of {path} because "
            f"{first.reason}",
            f"the form of {benchmark.link}",
            f"use a file of the published version, or {WITHOUT}",
        )
    if TEST in parts and benchmark.rows and len(read.rows) > max(benchmark.rows):
        raise _too_many(benchmark, read, path)
    return read


def is_part(benchmark: Benchmark, read: RowsRead) -> str:
    """Returns a sentence if the file has fewer problems than the benchmark, else an empty text."""
    if not benchmark.rows or len(read.rows) in benchmark.rows:
        return ""
    published = " or ".join(f"{rows:,}" for rows in benchmark.rows)
    return (
        f"{read.file} has {len(read.rows):,} of the {published} problems of {benchmark.name}: "
        "results on it are not those of the benchmark"
    )


def _columns(benchmark: Benchmark, present: Sequence[str], path: Path) -> dict[str, str]:
    """Returns the name of the column of each role."""
    by_name = {name.strip().lower(): name for name in reversed(present)}
    found = {
        role: next((by_name[name] for name in names if name in by_name), None)
        for role, names in benchmark.columns.items()
    }
    missing = [role for role, name in found.items() if not name and role not in benchmark.optional]
    if missing:
        names = ", ".join(" or ".join(benchmark.columns[role]) for role in missing)
        raise refuse(
            f"{path} is not a file of {benchmark.name}: it has no column {names}",
            f"the columns {', '.join(map(repr, present[:20]))}",
            f"those of {benchmark.link}",
            f"use a file of the published version, or {WITHOUT}",
        )
    return {role: name for role, name in found.items() if name}


def _row(benchmark: Benchmark, fields: Mapping[str, Any], wording: Wording, line: int) -> Row:
    """Raises Unusable."""
    for role in benchmark.columns:
        if role not in fields and role not in benchmark.optional:
            raise Unusable(f"has no {role}")
    item = benchmark.item(fields, wording)
    id = item.id or prompt_id(item.prompt)
    return Row(id, item.prompt, item.completion, item.answer, "", line)


def _shown(columns: Mapping[str, str]) -> ColumnsConfig:
    """Returns the columns as the notes of a result name them."""
    answer = columns.get("answer") or columns.get("tests")
    prompt = next(iter(columns.values()))
    return ColumnsConfig(prompt=prompt, completion=columns.get("solution"), answer=answer)


def _too_many(benchmark: Benchmark, read: RowsRead, path: Path) -> UserError:
    published = " or ".join(f"{rows:,}" for rows in benchmark.rows)
    source = f", which is {benchmark.source}" if benchmark.source else ""
    return refuse(
        f"the file has more problems than {benchmark.name}",
        f"{len(read.rows):,} in {path}",
        f"{published} problems, or a part of them",
        f"use the measured split{source}, or {WITHOUT}",
    )
