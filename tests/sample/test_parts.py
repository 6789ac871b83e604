"""Files of samples: what is damaged is named, and never read as other samples."""

from __future__ import annotations

import pickle
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forkdiv.core.errors import InvalidResult
from forkdiv.sample import parts
from forkdiv.sample.parts import DamagedPart


def rows() -> list[dict[str, object]]:
    return [
        {
            "problem_id": f"p{problem}",
            "sample_index": index,
            "seed": 4096 * problem + index,
            "subset": "all",
            "prompt": f"What is {problem} + 1?",
            "text": f"It is {problem + index}.",
            "token_ids": [1, 2, index],
            "finish": "stop",
            "facts": "{}",
            "stratum": None,
            "tree": None,
        }
        for problem in range(8)
        for index in range(4)
    ]


def content(part: Path) -> list[object]:
    ids = pa.array([f"p{problem}" for problem in range(8)], pa.string())
    parts.check(part)
    return [sorted(parts.indices(part)), list(parts.completions(part, ids, 4))]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return parts.write(tmp_path, rows())


def test_what_was_written_is_read(part: Path) -> None:
    assert parts.check(part) == 32
    assert parts.problem_ids(part) == [f"p{problem}" for problem in range(8)]


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_is_named(part: Path, seed: int) -> None:
    data, random = bytearray(part.read_bytes()), Random(seed)
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    part.write_bytes(data)
    with pytest.raises(DamagedPart, match="has changed since it was written") as caught:
        content(part)
    assert caught.value.path == part and "remove it and run again" in str(caught.value)


def test_a_file_of_an_older_version_is_read(part: Path) -> None:
    expected = content(part)
    assert content(part.rename(part.with_name("part-0123456789abcdef.parquet"))) == expected


@pytest.mark.parametrize("size", [0, 1, 7, 100, 1000, -1, -8])
def test_a_truncated_or_empty_file_is_named(part: Path, size: int) -> None:
    data = part.read_bytes()
    part.write_bytes(data[:size])
    for read in (content, parts.check, parts.problem_ids):
        with pytest.raises(DamagedPart, match=part.name):
            read(part)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (pa.table({"x": [1]}), "has no column problem_id; it is from another program"),
        (pa.Table.from_pylist(rows()), "has int64 in column sample_index; allowed: int32"),
        (pa.Table.from_pylist([rows()[0] | {"sample_index": -1}], parts.SCHEMA), "sample -1"),
        (pa.Table.from_pylist([rows()[0] | {"problem_id": None}], parts.SCHEMA), "problem None"),
    ],
)
def test_a_file_of_another_program_is_named(part: Path, table: pa.Table, problem: str) -> None:
    part = part.with_name("part-x.parquet")
    pq.write_table(table, part)
    with pytest.raises(DamagedPart, match=problem):
        parts.check(part)
    with pytest.raises(DamagedPart, match=problem):
        parts.problem_ids(part)


def test_the_error_survives_the_way_between_processes(part: Path) -> None:
    part.write_bytes(b"")
    with pytest.raises(InvalidResult) as caught:
        parts.check(part)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
