"""A real model gives the same pass@k in bfloat16 as in float32, problem by problem in pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import Progress
from forkdiv.core.results import Cell, CellName
from forkdiv.core.store import Store
from forkdiv.coverage.cells import CellInputs, cells
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.sample.deployment import ServeSampler
from forkdiv.sample.evaluation import Evaluation
from forkdiv.score.counts import ProblemCounts
from forkdiv.terminal import say
from tests.real_model import smollm2
from tuning.session import running, sampler
from tuning.trial import Pipeline

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

PROBLEMS, SAMPLES = 100, 32
DIFFERENCE = 0.05


def study(folder: Path, dtype: str) -> StudyConfig:
    """Sums of two numbers from 0 to 9: pass@1 is 0.07 and pass@32 0.83."""
    sums = [
        {"prompt": f"What is {a} + {b}?", "answer": str(a + b)}
        for a in range(10)
        for b in range(10)
    ]
    file = folder / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sums))
    return StudyConfig.model_validate(
        {
            "base": smollm2(),
            "task": {"kind": "file", "test": file, "grader": "numeric"},
            "prompt": {"template": "chat"},
            "decoder": {"dtype": dtype, "max_new_tokens": 32},
            "eval": {"problems": PROBLEMS, "samples": SAMPLES, "k": [1, 2, 4, 8, 16, 32]},
            "place": {"root": folder, "dashboard": False},
        }
    )


def counts(folder: Path, dtype: str) -> list[ProblemCounts]:
    settings = study(folder, dtype)
    base = open_checkpoint(smollm2())
    progress = Progress(folder / f"{dtype}.jsonl")
    with running(settings.place), sampler(settings, base) as app:
        client = ServeSampler(app, settings.place.engine)
        pipeline = Pipeline(settings, base, Store.of(settings.place), client, progress)
        return pipeline.evaluated(Evaluation.of(settings), base)[0]


def paired(folder: Path) -> Cell:
    single, half = (counts(folder, dtype) for dtype in ("float32", "bfloat16"))
    name = CellName(axes={}, temperature=1.0, seed=0, tuned=True)
    return cells(name, CellInputs(half, single), study(folder, "bfloat16").eval)[0]


def test_bfloat16_changes_no_pass_at_k_by_more_than_five_points(tmp_path: Path) -> None:
    cell = paired(tmp_path)
    for k, change in cell.delta_to_base.items():
        value = cell.pass_at[k]
        assert value
        say(
            f"pass@{k}: bfloat16 {value.value:.3f}, less float32 {change.value:+.3f} "
            f"({change.low:+.3f} to {change.high:+.3f})"
        )
    value = cell.pass_at[8]
    assert value and 0.1 < value.value < 0.9, "a task that says something"
    assert all(abs(c.value) <= DIFFERENCE for c in cell.delta_to_base.values())
