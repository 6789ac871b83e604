"""Readers of Parquet, of Arrow, and of folders saved by Hugging Face `datasets`, in batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from forkdiv.core.errors import refuse
from forkdiv.core.files import read_small_text
from forkdiv.tasks.own_data import lines
from forkdiv.tasks.own_data.file import (
    NOT_UTF8,
    Broken,
    Record,
    RowFile,
    no_rows,
    one_line,
    unreadable,
)
from forkdiv.tasks.own_data.lines import require_size

ROWS_AT_ONCE = 1024
MAX_JSON_BYTES = 2**26  # of the files in which datasets describes a saved dataset
Records = Callable[[Sequence[str]], Iterator[Record | Broken]]


def read_parquet(path: Path) -> RowFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names, count = file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names not in UTF-8
        raise unreadable(path, one_line(error)) from error

    def records(wanted: Sequence[str]) -> Iterator[Record | Broken]:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(ROWS_AT_ONCE, columns=list(wanted))
            yield from _batched(path, _within_size(path, batches))

    return _columnar(path, names, count, records)


def _within_size(path: Path, batches: Iterable[Any]) -> Iterator[Any]:
    """Yields the batches. Raises UserError when they are larger than a file may be. The sizes in
    the metadata are not used: pyarrow ends the process for damaged metadata of a column."""
    size = 0
    for batch in batches:
        size += batch.nbytes
        require_size(path, size, lines.LARGEST_FILE)
        yield batch


def read_arrow(path: Path) -> RowFile:
    """Reads an Arrow IPC file (also called Feather), or an IPC stream as `datasets` writes it."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                table = pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid:
                source.seek(0)
                table = pa.ipc.open_stream(source).read_all()
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, one_line(error)) from error

    def records(wanted: Sequence[str]) -> Iterator[Record | Broken]:
        chosen = table.select(list(wanted))
        require_size(path, chosen.nbytes, lines.LARGEST_FILE)
        yield from _batched(path, chosen.to_batches(ROWS_AT_ONCE))

    return _columnar(path, table.column_names, table.num_rows, records)


def read_saved(path: Path) -> RowFile:
    """Reads a folder written by `save_to_disk`: a dataset, or a DatasetDict with a single split."""
    if (path / "dataset_dict.json").exists():
        return read_saved(path / _only_split(path))
    if not (path / "state.json").exists():
        raise unreadable(
            path,
            "the folder was not saved by datasets (it has no state.json); one file of it can be "
            "named, or its files joined into one",
        )
    for name in ("state.json", "dataset_info.json"):
        if (path / name).exists():
            _small_json(path / name)
    for file in path.iterdir():
        if not file.is_file():  # a pipe would be waited for
            raise unreadable(path, f"{file.name} in it is not a regular file")
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets evaluates whatever its JSON files contain
        raise unreadable(path, f"{type(error).__name__}: {one_line(error)}") from error

    def records(wanted: Sequence[str]) -> Iterator[Record | Broken]:
        chosen = saved.select_columns(list(wanted))
        require_size(path, chosen.data.nbytes, lines.LARGEST_FILE)
        tables = chosen.with_format("arrow").iter(ROWS_AT_ONCE)
        yield from _batched(path, (batch for table in tables for batch in table.to_batches()))

    return _columnar(path, saved.column_names, saved.num_rows, records)


def saved_files(path: Path) -> list[Path]:
    """Returns the files with a saved dataset's rows; its folder can also contain caches."""
    if (path / "dataset_dict.json").exists():
        return saved_files(path / _only_split(path))
    try:
        state = json.loads(_small_json(path / "state.json"))
        data = [path / part["filename"] for part in state["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(path, f"state.json: {type(error).__name__}: {one_line(error)}") from error
    return [path / "state.json", path / "dataset_info.json", *data]


def _small_json(path: Path) -> str:
    return read_small_text(path, "a file of the data folder", MAX_JSON_BYTES, "save it again")


def _only_split(path: Path) -> str:
    try:
        splits = [
            str(name) for name in json.loads(_small_json(path / "dataset_dict.json"))["splits"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(path, f"dataset_dict.json: {one_line(error)}") from error
    if len(splits) != 1:
        raise refuse(
            "the data folder must contain exactly one split",
            f"{path} with {', '.join(splits) or 'none'}",
            "the folder of a single split",
            "use the folder of one split"
            + "".join(f", such as {path / name}" for name in splits[:1]),
        )
    return splits[0]


def _columnar(path: Path, names: Sequence[str], count: int, records: Records) -> RowFile:
    if not count:
        raise no_rows(path)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise unreadable(path, f"it has the column {twice[0]!r} twice")
    return RowFile("row", tuple(names), records)


def _batched(path: Path, batches: Iterable[Any]) -> Iterator[Record | Broken]:
    """Yields the rows of Arrow record batches, in order."""
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            for row in _rows(batch):
                number += 1
                yield Broken(number, row) if isinstance(row, str) else Record(number, row)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, f"after row {number}: {one_line(error)}") from error


def _rows(batch: Any) -> list[dict[str, Any] | str]:
    """Returns the values of each row, or a message why they cannot be read."""
    try:
        batch.validate(full=True)  # damaged offsets would read memory of others
        rows: list[dict[str, Any] | str] = batch.to_pylist()
    except ValueError as error:  # text that is not UTF-8, or a time that Python cannot represent
        if batch.num_rows == 1:
            return [NOT_UTF8 if "UTF8" in str(error) else one_line(error)]
        return [row for at in range(batch.num_rows) for row in _rows(batch.slice(at, 1))]
    return rows
