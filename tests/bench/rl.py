"""Reinforcement learning: the seconds of an iteration, and the share that is neither sampling nor
the optimizer; of the shipped base and of SmolLM2-135M."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from forkdiv.rl.meter import read_log
from tests.bench.row import Row
from tests.real_model import smollm2
from tests.stack import run

WARM_UP = 2  # iterations that also pay for compilation and caches
TOY = ("rl.iterations=40", "rl.learning_rate=3e-4")
REAL = (
    "rl.iterations=10",
    "rl.episodes=16",
    "rl.give_up_after=10",
    "rl.unseen=false",
    "decoder.max_new_tokens=48",
    "prompt.template=chat",
    "task.kind=file",
    "task.grader=numeric",
)


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "sums.jsonl"
        rows = (
            {"question": f"What is {i} + {i % 7}?", "answer": str(i + i % 7)} for i in range(200)
        )
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        real = (*REAL, f"base={smollm2()}", f"task.train={data}")
        return [
            *_rows("rl", "the shipped base", folder / "toy", TOY),
            *_rows("rl_real", "135 million parameters, 16 episodes", folder / "real", real),
        ]


def _rows(name: str, what: str, root: Path, settings: Sequence[str]) -> list[Row]:
    run("rl", root, *settings, timeout=3600)
    (folder,) = (root / "store/rl").iterdir()
    log = read_log(folder)[WARM_UP:]
    parts = ("save", "swap", "sample", "grade", "optimizer", "other", "total")
    seconds = {part: mean(row[f"seconds/{part}"] for row in log) for part in parts}
    used = seconds["sample"] + seconds["optimizer"]
    shown = ", ".join(f"{part} {value:.3f}" for part, value in seconds.items())
    return [
        Row(f"{name}_overhead", 1 - used / seconds["total"], "share", f"{what}: {shown} s"),
        Row(f"{name}_iteration_s", seconds["total"], "s", what),
    ]
