"""SmolLM2-135M in bfloat16, as it was published: what a real model costs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from forkdiv.core.config.study import DecoderConfig, PlaceConfig
from forkdiv.models.checkpoint import open_checkpoint
from tests.bench.row import Row
from tests.bench.swap import swapped
from tests.one_step import one_step_later
from tests.real_model import smollm2
from tuning.session import running

SWAPS = 5
BFLOAT16 = DecoderConfig(dtype="bfloat16", max_new_tokens=4)


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name, running(PlaceConfig(dashboard=False)):
        paths = [one_step_later(smollm2(), Path(name) / str(i), seed=i) for i in range(SWAPS)]
        others = [open_checkpoint(path) for path in paths]
        _, first, again = swapped(open_checkpoint(smollm2()), others, BFLOAT16)
    said = f"median of {SWAPS} checkpoints of 135 million parameters in bfloat16, proof included"
    return [
        Row("real_swap_new_s", first, "s", f"{said}; not met before"),
        Row("real_swap_s", again, "s", f"{said}; the same ones once more"),
    ]
