"""The Parquet files of a sample set, each named by its SHA-256, which is checked when it is read.

A file that is truncated, empty, foreign or changed is named, with what to do: without it, its
samples are drawn again with the same seeds.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from forkdiv.core.errors import InvalidResult
from forkdiv.core.records import Completion
from forkdiv.core.store import publish_file
from forkdiv.core.store_record import PARSE_ERRORS, digest

PATTERN = "part-*.parquet"
_DIGEST, DIGITS = "sha256-", 32  # in the name; files of older versions have a random name
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample_index", pa.int32()),
        ("seed", pa.int64()),
        ("subset", pa.string()),
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("finish", pa.string()),
        ("facts", pa.string()),
        # rank of the forced first token, and number of the tree; null for other decoders
        ("stratum", pa.int32()),
        ("tree", pa.int32()),
    ]
)
LATER = ("stratum", "tree")  # files of older versions do not have these columns
MAX_INDEX = 2**20  # far above the largest number of samples; a larger index is damage


class DamagedPart(InvalidResult):
    """A file of samples that cannot be read. `path` is the file."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"the file of samples {path} {problem}; remove it and run again: its samples are drawn "
            "again (`forkdiv store verify` lists all that is damaged)"
        )
        self.path, self.problem = path, problem

    def __reduce__(self) -> tuple[type[DamagedPart], tuple[Path, str]]:
        return DamagedPart, (self.path, self.problem)  # it crosses Ray's processes


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Writes a new file with the rows, atomically."""
    aside = folder / f".part-{uuid.uuid4().hex}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), aside, compression="zstd")
    path = folder / f"part-{_DIGEST}{digest(aside)[:DIGITS]}.parquet"
    publish_file(aside, path)
    return path


def indices(part: Path) -> Iterator[tuple[str, int]]:
    """Yields problem id and index of every sample in the file."""
    with _reading(part), _opened(part) as file:
        keys = file.read(columns=["problem_id", "sample_index"]).to_pydict()
    for problem_id, index in zip(keys["problem_id"], keys["sample_index"], strict=True):
        if problem_id is None or index is None or not 0 <= index < MAX_INDEX:
            raise DamagedPart(part, f"has the impossible sample {index} of problem {problem_id}")
        yield problem_id, index


def problem_ids(part: Path) -> list[str]:
    """Returns the ids of the problems with samples in the file."""
    return list(dict.fromkeys(id for id, _ in indices(part)))


def completions(part: Path, ids: pa.Array, n: int) -> Iterator[tuple[int, Completion]]:
    """Yields the first `n` samples of the problems `ids`, each with its row in the file."""
    first = 0
    with _reading(part), _opened(part) as file:
        columns = ["problem_id", "sample_index", "seed", "text", "finish"]
        columns += [name for name in LATER if name in file.schema_arrow.names]
        batches = file.iter_batches(columns=columns, batch_size=4096)
        while (batch := next(batches, None)) is not None:
            matches = pc.is_in(batch["problem_id"], value_set=ids)
            rows = pc.indices_nonzero(pc.and_(matches, pc.less(batch["sample_index"], n)))
            selected = batch.take(rows)
            cells = [selected[name].to_pylist() for name in columns]
            for row, *values in zip(rows.to_pylist(), *cells, strict=True):
                problem_id, index, seed, text, finish, *design = values
                if text is None or seed is None or index < 0:
                    raise DamagedPart(part, f"has an incomplete sample in row {first + row}")
                sample = Completion(problem_id, index, seed, text, (), finish, *design)
                yield first + row, sample
            first += len(batch)


def check(part: Path) -> int:
    """Reads the whole file; returns its number of samples. Raises DamagedPart."""
    with _reading(part), _opened(part) as file:
        for batch in file.iter_batches(batch_size=4096):
            batch.validate(full=True)
    return sum(1 for _ in indices(part))


@contextmanager
def _opened(part: Path) -> Iterator[pq.ParquetFile]:
    _check_digest(part)
    with pq.ParquetFile(part) as file:
        _check_columns(part, file.schema_arrow)
        yield file


def _check_digest(part: Path) -> None:
    _, digested, name = part.stem.partition(_DIGEST)
    if not part.is_file():
        raise DamagedPart(part, "is not a regular file")
    state = part.stat()
    if digested and name != _cached_digest(part, state.st_size, state.st_mtime_ns):
        raise DamagedPart(part, f"has changed since it was written ({state.st_size:,} bytes)")


@lru_cache(maxsize=4096)
def _cached_digest(part: Path, size: int, changed: int) -> str:
    """A file is read again only if its size or modification time has changed."""
    return digest(part)[:DIGITS]


def _check_columns(part: Path, schema: pa.Schema) -> None:
    for field in SCHEMA:
        if field.name not in schema.names:
            if field.name in LATER:
                continue
            raise DamagedPart(part, f"has no column {field.name}; it is from another program")
        if schema.field(field.name).type != field.type:
            kind = schema.field(field.name).type
            problem = f"has {kind} in column {field.name}; allowed: {field.type}"
            raise DamagedPart(part, problem)


@contextmanager
def _reading(part: Path) -> Iterator[None]:
    try:
        yield
    except PARSE_ERRORS as error:
        text = " ".join(str(error).split())[:160]
        raise DamagedPart(part, f"is damaged ({type(error).__name__}: {text})") from error


def files(folder: Path) -> Sequence[Path]:
    """Returns the existing files."""
    return list(folder.glob(PATTERN))
