"""Files of sums, and the tasks that they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.records import Example
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig
from forkdiv.tasks.own_data.task import OwnData

Rows = Sequence[Mapping[str, Any]]
USUAL = ColumnsConfig()


def sum_row(i: int, **more: Any) -> dict[str, Any]:
    return {"question": f"What is {i} + {i}?", "solution": f"{i} + {i}\n#### {2 * i}", **more}


SUMS = [sum_row(i) for i in range(200)]
TEST_SUMS = [sum_row(i) for i in range(1000, 1040)]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task(folder: Path, train: Rows = (), test: Rows = (), **settings: Any) -> OwnData:
    files = {
        role: write(folder / f"{role}.jsonl", rows)
        for role, rows in (("train", train), ("test", test))
        if rows
    }
    return OwnData(FileConfig(**{"grader": "hash", **files, **settings}))


def examples(own: OwnData, **config: Any) -> list[Example]:
    return list(own.sft_examples(DatasetConfig(**config)))


def prompts(own: OwnData, split: str) -> set[str]:
    return {problem.prompt for problem in own.heldout(split)} if own.available(split) else set()
