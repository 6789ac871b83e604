"""Samples files in the form of lm_eval: its own ones, and lines that tests write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.lm_eval import measuring
from forkdiv.lm_eval.files import find
from forkdiv.lm_eval.reading import Samples, read_samples
from forkdiv.tasks.own_data.config import ColumnsConfig

ROOT = Path(__file__).parents[2]
REAL = Path(__file__).parent / "files"
SMALL = ["eval.bootstrap=100"]


def real(model: str, task: str) -> Path:
    (path,) = (REAL / model).glob(f"samples_{task}_2*.jsonl")
    return path


def study(*overrides: str) -> StudyConfig:
    return load(None, [*SMALL, *overrides])


def file_study(*overrides: str) -> StudyConfig:
    return study("task.kind=file", *overrides)


def line(doc_id: int, responses: Sequence[str], **changes: Any) -> dict[str, Any]:
    """A line as the tool writes it; a value of None drops its key."""
    row = {
        "doc_id": doc_id,
        "doc": {"question": f"question {doc_id}"},
        "target": "yes",
        "arguments": {"gen_args_0": {"arg_0": f"Q {doc_id}", "arg_1": {"temperature": 0.5}}},
        "resps": [list(responses)],
        "filtered_resps": [responses[0] if responses else ""],
        "filter": "none",
        "metrics": [],
        **changes,
    }
    return {key: value for key, value in row.items() if value is not None}


GOOD = line(0, ["yes", "no"])


def written(path: Path, rows: Iterable[Any]) -> Path:
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def samples_in(*paths: Path, columns: ColumnsConfig | None = None) -> Samples:
    return read_samples(find(paths), columns or ColumnsConfig())


def measure(study: StudyConfig, samples: Sequence[Path], base: Sequence[Path]) -> dict[str, Any]:
    """The summary as JSON."""
    return measuring.measure(study, samples, base).as_json()


def values(done: dict[str, Any], part: str = "cells", subset: str = "all") -> dict[str, float]:
    (cell,) = [cell for cell in done[part] if cell["subset"] == subset]
    return {k: band["value"] for k, band in cell["pass_at"].items()}
