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
from forkdiv.sample import Request, Response
from forkdiv.tasks import build
from tests.bench.row import Row
from tests.stack import BASE
from tuning.session import engine_spec, running

SWAPS = 10


def measure() -> list[Row]:
    study = StudyConfig(base=BASE)
    base = open_checkpoint(BASE)
    problems = build(study.task).heldout("test", 200)
    with tempfile.TemporaryDirectory() as folder, running(PlaceConfig(dashboard=False)):
        other = _other(Path(folder) / "other")
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
        started = time.perf_counter()
        answers = list(client.sample(base, DecoderConfig(), requests))
        tokens = 0
        for one in answers:
            assert isinstance(one, Response), one
            tokens += sum(len(ids) + 1 for ids, _, _ in one.samples)
        rate = tokens / (time.perf_counter() - started)
        ray_serve.delete(app)
    against = f"engine start to first sample, {cold:.1f} s"
    return [
        Row("swap_vs_cold_engine", cold / swap, "times faster", against),
        Row("swap_s", swap, "s", f"median of {len(swaps) - 1} swaps, proof included"),
        Row("sampler_tokens_per_s", rate, "tokens/s", "200 prompts, n=64, through Serve"),
    ]


def _other(folder: Path) -> Checkpoint:
    shutil.copytree(BASE, folder)
    state = load_file(BASE / "model.safetensors")
    noisy = {name: value + 0.01 * torch.randn_like(value) for name, value in state.items()}
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return open_checkpoint(folder)
