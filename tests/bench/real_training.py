"""SFT of SmolLM2-135M in bfloat16, LoRA and full, against a bare PyTorch loop by turns.

A step has 8 examples of about 190 tokens (arithmetic chains). `real_train_vs_bare` is against a
loop with a float32 copy of the weights, as DeepSpeed and every mixed-precision trainer has it;
`real_train_vs_bfloat16` against one whose weights and optimizer are bfloat16 only, which saves the
time of that copy and loses small updates.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from forkdiv.core.config.load import load
from forkdiv.core.config.study import (
    DatasetConfig,
    LoraConfig,
    PlaceConfig,
    SftConfig,
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

EXAMPLES, BATCH = 320, 8
RHYTHM = Rhythm(seconds=30.0, steps=2)
TASK = ["task.kind=arithmetic_chain", "task.chains=2", "task.length=4"]
LORA = LoraConfig(rank=16, alpha=32)
WAYS = {  # adapters are float32 on both sides
    "real_train_vs_bare": (LoraConfig(), True),
    "real_train_vs_bfloat16": (LoraConfig(), False),
    "real_lora_vs_bare": (LORA, False),
}


def measure() -> list[Row]:
    base = smollm2()
    number = threads(parameter_count(base))
    where = {"workers": 1, "zero_stage": 1}
    with tempfile.TemporaryDirectory() as name, running(PlaceConfig(dashboard=False)):
        folder = Path(name)
        data = dataset.obtain_sft(
            Store(folder / "store"), build(load(None, TASK).task), DatasetConfig(examples=EXAMPLES)
        )
        rows = []
        for way, (lora, master) in WAYS.items():
            config = SftConfig(epochs=1, batch_size=BATCH, dtype="bfloat16", lora=lora)
            trial = Trial(folder / way, data, where, config, base)
            rows.append(by_turns(way, trial, RHYTHM, number, master))
    return rows
