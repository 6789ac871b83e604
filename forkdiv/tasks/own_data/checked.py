"""Checks the rows of a file: usable rows, and the location and reason of every other row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from forkdiv.core.errors import UserError, refuse
from forkdiv.core.files import require_regular
from forkdiv.tasks.own_data.arrow import read_arrow, read_parquet, read_saved, saved_files
from forkdiv.tasks.own_data.columns import Row, Unusable, find_columns, to_row
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.field_path import column_of
from forkdiv.tasks.own_data.file import (
    FORMATS,
    NOT_UTF8,
    Broken,
    Record,
    RowFile,
    quoted,
    unreadable,
)
from forkdiv.tasks.own_data.json_files import read_json, read_jsonl
from forkdiv.tasks.own_data.separated import read_csv, read_tsv

READERS: Mapping[str, Callable[[Path], RowFile]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "datasets": read_saved,
}
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED = ".gz"  # after the suffix of a text format


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used. `line` counts from 1, in the file's unit."""

    file: str
    line: int
    reason: str
    unit: str = "line"


@dataclass(frozen=True)
class RowsRead:
    """The usable rows of a file and its problems; `columns` are the columns that were read.

    `file` is the file's name without folders, because it is written to dataset cards, which do
    not depend on the file's location.
    """

    file: str
    unit: str
    columns: ColumnsConfig
    rows: tuple[Row, ...]
    problems: tuple[BadRow, ...]
    blank: int = 0
    # usable rows in whose completion the grader reads something else than their answer
    rejected_completions: tuple[BadRow, ...] = ()

    @property
    def total(self) -> int:
        """The number of rows of the file, without blank lines."""
        return len(self.rows) + len(self.problems)

    def report(self, limit: int = 5) -> str:
        """Returns one line: how many rows cannot be used, with location and reason of the first
        `limit`."""
        listed = f": {self.file} {_listed(self.problems, limit)}" if self.problems else ""
        return f"{len(self.problems):,} of {self.total:,} rows cannot be used{listed}"

    @property
    def rejected_report(self) -> str:
        """The rows that are used without their completion; empty if there are none."""
        if not self.rejected_completions:
            return ""
        rows = f"{len(self.rejected_completions):,} of {self.total:,} rows of {self.file}"
        return (
            f"{rows} are graded by their answer although it is not what the grader reads in their "
            f"completion: {_listed(self.rejected_completions, 3)}"
        )

    @property
    def skipped(self) -> str:
        """What was skipped, for a dataset card; empty if nothing was."""
        lines = f"{self.blank:,} blank lines in {self.file}" if self.blank else ""
        rows = f"skipped: {self.report()}" if self.problems else ""
        return "; ".join(part for part in (rows, lines) if part)


def _listed(bad: Sequence[BadRow], limit: int) -> str:
    shown = [f"{row.unit} {row.line}: {row.reason}" for row in bad[:limit]]
    more = len(bad) - len(shown)
    return "; ".join([*shown, f"and {more:,} more"] if more else shown)


def read_rows(
    path: Path, format: str, columns: ColumnsConfig, optional: frozenset[str] = frozenset()
) -> RowsRead:
    """Returns every row of the file, usable or not, in order.

    `format` is `auto` or a key of `READERS`; `optional` columns may be configured and missing.
    Raises UserError if the file is missing, empty, unreadable or not a regular file, or if its
    columns cannot be identified.
    """
    file = open_rows(path, format)
    roles = find_columns(file.columns, columns, path, optional)
    fields = (name for name in roles.model_dump().values() if name)
    names = list(dict.fromkeys(column_of(name, file.columns) or name for name in fields))
    return collect_rows(file, path, names, roles, lambda record: to_row(record, roles))


def open_rows(path: Path, format: str) -> RowFile:
    """Opens a file of rows; `format` is `auto` or a key of `READERS`. Raises UserError."""
    return _open(path, _format(path, format))


def collect_rows(
    file: RowFile,
    path: Path,
    names: Sequence[str],
    roles: ColumnsConfig,
    convert: Callable[[Record], Row | None],
) -> RowsRead:
    """Returns the rows that `convert` makes of the columns `names`, and the records for which it
    raises Unusable. Records for which it returns None are no rows of the result."""
    rows: list[Row] = []
    bad: dict[int, str] = {}
    repeats = _Repeats(file.unit, has_ids=roles.id is not None)
    for record in file.records(names):
        if isinstance(record, Broken):
            bad[record.line] = record.reason
            continue
        try:
            if (row := convert(record)) is None:
                continue
            repeats.check(row)
        except Unusable as reason:
            bad[record.line] = str(reason)
        else:
            rows.append(row)
    problems = tuple(BadRow(path.name, line, why, file.unit) for line, why in bad.items())
    return RowsRead(path.name, file.unit, roles, tuple(rows), problems, file.blank)


