"""The rows of the files that a dataset on the hub consists of, in one file that is read as a user's
own.

JSON, JSONL, CSV and TSV stay as they are in the repository, with their numbers as written, and rows
that cannot be read are named as in any file; the library datasets would infer types for texts (007
becomes 7) and end at the first bad line. All other formats, and CSV with settings of its own in the
dataset's card, are read by the library and written as JSONL.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from forkdiv.core.errors import UserError, refuse, shortened
from forkdiv.core.files import size_text
from forkdiv.tasks.own_data.checked import COMPRESSED, READERS, SUFFIXES
from forkdiv.tasks.own_data.file import Broken, RowFile
from forkdiv.tasks.own_data.lines import LARGEST_FILE, open_bytes

ROWS_AT_ONCE = 1000
TEXT_FORMATS = ("jsonl", "json", "csv", "tsv")
# what the card of every dataset sets in a configuration
_NOT_READING = ("name", "version", "data_dir", "data_files", "description", "features")


@dataclass(frozen=True)
class Written:
    """The file with the rows; `left_out` are columns of images, audio or other bytes."""

    path: Path
    rows: int
    left_out: tuple[str, ...] = ()


def write_rows(builder: Any, split: str, files: Sequence[Path], folder: Path, stem: str) -> Written:
    """Writes the rows of a split's files into `folder`, in order; `stem` is the name of the new
    file without its ending. `builder` is the library's, for this subset.

    Raises UserError for files that cannot be read, and for more rows than a file may have.
    """
    formats = {_text_format(file) for file in files}
    (format,) = formats if len(formats) == 1 else (None,)
    if format is None or not _reads_as_usual(builder):
        return _by_library(builder, split, files, folder / f"{stem}.jsonl")
    if format != "jsonl" and len(files) > 1:
        return _several(format, files, folder / f"{stem}.jsonl")
    rows = sum(1 for file in files for _ in _records(READERS[format](file)))
    if format == "jsonl":
        path = folder / f"{stem}.jsonl"
        _join(files, path)
    else:
        path = folder / f"{stem}.{format}{COMPRESSED if _is_compressed(files[0]) else ''}"
        shutil.copyfile(files[0], path)
    return Written(path, rows)


def check_size(files: Mapping[str, int]) -> None:
    """Raises UserError for files of text that are larger than a file may be, before they are
    downloaded; `files` are their sizes in bytes."""
    text = [size for file, size in files.items() if _text_format(Path(file))]
    if len(text) == len(files) and sum(text) > LARGEST_FILE:
        raise _too_large()


def _text_format(file: Path) -> str | None:
    suffix = Path(file.name.lower().removesuffix(COMPRESSED)).suffix
    format = SUFFIXES.get(suffix)
    return format if format in TEXT_FORMATS else None


def _is_compressed(file: Path) -> bool:
    return file.name.lower().endswith(COMPRESSED)


def _reads_as_usual(builder: Any) -> bool:
    """Returns whether the dataset's card leaves how files are read as it is by default."""
    config = builder.config
    usual = type(config)()
    names = (field.name for field in fields(config) if field.name not in _NOT_READING)
    return all(getattr(config, name) == getattr(usual, name) for name in names)


def _join(files: Sequence[Path], path: Path) -> None:
    """Writes the lines of JSONL files after one another."""
    with path.open("wb") as out:
        for file in files:
            with open_bytes(file, LARGEST_FILE) as opened:
                last = b"\n"
                while block := opened.read(2**20):
                    out.write(block)
                    last = block[-1:]
                if last != b"\n":
                    out.write(b"\n")


def _several(format: str, files: Sequence[Path], path: Path) -> Written:
    """Writes the rows of several files that are not JSONL; each is read as a user's own file."""
    rows = 0
    with path.open("w", encoding="utf-8") as out:
        for file in files:
            for record in _records(READERS[format](file)):
                if isinstance(record, Broken):
                    raise refuse(
                        f"{file.name} of the dataset has a row that cannot be read",
                        f"row {record.line}: {record.reason}",
                        "files in which every row can be read",
                        "download the file, correct it and name the file",
                    )
                out.write(f"{_line(_as_written(record.values))}\n")
                rows += 1
    return Written(path, rows)


