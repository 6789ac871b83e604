"""SFT of SmolLM2-135M in bfloat16, LoRA and full, against a bare PyTorch loop by turns."""

from __future__ import annotations

import tempfile
from pathlib import Path

from forkdiv.core.config.study import (
    DatasetConfig,
    LoraConfig,
    PlaceConfig,
    SftConfig,
    StudyConfig,
)
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.models.cpu import threads
from forkdiv.models.weights import parameter_count
from forkdiv.tasks.registry import build
from tests.bench.row import Row
from tests.bench.turns import Rhythm, Trial, by_turns
from tests.real_model import smollm2
from tuning.session import running

EXAMPLES, BATCH = 440, 4
RHYTHM = Rhythm(seconds=22.0, steps=3)
WAYS = {"real_train_vs_bare": LoraConfig(), "real_lora_vs_bare": LoraConfig(rank=16, alpha=32)}


def measure() -> list[Row]:
    base = smollm2()
    number = threads(parameter_count(base))
    where = {"workers": 1, "zero_stage": 1}
    with tempfile.TemporaryDirectory() as name, running(PlaceConfig(dashboard=False)):
        folder = Path(name)
        data = dataset.obtain_sft(
            Store(folder / "store"), build(StudyConfig().task), DatasetConfig(examples=EXAMPLES)
        )
        rows = []
        for way, lora in WAYS.items():
            config = SftConfig(epochs=1, batch_size=BATCH, dtype="bfloat16", lora=lora)
            trial = Trial(folder / way, data, where, config, base)
            rows.append(by_turns(way, trial, RHYTHM, number))
    return rows
