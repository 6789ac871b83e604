"""A fine-tuning run through Ray Train with the real model, as `forkdiv train` starts it."""

from __future__ import annotations

import inspect
import json
import tempfile
import time
from pathlib import Path

import torch
from torch.nn.attention import varlen

from forkdiv.core.config.study import PlaceConfig, PromptConfig, SftConfig
from forkdiv.core.progress import Progress
from forkdiv.data import tokenized
from forkdiv.models.loading import load_model, load_tokenizer
from forkdiv.models.prompting import encode
from forkdiv.train.job import ROWS, TrainingJob
from forkdiv.train.log import LOG
from tests.gpu.accuracy import TEXTS
from tests.gpu.rows import GPU, KIND, arguments


def main() -> None:
    model, add = arguments()
    import ray

    from forkdiv.train.trainer import fit

    tokenizer = load_tokenizer(model)
    rows = [encode(tokenizer, a, b, PromptConfig()) for a, b in TEXTS * 4]
    sft = SftConfig(epochs=3, batch_size=8, dtype="bfloat16", learning_rate=1e-4, save_epochs=(1,))
    # with an older torch, the worker would need `accept_older_torch`
    packs = "enable_gqa" in inspect.signature(varlen.varlen_attn).parameters
    place = PlaceConfig(
        device=KIND, workers=1, cpus_per_worker=1.0, pack_tokens=256 if packs else None
    )
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        tokenized.write(workspace / ROWS, rows)
        started = time.perf_counter()
        ray.init(address="local", include_dashboard=False, num_cpus=4, num_gpus=int(GPU))
        add("Ray's start", time.perf_counter() - started, "s")
        progress = Progress(workspace / "progress.jsonl", "gpu-check")
        job = TrainingJob(
            workspace=workspace,
            resume_from=None,
            start=model,
            sft=sft,
            place=place,
            progress=progress.path,
            who="gpu-check",
        )
        started = time.perf_counter()
        fit(job)
        add("Ray Train, 3 epochs of 32 examples", time.perf_counter() - started, "s")
        log = [json.loads(line) for line in (workspace / LOG).read_text().splitlines()]
        steps = [row for row in log if row["event"] == "step"]
        ready = next(row["time"] for row in log if row["event"] == "ready")
        worker = next(row["time"] for row in log if row["event"] == "worker")
        add("worker's model and engine", ready - worker, "s")
        if not packs:
            add("torch without grouped heads", 0, "", "examples were not packed")
        add("first loss", steps[0]["loss"], "nats")
        add("last loss", steps[-1]["loss"], "nats", f"peak {steps[-1]['memory_gib']:.2f} GiB")
        tuned = load_model(workspace / "checkpoints" / "epoch-0003", torch.bfloat16)
        before = load_model(model, torch.bfloat16).state_dict()
        moved = [float((w - before[n]).abs().max()) for n, w in tuned.state_dict().items()]
        add("largest change of a weight", max(moved), "", f"dtype {tuned.dtype}")
        ray.shutdown()


if __name__ == "__main__":
    main()