def mark_bad(read: RowsRead, reasons: Mapping[int, str]) -> RowsRead:
    """Returns `read` with the rows at these lines moved to its problems."""
    bad = [BadRow(read.file, line, reason, read.unit) for line, reason in reasons.items()]
    rows = tuple(row for row in read.rows if row.line not in reasons)
    problems = sorted([*read.problems, *bad], key=lambda problem: problem.line)
    return replace(read, rows=rows, problems=tuple(problems))


def require_good(reads: Sequence[RowsRead], on_bad_row: str) -> None:
    """Raises UserError for rows that cannot be used, unless `on_bad_row` is `skip`, and for a file
    without usable rows."""
    bad = [read for read in reads if read.problems]
    if bad and on_bad_row != "skip":
        raise refuse(
            "the data has rows that cannot be used",
            "; ".join(read.report() for read in bad),
            "files in which every row can be used",
            f"{_remedy(bad)}, or set task.on_bad_row=skip to leave them out",
        )
    for read in reads:
        if not read.rows:
            raise refuse(
                "the data file has no usable rows",
                read.report(),
                "at least one usable row",
                "correct the file or task.columns",
            )


def _remedy(reads: Sequence[RowsRead]) -> str:
    reasons = (bad.reason for read in reads for bad in read.problems)
    not_utf8 = any(reason.startswith(NOT_UTF8) for reason in reasons)
    return "convert the file to UTF-8" if not_utf8 else "correct these rows"


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, or of all data files of a saved dataset."""
    files = saved_files(path) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for file in files:
        require_regular(file, "the data file cannot be read", "correct the path")
        try:
            with file.open("rb") as opened:
                whole.update(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise unreadable(path, str(error)) from error
    return whole.hexdigest()


class _Repeats:
    """Finds repeated rows and repeated ids."""

    def __init__(self, unit: str, has_ids: bool) -> None:
        self._unit, self._has_ids = unit, has_ids
        self._texts: dict[tuple[str, str | None, str | None], int] = {}
        self._ids: dict[str, Row] = {}

    def check(self, row: Row) -> None:
        """Raises Unusable for a repeated row, which would count twice in training, or for the id
        of another prompt. Equal prompts with different completions are allowed: solutions of one
        problem."""
        text = (row.prompt, row.completion, None if row.completion else row.answer)
        if text in self._texts:
            raise Unusable(f"is a duplicate of {self._unit} {self._texts[text]}")
        first = self._ids.setdefault(row.id, row)
        if self._has_ids and first.prompt != row.prompt:
            at = f"{self._unit} {first.line}"
            raise Unusable(f"has the same id {quoted(row.id)} as {at}, which has another prompt")
        self._texts[text] = row.line


def _open(path: Path, format: str) -> RowFile:
    try:
        return READERS[format](path)
    except OSError as error:
        raise unreadable(path, str(error)) from error


def _format(path: Path, format: str) -> str:
    if not path.is_dir():
        missing = not path.exists()
        wrong = "the data file is missing" if missing else "the data file cannot be read"
        require_regular(path, wrong, "correct the path")
    if format == "auto":
        inferred = "datasets" if path.is_dir() else _by_name(path)
        if inferred is None:
            raise _unknown_format(path)
        return inferred
    if path.is_dir() != (format == "datasets"):
        raise refuse(
            f"task.format={format} does not match the path",
            f"{'a folder' if path.is_dir() else 'a file'}, {path}",
            "a folder" if format == "datasets" else "a file",
            "correct the path or task.format",
        )
    return format


def _by_name(path: Path) -> str | None:
    name = path.name.lower()
    is_compressed = name.endswith(COMPRESSED)
    format = SUFFIXES.get(Path(name.removesuffix(COMPRESSED)).suffix)
    return None if is_compressed and format in ("parquet", "arrow") else format


def _unknown_format(path: Path) -> UserError:
    return refuse(
        "the format of the data file cannot be inferred from its name",
        path,
        f"{FORMATS}; the endings {', '.join(SUFFIXES)}",
        "rename or convert the file, or set task.format",
    )