def _records(file: RowFile) -> Iterator[Any]:
    return file.records(file.columns)


def _as_written(value: Any) -> Any:
    """Returns a value of our reader as JSON has it; its numbers are decimal, integers of any
    length."""
    if isinstance(value, Mapping):
        return {str(key): _as_written(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_written(inner) for inner in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _by_library(builder: Any, split: str, files: Sequence[Path], path: Path) -> Written:
    from datasets.data_files import DataFilesDict, DataFilesList

    origins: list[tuple[str, ...]] = [(file.name,) for file in files]
    local = DataFilesList([str(file) for file in files], origins)
    builder.config.data_files = DataFilesDict({split: local})
    rows, size, left_out = 0, 0, dict[str, None]()
    with path.open("w", encoding="utf-8") as out:
        streamed = builder.as_streaming_dataset(split).with_format("arrow")
        for table in _tables(streamed):
            binary = [field.name for field in table.schema if _is_binary(field.type)]
            left_out.update(dict.fromkeys(binary))
            kept = table.drop_columns(binary)
            kinds = {field.name: field.type for field in kept.schema}
            for row in kept.to_pylist():
                line = _line({name: _plain(value, kinds[name]) for name, value in row.items()})
                out.write(f"{line}\n")
                rows, size = rows + 1, size + len(line)
                if size > LARGEST_FILE:
                    raise _too_large()
    return Written(path, rows, tuple(left_out))


def _tables(streamed: Any) -> Iterator[Any]:
    try:
        yield from streamed.iter(ROWS_AT_ONCE)
    except StopIteration:  # how the library ends for files without rows
        return


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def _is_binary(kind: Any) -> bool:
    """Returns whether values of this Arrow type contain bytes."""
    import pyarrow.types as types

    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_is_binary(kind.field(at).type) for at in range(kind.num_fields))


def _plain(value: Any, kind: Any) -> Any:
    """Returns a value of an Arrow type as JSON has it: times and decimal numbers as text, NaN and
    infinity as null, and what the library keeps as JSON text as what it stands for."""
    import pyarrow as pa

    if value is None:
        return None
    if isinstance(kind, pa.JsonType):
        return json.loads(value)
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if isinstance(value, list) and kind.num_fields == 1:
        return [_plain(inner, kind.field(0).type) for inner in value]
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | timedelta) else value


@contextmanager
def read_by_library(name: object) -> Iterator[None]:
    """Turns what the library datasets raises in the block into one line: it raises many kinds of
    errors for what a repository contains, and logs each of them with its traceback."""
    from datasets.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    cards = getLogger("huggingface_hub.repocard")
    cards_before = cards.level
    cards.setLevel(ERROR)  # a card without metadata is not worth a warning
    try:
        yield
    except (UserError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:  # of this machine's disk, not of the repository
            raise
        raise _unreadable(name, error) from error
    except Exception as error:
        raise _unreadable(name, error) from error
    finally:
        logging.set_verbosity(before)
        cards.setLevel(cards_before)


def _unreadable(name: object, error: Exception) -> UserError:
    return refuse(
        f"the library datasets cannot read {name}",
        f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 300)}",
        "a dataset of data files (Parquet, JSON, CSV …) whose card fits them",
        "name another subset or revision, or download a file of it and name the file",
    )


def _too_large() -> UserError:
    return refuse(
        "the split of the dataset is too large",
        f"more than {size_text(LARGEST_FILE)} of rows",
        f"up to {size_text(LARGEST_FILE)}: all rows are kept in memory",
        "name a smaller split or subset, or write a part of it to a file and name the file",
    )
