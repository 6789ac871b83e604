"""Changing the checkpoint: a proved swap in the warm engine, against a fresh engine for it."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from ray import serve as ray_serve
from safetensors.torch import load_file, save_file

from forkdiv import serve
from forkdiv.checkpoint import Checkpoint, open_checkpoint
from forkdiv.config import DecoderConfig, PlaceConfig, StudyConfig
from forkdiv.sample import Request
from forkdiv.tasks import build
from tests.bench.row import Row
from tests.stack import BASE
from tuning.session import engine_spec, running

SWAPS = 10


def measure() -> list[Row]:
    study = StudyConfig(base=BASE)
    base = open_checkpoint(BASE)
    problems = build(study.task).heldout("test", 2)
    with tempfile.TemporaryDirectory() as folder, running(PlaceConfig(dashboard=False)):
        other = disturbed(Path(folder) / "other", 0.01)
        spec = engine_spec(study, base)
        started = time.perf_counter()
        app = serve.deploy(spec)
        client = serve.ServeSampler(app, spec.config)
        requests = [Request(problem, 0, 64, 4096 * i) for i, problem in enumerate(problems)]
        list(client.sample(base, DecoderConfig(), requests[:1]))
        cold = time.perf_counter() - started
        for i in range(SWAPS):
            list(client.sample(other if i % 2 == 0 else base, DecoderConfig(), requests[:1]))
        swaps = serve.wait(app, 10).swaps.remote().result()
        swap = statistics.median(one["seconds"] for one in swaps[1:])
        ray_serve.delete(app)
    against = f"engine start to first sample, {cold:.1f} s"
    return [
        Row("swap_vs_cold_engine", cold / swap, "times faster", against),
        Row("swap_s", swap, "s", f"median of {len(swaps) - 1} swaps, proof included"),
    ]


def disturbed(folder: Path, scale: float) -> Checkpoint:
    """The base with noise on every weight."""
    shutil.copytree(BASE, folder)
    state = load_file(BASE / "model.safetensors")
    noisy = {name: value + scale * torch.randn_like(value) for name, value in state.items()}
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return open_checkpoint(folder)
