"""Changing the checkpoint: a proved swap in the warm engine, against a fresh engine for it."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ray import serve as ray_serve
from safetensors.torch import load_file, save_file

from forkdiv.core.config.study import DecoderConfig, PlaceConfig, StudyConfig
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_tokenizer
from forkdiv.sample import deployment
from forkdiv.sample.sample_sets import Request
from forkdiv.tasks.registry import build
from tests import small_llama
from tests.bench.row import Row
from tests.stack import BASE
from tuning.session import engine_spec, running

SWAPS = 8
LARGER = ((512, 8), (1024, 12))  # hidden size, layers


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name, running(PlaceConfig(dashboard=False)):
        folder = Path(name)
        others = [disturbed(folder / str(i), 0.01 * (i + 1)) for i in range(SWAPS)]
        cold, first, again = swapped(open_checkpoint(BASE), others)
        rows = [
            Row(
                "swap_vs_cold_engine",
                cold / first,
                "times faster",
                f"engine start to first sample, {cold:.1f} s",
            ),
            Row("swap_s", first, "s", f"median of {SWAPS} checkpoints, new ones, proof included"),
            Row("swap_again_s", again, "s", "the same ones once more: what they say is known"),
        ]
        for hidden, layers in LARGER:
            models = [_random(folder / f"{hidden}-{i}", hidden, layers, i) for i in range(3)]
            _, first, again = swapped(models[0], models[1:])
            size = sum(f.stat().st_size for f in models[0].path.glob("*.safetensors")) / 4e6
            said = f"{size:.0f} million parameters in float32; once more: {again:.2f} s"
            rows.append(Row(f"swap_{size:.0f}M_s", first, "s", said))
    return rows


def swapped(
    base: Checkpoint, others: Sequence[Checkpoint], decoder: DecoderConfig | None = None
) -> tuple[float, float, float]:
    """Seconds from an engine's start to its first sample, of a swap to a checkpoint that it has
    not met, and of one that it has; medians."""
    decoder = decoder or DecoderConfig()
    study = StudyConfig(base=base.path, decoder=decoder)
    (problem,) = build(study.task).heldout("test", 2)[:1]
    requests = [Request(problem, 0, 64, 0)]
    spec = engine_spec(study, base)
    started = time.perf_counter()
    app = deployment.deploy(spec)
    client = deployment.ServeSampler(app, spec.config)
    list(client.sample(base, decoder, requests))
    cold = time.perf_counter() - started
    for one in [*others, *others]:
        list(client.sample(one, decoder, requests))
    swaps = [one["seconds"] for one in deployment.wait_until_ready(app, 10).swaps.remote().result()]
    ray_serve.delete(app)
    first, again = (statistics.median(part) for part in np.split(np.array(swaps[1:]), 2))
    return cold, float(first), float(again)


def _random(folder: Path, hidden: int, layers: int, seed: int) -> Checkpoint:
    heads = {"num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 64}
    shape = {"hidden_size": hidden, "intermediate_size": int(2.5 * hidden)}
    small_llama.write(
        folder, load_tokenizer(BASE), seed, **shape, **heads, num_hidden_layers=layers
    )
    return open_checkpoint(folder)


def disturbed(folder: Path, scale: float) -> Checkpoint:
    """The base with noise on every weight."""
    shutil.copytree(BASE, folder)
    state = load_file(BASE / "model.safetensors")
    noisy = {name: value + scale * torch.randn_like(value) for name, value in state.items()}
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return open_checkpoint(folder)
